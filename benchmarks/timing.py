"""What the benchmarks share: functions that take turns, and rows of a Markdown table."""

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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


def frames_a_second(
    complete: Callable[[Path], object], pair: Sequence[Path], folder: Path, counts: tuple[int, int]
) -> tuple[float, float]:
    """What a command does with a folder of frames once it runs, and seconds until then.

    complete: runs it on a folder of copies of `pair`, colour and depth with names that end in
    _rgb and _depth; the time of the smaller of the two `counts` is left out.
    """
    seconds = []
    for count in counts:
        frames = folder / f"frames{count}"
        frames.mkdir()
        for path in pair:
            for i in range(count):
                shutil.copy(path, frames / f"{i:02d}_{path.name}")
        start = time.perf_counter()
        complete(frames)
        seconds.append(time.perf_counter() - start)
    return (counts[1] - counts[0]) / (seconds[1] - seconds[0]), seconds[0]


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_header(columns: Sequence[str]) -> None:
    print_row(*columns)
    print("|---" * len(columns) + "|")
