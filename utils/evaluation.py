"""Run a network over a data set and score it."""

import copy
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from constants import IMAGE_SIZE, NO_PIXEL, NYU_INTRINSICS
from datasets.geometry import voxels_in_view
from datasets.nyu import NYUDataset
from datasets.poses import recover_pose
from datasets.voxels import known_labels
from models import prepare_for_inference
from models.inference import FlipMean, cast_weights
from models.network import CleanerS
from utils import distributed
from utils.distributed import autocast, half_type, to_device
from utils.metrics import SSCMetrics
from utils.signals import wait_for_main

MAX_PENDING = 4  # scenes that wait in memory for `on_scene`


class WithView(Dataset):
    """Scenes with `in_view`, (60, 36, 60) bool: the voxels in their camera's view."""

    def __init__(self, scenes: Dataset) -> None:
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict:
        sample = self.scenes[index]
        camera = recover_pose(sample["mapping"].numpy())  # prepared folders hold no pose
        in_view = voxels_in_view(*camera, NYU_INTRINSICS, IMAGE_SIZE)
        return sample | {"in_view": torch.from_numpy(in_view)}


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
    everywhere: bool = False,
) -> tuple[SSCMetrics, dict[str, SSCMetrics]]:
    """Score a network on every scene, shared among the processes.

    Neither scores nor `on_scene` make the network wait for the device or for a disk.

    model: is not changed; a copy is prepared for inference. volume: what the network is given,
    "tsdf" or "tsdf_cad". on_scene: called with (name, labels (60, 36, 60) int64, batch of one) for
    each scene of this process, one after the other in a thread of its own; the batch has the
    `known` labels too. flips: take 3D-SSCNet's mean logits over the flips of its input. everywhere:
    the network was taught free space too (loss.free_space).
    Returns pooled metrics and those of each scene, in the order of the data set, in every process.
    """
    shard = Subset(dataset, range(distributed.rank(), len(dataset), distributed.world_size()))
    shard = WithView(shard) if everywhere else shard
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
            measured = batch["mapping"] != NO_PIXEL
            batch["known"] = known_labels(
                labels, batch[volume].squeeze(1), measured, batch.get("in_view")
            )
            scenes[name] = SSCMetrics(device)
            scenes[name].update(labels, batch, batch["known"])
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
