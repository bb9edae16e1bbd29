"""Batches for training, in an order that depends on seed and epoch alone."""

import contextlib
import itertools
import os
from collections.abc import Iterator

import torch
from easydict import EasyDict
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from utils import distributed
from utils.signals import wait_for_main


class ResumableSampler(DistributedSampler):
    """The scenes of this process in an epoch's order, from the one numbered `start` on."""

    start = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(super().__iter__(), self.start, None)


def loader_processes(cfg: EasyDict) -> int:
    """data.workers, but not more than this process has CPU cores: they would only take turns."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cfg.data.workers, cores)


def training_loader(dataset: Dataset, cfg: EasyDict) -> DataLoader:
    """Batches of train.batch_size; an incomplete last one is left out.

    `len` counts the batches of a whole epoch, wherever the sampler starts.
    """
    sampler = ResumableSampler(
        dataset, distributed.world_size(), distributed.rank(), seed=cfg.seed, drop_last=True
    )
    processes = loader_processes(cfg)
    return DataLoader(
        dataset,
        cfg.train.batch_size,
        sampler=sampler,
        num_workers=processes,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        persistent_workers=processes > 0,
        worker_init_fn=wait_for_main,
    )


@contextlib.contextmanager
def workers_of(loader: DataLoader) -> Iterator[None]:
    """End the workers with this context, also when an exception ends it.

    Left to the garbage collector, which closes their queues first, that takes 10 s a worker.
    """
    try:
        yield
    finally:
        if loader._iterator is not None:  # None: no workers, or not started
            loader._iterator._shutdown_workers()
