"""Run a network over a data set and score it."""

import copy
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from datasets.nyu import NYUDataset
from models import prepare_for_inference
from models.inference import FlipMean, cast_weights
from models.network import CleanerS
from utils import distributed
from utils.distributed import autocast, half_type, to_device
from utils.metrics import SSCMetrics
from utils.signals import wait_for_main

MAX_PENDING = 4  # scenes that wait in memory for `on_scene`


@torch.inference_mode()
def evaluate(
    model: CleanerS,
    dataset: NYUDataset,
    volume: str,
    device: torch.device,
    precision: str = "fp32",
    workers: int = 0,
    on_scene: Callable | None = None,
    flips: bool = False,
) -> tuple[SSCMetrics, dict[str, SSCMetrics]]:
    """Score a network on every scene, shared among the processes.

    Neither scores nor `on_scene` make the network wait for the device or for a disk.

    model: is not changed; a copy is prepared for inference. volume: what the network is given,
    "tsdf" or "tsdf_cad". on_scene: called with (name, labels (60, 36, 60) int64, batch of one) for
    each scene of this process, one after the other in a thread of its own. flips: take 3D-SSCNet's
    mean logits over the flips of its input.
    Returns pooled metrics and those of each scene, in the order of the data set, in every process.
    """
    shard = Subset(dataset, range(distributed.rank(), len(dataset), distributed.world_size()))
    on_gpu = device.type == "cuda"
    loader = DataLoader(shard, num_workers=workers, pin_memory=on_gpu, worker_init_fn=wait_for_main)
    network = prepare_for_inference(copy.deepcopy(model))
    cast_weights(network, half_type(device, precision))
    if flips:
        network.ssc_net = FlipMean(network.ssc_net)
    scenes, pending = {}, deque()
    with ThreadPoolExecutor(max_workers=1) as background:
        for batch in tqdm(loader, desc="evaluate", disable=not distributed.is_main(), leave=False):
            name = batch["name"][0]
            batch = to_device(batch, device)
            with autocast(device, precision):
                out = network(batch["image"], batch["mapping2d"], batch[volume])
            labels = out.logits.argmax(dim=1)
            scenes[name] = SSCMetrics(device)
            scenes[name].update(labels, batch)
            if on_scene:
                pending.append(background.submit(on_scene, name, labels[0], batch))
                if len(pending) > MAX_PENDING:
                    pending.popleft().result()
        for task in pending:
            task.result()

    own = [(name, metrics.to("cpu")) for name, metrics in scenes.items()]
    found = dict(distributed.all_gather_lists(own))
    scenes = {scene.name: found[scene.name] for scene in dataset.scenes}
    total = SSCMetrics()
    for metrics in scenes.values():
        total.merge(metrics)
    return total, scenes
