"""What the benchmarks share: functions that take turns, and rows of a Markdown table."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def take_turns(functions: Sequence[Callable], rounds: int) -> list[float]:
    """Call all functions in each round. Returns their median seconds."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_header(columns: Sequence[str]) -> None:
    print_row(*columns)
    print("|---" * len(columns) + "|")
