"""What is known of an epoch under way, without making the host wait for the device."""

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from errors import InputError
from utils import distributed


class DelayedReadback:
    """Numbers of a step, read while a GPU works on the next one; on the CPU at once."""

    def __init__(self, device: torch.device) -> None:
        self.delay = 1 if device.type == "cuda" else 0
        self.waiting = deque()

    def put(self, numbers: Tensor, note: object = None) -> None:
        """numbers: (n,) on the device. note: anything of the host to come back with them."""
        copied = None
        numbers = numbers.to("cpu", non_blocking=True)
        if self.delay:
            copied = torch.cuda.Event()
            copied.record()
        self.waiting.append((numbers, copied, note))

    def take(self, everything: bool = False) -> Iterator[tuple[list[float], object]]:
        """(numbers, note) of the steps that are old enough, or of all."""
        while len(self.waiting) > (0 if everything else self.delay):
            numbers, copied, note = self.waiting.popleft()
            if copied is not None:
                copied.synchronize()
            yield numbers.tolist(), note


class Progress:
    """Steps of an epoch, the sums of their losses, and where the time went.

    step: optimiser steps done, skipped ones among them; sums: (number of losses + 1,) float64 on
    the device: this process's part of each loss (`names`) over the steps that were not skipped, and
    the number of those; seconds: spent in training, `waited` of them for data.
    """

    def __init__(self, steps: int, device: torch.device, saved: dict | None = None) -> None:
        """saved: what `state` gave, to go on there. Raises InputError if it is of an epoch with
        other steps, or of another number of processes.
        """
        self.steps, self.device = steps, device
        self.step, self.names, self.sums = 0, None, None
        self.seconds = self.waited = 0.0
        if saved is None:
            return
        now, then = (steps, distributed.world_size()), (saved["steps"], len(saved["sums"]))
        if now != then:
            raise InputError(
                f"the run stopped within an epoch of {then[0]} steps on {then[1]} processes, now "
                f"an epoch has {now[0]} steps on {now[1]}: resume with the same scenes and "
                "processes"
            )
        self.step, self.names = saved["step"], tuple(saved["names"])
        self.sums = torch.tensor(
            saved["sums"][distributed.rank()], dtype=torch.float64, device=device
        )
        self.seconds, self.waited = saved["seconds"], saved["waited"]

    def add(
        self, losses: dict[str, Tensor], skipped: Tensor, seconds: float, waited: float
    ) -> None:
        """A step. skipped: () bool, on the device: its losses do not count."""
        values = torch.stack([*losses.values(), torch.ones_like(losses["total"])]).double()
        values = torch.where(skipped, 0, values)
        self.names = tuple(losses)
        self.sums = values if self.sums is None else self.sums + values
        self.step += 1
        self.seconds += seconds
        self.waited += waited

    def state(self) -> dict:
        """Plain values for a checkpoint; to be called by all processes."""
        return {
            "step": self.step,
            "steps": self.steps,
            "names": list(self.names),
            "sums": distributed.all_gather_lists([self.sums.tolist()]),
            "seconds": self.seconds,
            "waited": self.waited,
        }

    def row(self) -> dict[str, float]:
        """Mean losses of the epoch, and its times; to be called by all processes."""
        *sums, counted = distributed.all_sum(self.sums).tolist()
        # The parts of the processes average to the loss: train_step divides by its share of counts.
        means = [value / counted if counted else float("nan") for value in sums]
        counted /= distributed.world_size()
        return {
            **dict(zip(self.names, means, strict=True)),
            "skipped_steps": self.steps - round(counted),
            "seconds": self.seconds,
            "seconds_per_step": self.seconds / self.steps,
            "waiting_for_data": self.waited / self.seconds,
        }
