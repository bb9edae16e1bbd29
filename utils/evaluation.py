"""Run a network over a data set and score it."""

import copy
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from models import prepare_for_inference
from utils import distributed
from utils.metrics import SSCMetrics
from utils.signals import wait_for_main

MAX_PENDING = 4  # scenes that wait in memory for `on_scene`


class SceneResult(NamedTuple):
    name: str
    metrics: SSCMetrics


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16, instead of imitating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.10 has it not yet
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision by setting train.precision: fp32, bf16, fp16 or auto."""
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def to_device(batch: dict, device: torch.device) -> dict:
    """Move the tensors of a batch; scene names stay."""
    return {
        key: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
        for key, value in batch.items()
    }


@torch.inference_mode()
def evaluate(
    model,
    dataset: Dataset,
    volume: str,
    device: torch.device,
    precision: str = "fp32",
    workers: int = 0,
    on_scene: Callable | None = None,
) -> tuple[SSCMetrics, list[SceneResult]]:
    """Score a network on every scene, shared among the processes.

    Neither scores nor `on_scene` make the network wait for the device or for a disk.

    Args:
        model: is not changed; a copy is prepared for inference.
        volume: what the network is given, "tsdf" or "tsdf_cad".
        on_scene: called with (name, labels (60, 36, 60) int64, batch of one) for each scene of
            this process, one after the other in a thread of its own.

    Returns:
        Pooled metrics and those of each scene, in the order of the data set, in every process.
    """
    shard = Subset(dataset, range(distributed.rank(), len(dataset), distributed.world_size()))
    loader = DataLoader(
        shard,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=wait_for_main,
    )
    network = prepare_for_inference(copy.deepcopy(model))
    scenes, pending = [], deque()
    with ThreadPoolExecutor(max_workers=1) as background:
        for batch in tqdm(loader, desc="evaluate", disable=not distributed.is_main(), leave=False):
            name = batch["name"][0]
            batch = to_device(batch, device)
            with autocast(device, precision):
                out = network(batch["image"], batch["mapping2d"], batch[volume])
            labels = out.logits.argmax(dim=1)
            metrics = SSCMetrics()
            metrics.update(labels, batch)
            scenes.append(SceneResult(name, metrics))
            if on_scene:
                pending.append(background.submit(on_scene, name, labels[0], batch))
                if len(pending) > MAX_PENDING:
                    pending.popleft().result()
        for task in pending:
            task.result()

    scenes = [SceneResult(scene.name, scene.metrics.to("cpu")) for scene in scenes]
    by_name = {scene.name: scene for scene in distributed.all_gather_lists(scenes)}
    scenes = [by_name[scene.name] for scene in dataset.scenes]
    total = SSCMetrics()
    for scene in scenes:
        total.merge(scene.metrics)
    return total, scenes
