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

    def put(self, numbers: Tensor, note: object) -> None:
        """numbers: (n,) on the device. note: anything of the host to come back with them."""
        numbers = numbers.to("cpu", non_blocking=True)
        copied = torch.cuda.current_stream().record_event() if self.delay else None
        self.waiting.append((numbers, copied, note))

    def take(self, everything: bool) -> Iterator[tuple[list[float], object]]:
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
        """saved: what `state` gave, to go on there; InputError if its epoch is another."""
        self.steps, self.step, self.names, self.sums = steps, 0, (), 0
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
        self.step, self.names = saved["step"], saved["names"]
        self.sums = torch.tensor(saved["sums"][distributed.rank()], dtype=torch.float64).to(device)
        self.seconds, self.waited = saved["seconds"], saved["waited"]

    def add(
        self, losses: dict[str, Tensor], skipped: Tensor, seconds: float, waited: float
    ) -> None:
        """A step. skipped: () bool, on the device: its losses do not count."""
        values = torch.stack([*losses.values(), torch.ones_like(losses["total"])]).double()
        self.sums = self.sums + torch.where(skipped, 0, values)
        self.names = list(losses)
        self.step += 1
        self.seconds += seconds
        self.waited += waited

    def state(self) -> dict:
        """Plain values for a checkpoint; to be called by all processes."""
        return {
            "step": self.step,
            "steps": self.steps,
            "names": self.names,
            "sums": distributed.all_gather_lists([self.sums.tolist()]),
            "seconds": self.seconds,
            "waited": self.waited,
        }

    def row(self) -> dict[str, float]:
        """Mean losses of the epoch, and its times; to be called by all processes."""
        *sums, counted = distributed.all_sum(self.sums).tolist()
        # The parts of the processes average to the loss: train_step divides by its share of counts.
        means = [value / counted if counted else float("nan") for value in sums]
        return {
            **dict(zip(self.names, means, strict=True)),
            "skipped_steps": self.steps - round(counted / distributed.world_size()),
            "seconds": self.seconds,
            "seconds_per_step": self.seconds / self.steps,
            "waiting_for_data": self.waited / self.seconds,
        }
