"""Time and memory of the method against its plain formulation (benchmarks/reference.py).

    python benchmarks/run.py [key.sub=value ...] [--config configs/nyu_small.yaml] [--rounds 3]
        [--cases inference "student step" ...] [--profile "student step"]

Prints a Markdown table. Fast and plain take turns in this process on the same weights and inputs
(of the size of NYUv2, random); a time is the median of the rounds. Beside it stand the difference
of the results and the peak memory, measured in a process of its own. Exits with 1 if results differ
by more than the limits below. With --profile, prints instead where the fast path's time goes.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reference, reference_data
from benchmarks.random_scenes import random_batch
from benchmarks.timing import print_header, print_row, take_turns
from config import load_config, parse_settings
from datasets import transforms
from datasets.geometry import Frame
from datasets.tsdf import frame_tsdf
from errors import exit_on_input_error
from models import build_model, prepare_for_inference
from models.inference import cast_weights
from models.recompute import recompute_activations, should_recompute
from utils.distributed import autocast, half_type
from utils.evaluation import evaluate
from utils.metrics import SSCMetrics
from utils.pictures.picture import write_ply
from utils.step import Objective, build_optimizer, train_step

CPU = torch.device("cpu")
Case = Callable[[], tuple[Tensor, ...]]  # runs once and returns what is compared


class RandomScenes(list):
    """Like NYUDataset, for the evaluation loop."""

    def __init__(self, count: int) -> None:
        batch = {"name": [f"scene{i}" for i in range(count)], **random_batch(count)}
        super().__init__({key: values[i] for key, values in batch.items()} for i in range(count))
        self.scenes = [SimpleNamespace(name=name) for name in batch["name"]]


def build(cfg: EasyDict, plain: bool) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(cfg.model)
    model.tsdf_net.unet.dropout.p = 0.0  # its draws depend on the layout in memory
    return reference.PlainCleanerS(model) if plain else model


def inference(cfg: EasyDict, plain: bool) -> Case:
    model = build(cfg, plain).eval()
    if not plain:
        cast_weights(prepare_for_inference(model), half_type(CPU, cfg.train.precision))
    batch = random_batch(1)

    def run() -> tuple[Tensor]:
        with torch.no_grad(), autocast(CPU, "fp32" if plain else cfg.train.precision):
            return (model(batch["image"], batch["mapping2d"], batch["tsdf"]).logits.float(),)

    return run


def training_step(cfg: EasyDict, plain: bool, volume: str) -> Case:
    """Of a student, which is given the noisy TSDF, or of a teacher."""
    model = build(cfg, plain).train()
    teacher = build(cfg, plain).eval() if volume == "tsdf" else None
    if not plain:
        how = cfg.train.recompute, CPU, cfg.train.batch_size, cfg.model.width
        recompute_activations(model, should_recompute(*how))
        if teacher:
            cast_weights(prepare_for_inference(teacher), half_type(CPU, cfg.train.precision))
    objective = Objective(cfg.loss, volume, teacher, cfg.train.precision)
    if plain and teacher:
        teacher.requires_grad_()  # the original keeps its graph
    optimizer = build_optimizer(model, cfg.train)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    batch = random_batch(cfg.train.batch_size)

    def plain_step() -> tuple[Tensor]:
        torch.manual_seed(0)
        inputs = batch["image"], batch["mapping2d"]
        target = teacher(*inputs, batch["tsdf_cad"]) if teacher else None
        total = objective.total(reference.losses(model(*inputs, batch[volume]), target, batch))
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return (total.detach(),)

    def fast_step() -> tuple[Tensor]:
        torch.manual_seed(0)
        losses, _ = train_step(model, optimizer, scaler, objective, [batch], cfg.train, CPU)
        return (losses["total"],)

    return plain_step if plain else fast_step


def evaluation(cfg: EasyDict, plain: bool) -> Case:
    model = build(cfg, plain).eval()
    scenes, folder = RandomScenes(3), Path(tempfile.mkdtemp())

    def dump(name: str, labels: Tensor, batch: dict) -> None:
        write_ply(folder / f"{name}.ply", torch.where(batch["label_weight"][0], labels, 0).numpy())

    @torch.no_grad()
    def plain_run() -> tuple[Tensor]:
        metrics = SSCMetrics()
        for batch in DataLoader(scenes):
            labels = model(batch["image"], batch["mapping2d"], batch["tsdf"]).logits.argmax(1)
            metrics.update(labels, batch)
            dump(batch["name"][0], labels[0], batch)
        return (metrics.ssc.double(),)

    def fast_run() -> tuple[Tensor]:
        metrics, _ = evaluate(model, scenes, "tsdf", CPU, cfg.train.precision, on_scene=dump)
        return (metrics.ssc.double(),)

    return plain_run if plain else fast_run


def augmentation(cfg: EasyDict, plain: bool) -> Case:
    image, mapping2d = reference_data.generated_image()
    mapping2d = mapping2d.astype(np.int64) if plain else mapping2d
    apply = reference_data.plain_augmentation if plain else transforms.apply
    draws = [transforms.draw(np.random.default_rng(index)) for index in range(24)]

    def run() -> tuple[Tensor, ...]:
        results = [apply(image, mapping2d, drawn, cfg.data.photometric) for drawn in draws]
        return tuple(torch.from_numpy(array) for result in results for array in result)

    return run


def tsdf(_cfg: EasyDict, plain: bool) -> Case:
    frame = reference_data.generated_frame()
    compute = reference_data.plain_tsdf if plain else frame_tsdf

    def run() -> tuple[Tensor]:
        anew = Frame(frame.depth, frame.K, frame.pose, frame.origin)  # keeps its pixels' voxels
        return (torch.as_tensor(compute(anew)),)

    return run


# By name: how it is prepared, and the largest relative difference of its results in fp32.
CASES = {
    "inference": (inference, 1e-4),
    "teacher step": (partial(training_step, volume="tsdf_cad"), 1e-5),
    "student step": (partial(training_step, volume="tsdf"), 1e-5),
    "evaluation": (evaluation, 1e-4),
    "augmentation": (augmentation, 0),
    "TSDF": (tsdf, 1e-5),
}


def relative(values: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Largest difference of two results, relative to the largest value of its tensor."""
    pairs = zip(values, expected, strict=True)
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs)


def peak_memory(case: str, cfg: EasyDict, plain: bool) -> float:
    """GB held at most, on Linux, after a run. (getrusage would count what a parent held, too.)"""
    CASES[case][0](cfg, plain)()
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9


def print_profile(run: Case) -> None:
    """The operations that take most of a second run's time."""
    run()
    with torch.profiler.profile() as profiler:
        run()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=16))


def compare(case: str, cfg: EasyDict, rounds: int) -> bool:
    """Print the row of a case; True if the results are as near as they must be."""
    prepare, limit = CASES[case]
    plain, fast = prepare(cfg, True), prepare(cfg, False)
    difference = relative(fast(), plain())
    plain_s, fast_s = take_turns((plain, fast), rounds)
    del plain, fast
    memory, threads = [], (torch.get_num_threads(),)
    for which in (True, False):  # each in a process that does nothing else
        with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, threads) as pool:
            memory.append(pool.submit(peak_memory, case, cfg, which).result())
    print_row(
        case, f"{plain_s:.3f}", f"{fast_s:.3f}", f"**{plain_s / fast_s:.2f}**",
        f"{difference:.1e}", *(f"{gb:.2f}" for gb in memory), f"{memory[1] / memory[0]:.0%}",
    )  # fmt: skip
    return cfg.train.precision != "fp32" or difference <= limit


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory against the plain formulation.")
    parser.add_argument("--config", help="preset; default: the paper's size")
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs; default 3")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", choices=CASES, help="where the time of this case goes")
    args = parse_settings(parser)
    torch.set_num_threads(args.threads)
    defaults = ["model.pretrained=none", "train.batch_size=1"]
    # The plain losses are the paper's, which weigh all classes alike.
    defaults += ["loss.class_balance=0", "loss.weight_lovasz=0", "loss.weight_affinity=0"]
    cfg = load_config(args.config, [*defaults, *args.overrides])
    if args.profile:
        print_profile(CASES[args.profile][0](cfg, False))
        return

    size = f"width {cfg.model.width}, {cfg.model.encoder}, batch {cfg.train.batch_size}"
    print(f"{size}, {cfg.train.precision}, {args.threads} threads, PyTorch {torch.__version__}\n")
    print_header(
        ["", "plain s", "fast s", "ratio", "difference", "plain GB", "fast GB", "of plain"]
    )
    near = [compare(case, cfg, args.rounds) for case in args.cases]
    if not all(near):
        sys.exit("error: results differ by more than the limits")


if __name__ == "__main__":
    main()
