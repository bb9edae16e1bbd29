"""What the parts of benchmarks/gpu.sh share: where they run, and the rows that they give."""

from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
STUDENT = ROOT / "checkpoint/nyu_small_student.pth"  # a trained network: its classes are no ties
DESK = ROOT / "examples/tum"


class Bench(NamedTuple):
    """Where a part runs."""

    device: torch.device
    short: bool  # the form that the CPU finishes in a minute: tiny sizes, few rounds
    rooms: Path  # a prepared folder of rooms
    folder: Path  # for what is written; gone at the end
    ends: float  # of time.monotonic(): when the part has to be over


class Row(NamedTuple):
    """A line of the table."""

    check: str
    verdict: str  # PASS, FAIL, skipped, or measured: a figure that nothing is asked of
    figure: str
    detail: str = ""  # lines to stand under the table


def judged(check: str, good: bool, figure: str) -> Row:
    return Row(check, "PASS" if good else "FAIL", figure)


def measured(check: str, figure: str, detail: str = "") -> Row:
    return Row(check, "measured", figure, detail)


def skipped(check: str, reason: str = "needs CUDA") -> Row:
    return Row(check, "skipped", reason)
