"""What the benchmarks share: functions that take turns, and rows of a Markdown table."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import torch


def take_turns(functions: Sequence[Callable], rounds: int) -> tuple[list[float], list]:
    """Call all functions in each round. Returns their median seconds and their last results."""
    times, results = [[] for _ in functions], [None] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            results[i] = function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[i].append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times], results


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_header(columns: Iterable[str]) -> None:
    columns = list(columns)
    print_row(*columns)
    print("|---" * len(columns) + "|")
