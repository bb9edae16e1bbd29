"""One function for many scenes, in parallel."""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import cv2
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from errors import InputError


def _use_one_thread() -> None:
    """Scenes are the unit of parallel work: more threads inside a worker get in the way."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    torch.set_num_threads(1)


def run_parallel(tasks: list[tuple], workers: int, results: dict | None = None) -> None:
    """function(*args) for every task (scene, function, *args); results[scene] = what it returns.

    A scene that fails gives one line; the others go on, and an InputError at the end says how many
    failed.
    """
    failed = kept = 0
    executor = ProcessPoolExecutor if workers > 1 else ThreadPoolExecutor
    with executor(workers, initializer=_use_one_thread) as pool:
        futures = {pool.submit(*task): scene for scene, *task in tasks}
        try:
            for future in tqdm(as_completed(futures), total=len(tasks)):
                try:
                    result = future.result()
                except (InputError, OSError) as error:
                    failed += 1
                    tqdm.write(f"error: scene {futures[future]}: {error}", file=sys.stderr)
                    continue
                kept += result is False
                if results is not None:
                    results[futures[future]] = result
        except BrokenProcessPool:
            raise InputError(
                "a worker process died, probably for lack of memory: run again with fewer "
                "--workers; what is done is kept"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if kept:
        print(f"{kept} of {len(tasks)} were there already")
    if failed:
        raise InputError(f"{failed} of {len(tasks)} failed (named above); the others are done")
