"""Parts of benchmarks/gpu.sh that take times: network, steps, loader, and the profiler's view."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Subset

from benchmarks.gpu_checks import build, full_size, trainer
from benchmarks.gpu_rows import Bench, Row, measured, skipped
from benchmarks.random_scenes import random_batch
from datasets.nyu import build_dataset
from models import prepare_for_inference
from models.inference import cast_weights
from models.recompute import recompute_activations
from utils.distributed import autocast, choose_kernels, half_type, to_device
from utils.loading import training_loader, workers_of
from utils.run_folder import peak_memory_gb

SPARE = 25  # seconds that are left when no other figure is begun


class Case(NamedTuple):
    """A training step, or an inference."""

    precision: str
    batch_size: int
    distil: bool = False
    recompute: bool = False
    benchmark: bool = True  # cuDNN tries its kernels

    def __str__(self) -> str:
        kept = " with recompute" if self.recompute else ""
        tried = "" if self.benchmark else " without cudnn.benchmark"
        return f"{self.precision}, batch {self.batch_size}{kept}{tried}"


INFERENCE = [
    *itertools.starmap(Case, itertools.product(("bf16", "fp16", "fp32"), (1, 4, 8))),
    Case("tf32", 1),
    *(Case(precision, 1, benchmark=False) for precision in ("bf16", "fp32")),
]
STEPS = [
    *itertools.starmap(Case, itertools.product(("bf16", "fp32", "fp16"), (4, 1, 8), (True, False))),
    *(Case("tf32", 4, distil) for distil in (True, False)),
    *(Case(precision, 4, True, recompute=True) for precision in ("bf16", "fp32")),
    *(Case(precision, 4, True, benchmark=False) for precision in ("bf16", "fp32")),
    Case("bf16", 8, True, recompute=True),
]
SHORT = [Case("bf16", 1, True)]


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(name: str, case: Case, prepare: Callable[[], Callable], bench: Bench) -> Row:
    """The time of a call of what `prepare` returns, the mean of several in a row, and its memory.

    One that finds no memory, and one for which no time is left, is a row that says so.
    """
    if time.monotonic() > bench.ends - SPARE:
        return skipped(f"{name}: {case}", "no time was left")
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.backends.cudnn.benchmark = case.benchmark
    warm_up, rounds = (1, 1) if bench.short else (3, 10)
    try:
        run = prepare()
        for _ in range(warm_up):
            run()
        wait_for(bench.device)
        start = time.perf_counter()
        for _ in range(rounds):
            run()
        wait_for(bench.device)
    except torch.OutOfMemoryError:
        return measured(f"{name}: {case}", "out of memory")
    each = (time.perf_counter() - start) / rounds
    rate, memory = case.batch_size / each, peak_memory_gb(bench.device)
    figure = f"{1000 * each:.1f} ms, {rate:.1f} scenes/s, {memory:.1f} GB at most"
    return measured(f"{name}: {case}", figure)


def inference(bench: Bench) -> Iterator[Row]:
    """The paper's network prepared for inference, the batch already on the device."""
    for case in SHORT if bench.short else INFERENCE:

        def prepare(case: Case = case) -> Callable:
            network = prepare_for_inference(build(full_size(bench))).to(bench.device)
            cast_weights(network, half_type(bench.device, case.precision))
            batch = to_device(random_batch(case.batch_size), bench.device)
            inputs = [batch[name] for name in ("image", "mapping2d", "tsdf")]

            @torch.inference_mode()
            def run() -> None:
                with autocast(bench.device, case.precision):
                    network(*inputs)

            return run

        yield timed("inference", case, prepare, bench)


def steps(bench: Bench) -> Iterator[Row]:
    """Whole steps of student and teacher at the paper's size, the batch already on the device."""
    for case in SHORT if bench.short else STEPS:

        def prepare(case: Case = case) -> Callable:
            cfg = full_size(bench, f"train.precision={case.precision}")
            student, _, step = trainer(cfg, bench.device, case.distil)
            recompute_activations(student, case.recompute)
            batch = to_device(random_batch(case.batch_size), bench.device)
            return lambda: step(batch)

        yield timed("student" if case.distil else "teacher", case, prepare, bench)


def loader(bench: Bench) -> Iterator[Row]:
    """How long training waits for scenes, by the number of processes that read them."""
    words = [f"data.root={bench.rooms}", "train.precision=auto"]
    words += [f"train.batch_size={1 if bench.short else 4}"]
    cfg = full_size(bench, *words)
    choose_kernels(deterministic=False)
    scenes = build_dataset(cfg.data, "train", with_cad=True, augment=True)
    scenes = Subset(scenes, list(range(len(scenes))) * (2 if bench.short else 40))
    _, _, step = trainer(cfg, bench.device)
    for workers in (1,) if bench.short else (6, 14):
        cfg.data.workers = workers
        batches = training_loader(scenes, cfg)
        with workers_of(batches):
            for name, use in (("reading alone", len), ("a student's steps", step)):
                seconds, waited = consume(batches, use, bench.device)
                rate = (len(batches) - 1) * cfg.train.batch_size / seconds
                figure = f"{rate:.1f} scenes/s, waiting_for_data {waited / seconds:.1%}"
                yield measured(f"{workers} workers: {name}", figure)


def consume(batches: torch.utils.data.DataLoader, use: Callable, device: torch.device) -> tuple:
    """Seconds of an epoch behind its first batch, and how many of them were waited for data."""
    waited, iterator = 0.0, iter(batches)
    use(next(iterator))  # the start of the processes; a GPU's first step
    wait_for(device)
    start = time.perf_counter()
    for _ in range(len(batches) - 1):
        before = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - before
        use(batch)
    wait_for(device)
    return time.perf_counter() - start, waited


def profile(bench: Bench) -> Iterator[Row]:
    """What a student's step at the paper's size consists of: the twenty longest operations."""
    cfg = full_size(bench, "train.precision=bf16")
    choose_kernels(deterministic=False)
    _, _, step = trainer(cfg, bench.device)
    batch = to_device(random_batch(1 if bench.short else 4), bench.device)
    for _ in range(1 if bench.short else 3):
        step(batch)
    wait_for(bench.device)
    with torch.profiler.profile() as profiler:
        step(batch)
        wait_for(bench.device)
    where = "cpu" if bench.device.type == "cpu" else "device"
    table = profiler.key_averages().table(
        sort_by=f"self_{where}_time_total", row_limit=20, max_name_column_width=60
    )
    yield measured("a student's step in bf16", "below", table)


# Last what takes as many figures as there is time for.
PARTS = {"inference speed": inference, "loader": loader, "profile": profile, "step speed": steps}
