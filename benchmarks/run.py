"""Time and memory of the method against its plain formulation (benchmarks/reference.py).

    python benchmarks/run.py [key.sub=value ...] [--config configs/nyu_small.yaml] [--rounds 3]
        [--cases inference "student step" ...] [--profile "student step"]

Prints Markdown tables. Fast and plain take turns in this process on the same weights and inputs
(of the size of NYUv2, random); a time is the median of the rounds. Beside it stand the difference
of the results, the rate over that of a large matrix product (for KD-T: of a copy) between the
rounds, and the peak memory, measured in a process of its own. Exits with 1 if results differ by
more than the limits below. With --profile, prints instead where the fast path's time goes.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import loading, reference
from config import load_config, parse_settings
from constants import GRID, IGNORE_INDEX, NO_PIXEL, NO_VOXEL, NUM_CLASSES, NUM_PIXELS, NUM_VOXELS
from errors import exit_on_input_error
from models import build_model, prepare_for_inference
from models.losses import Targets, distillation_losses
from models.network import SSCOutput
from models.recompute import recompute_activations
from utils.distributed import autocast
from utils.evaluation import evaluate
from utils.metrics import SSCMetrics
from utils.pictures.picture import write_ply
from utils.step import Objective, build_optimizer, train_step

CPU = torch.device("cpu")
LIMIT_OUTPUT, LIMIT_LOSS = 1e-4, 1e-5  # largest relative differences, in fp32
CASES = (
    "inference", "teacher step", "student step", "KD-SC + KD-SA", "KD-T", "evaluation",
    "augmentation",
)  # fmt: skip


def random_batch(size: int) -> dict:
    """Scenes as dense as NYUv2's: 12,000 mapped pixels, 15,000 evaluated voxels."""
    rng = np.random.default_rng(0)
    batch = {
        "image": torch.from_numpy(rng.standard_normal((size, 3, 480, 640), dtype=np.float32)),
        "tsdf": torch.from_numpy(rng.uniform(-1, 1, (size, 1, *GRID)).astype(np.float32)),
        "label_weight": torch.from_numpy(rng.random((size, *GRID)) < 0.12),
        "label3d": torch.from_numpy(rng.integers(0, NUM_CLASSES, (size, *GRID))),
    }
    batch["tsdf_cad"] = batch["tsdf"].sign() * batch["tsdf"].abs().sqrt()
    batch["label3d"][torch.from_numpy(rng.random((size, *GRID)) < 0.4)] = IGNORE_INDEX
    mapping2d = np.full((size, NUM_PIXELS), NO_VOXEL)
    mapping = np.full((size, NUM_VOXELS), NO_PIXEL)
    for pixel_row, voxel_row in zip(mapping2d, mapping, strict=True):
        voxels = surface_voxels(rng)
        pixels = rng.choice(NUM_PIXELS, len(voxels), replace=False)
        pixel_row[pixels], voxel_row[voxels] = voxels, pixels
    batch["mapping2d"] = torch.from_numpy(mapping2d).view(size, 480, 640)
    batch["mapping"] = torch.from_numpy(mapping).view(size, *GRID)
    return batch


def surface_voxels(rng) -> np.ndarray:
    """Flat indices of a floor, a back wall and steps before it: connected, as surfaces are."""
    volume = np.zeros(GRID, dtype=bool)
    volume[:, 1, :] = volume[:, :, 50] = True
    for _ in range(12):
        x, y, z = rng.integers(0, (50, 20, 45))
        volume[x : x + 10, y : y + 12, z] = volume[x : x + 10, y, z : z + 10] = True
    return np.flatnonzero(volume)


class RandomScenes(torch.utils.data.Dataset):
    """Like NYUDataset, for the evaluation loop."""

    def __init__(self, count):
        self.batch = random_batch(count)
        self.scenes = [argparse.Namespace(name=f"scene{i}") for i in range(count)]

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        sample = {key: value[index] for key, value in self.batch.items()}
        return sample | {"name": self.scenes[index].name}


def build(cfg, plain: bool):
    torch.manual_seed(0)
    model = build_model(cfg.model)
    model.tsdf_net.unet.dropout.p = 0.0  # its draws depend on the layout in memory
    return reference.PlainCleanerS(model) if plain else model


def relative(values, expected) -> float:
    """Largest difference of two results, relative to the largest value of its tensor."""
    pairs = zip(values, expected, strict=True)
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs)


def inference(cfg, plain):
    model = build(cfg, plain).eval()
    model = model if plain else prepare_for_inference(model)
    batch = random_batch(1)

    def run():
        with torch.no_grad(), autocast(CPU, "fp32" if plain else cfg.train.precision):
            return (model(batch["image"], batch["mapping2d"], batch["tsdf"]).logits.float(),)

    return run


def training_step(cfg, plain, with_teacher):
    model = build(cfg, plain).train()
    recompute_activations(model, cfg.train.recompute and not plain)
    optimizer = build_optimizer(model, cfg.train)
    teacher = build(cfg, plain).eval() if with_teacher else None
    if with_teacher and not plain:
        teacher = prepare_for_inference(teacher)
    volume = "tsdf" if with_teacher else "tsdf_cad"
    objective = Objective(cfg.loss, volume, teacher, cfg.train.precision)
    if with_teacher and plain:
        teacher.requires_grad_()  # the original keeps its graph
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    batch = random_batch(cfg.train.batch_size)

    def plain_step():
        if with_teacher:
            losses = reference.student_losses(model, teacher, batch)
        else:
            out = model(batch["image"], batch["mapping2d"], batch[volume])
            losses = reference.losses(out, None, batch)
        total = objective.total(losses)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return (total.detach(),)

    def fast_step():
        losses, _ = train_step(model, optimizer, scaler, objective, [batch], cfg.train, CPU)
        return (losses["total"],)

    def run():
        torch.manual_seed(0)
        return plain_step() if plain else fast_step()

    return run


def semantic_distillation(cfg, plain):
    batch = random_batch(1)
    layout = torch.contiguous_format if plain else torch.channels_last_3d
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(1, NUM_CLASSES, *GRID).contiguous(memory_format=layout) for _ in range(2)
    )
    targets = Targets.of(batch)

    def run():
        student.requires_grad_().grad = None
        out, target = SSCOutput(student, None, None), SSCOutput(teacher, None, None)
        if plain:
            losses = reference.semantic_distillation(out, target, batch)
        else:
            losses = distillation_losses(out, target, targets, ("kd_sc", "kd_sa"))
        total = losses["kd_sc"] + losses["kd_sa"]
        total.backward()
        return total.detach(), student.grad

    return run


def feature_distillation(cfg, plain):
    layout = torch.contiguous_format if plain else torch.channels_last_3d
    torch.manual_seed(0)
    shape = (1, cfg.model.width, *GRID)
    student, teacher = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    batch = random_batch(1)
    targets = Targets.of(batch)

    def run():
        student.requires_grad_().grad = None
        out, target = SSCOutput(None, None, student), SSCOutput(None, None, teacher)
        if plain:
            loss = ((student - teacher) ** 2).mean()
        else:
            loss = distillation_losses(out, target, targets, ("kd_t",))["kd_t"]
        loss.backward()
        return loss.detach(), student.grad

    return run


def evaluation(cfg, plain):
    model = build(cfg, plain)
    scenes = RandomScenes(3)
    folder = Path(tempfile.mkdtemp())

    def dump(name, labels, batch):
        write_ply(folder / f"{name}.ply", torch.where(batch["label_weight"][0], labels, 0).numpy())

    def run():
        if not plain:
            precision = cfg.train.precision
            metrics, _ = evaluate(model, scenes, "tsdf", CPU, precision, on_scene=dump)
            return (metrics.ssc.double(),)
        model.eval()
        metrics = SSCMetrics()
        for batch in torch.utils.data.DataLoader(scenes):
            with torch.no_grad():
                labels = model(batch["image"], batch["mapping2d"], batch["tsdf"]).logits.argmax(1)
            metrics.update(labels, batch)
            dump(batch["name"][0], labels[0], batch)
        return (metrics.ssc.double(),)

    return run


def augmentation(cfg, plain):
    image, mapping2d = loading.generated_image()
    mapping2d = mapping2d.astype(np.int64) if plain else mapping2d
    apply = loading.plain_augmentation if plain else loading.fast_augmentation
    draws = [loading.drawn(index) for index in range(24)]

    def run():
        for drawn in draws:
            result = apply(image, mapping2d, drawn, cfg.data.photometric)
        return tuple(torch.from_numpy(array).double() for array in result)

    return run


def prepare(case: str, cfg, plain: bool):
    """A function that runs the case once and returns the tensors that are compared."""
    return {
        "inference": inference,
        "teacher step": lambda *args: training_step(*args, with_teacher=False),
        "student step": lambda *args: training_step(*args, with_teacher=True),
        "KD-SC + KD-SA": semantic_distillation,
        "KD-T": feature_distillation,
        "evaluation": evaluation,
        "augmentation": augmentation,
    }[case](cfg, plain)


def seconds(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_rate() -> float:
    """GFLOP/s of a large matrix product in fp32."""
    a, b = torch.randn(2, 2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(5)) / 1e9


def copy_rate() -> float:
    """GB/s that are read and written in copying a large tensor to memory that is already held."""
    a, b = torch.randn(2, 2**25)
    return 2 * a.nbytes / min(seconds(lambda: b.copy_(a)) for _ in range(10)) / 1e9


def held_at_most() -> float:
    """GB of this process, on Linux. (getrusage would count what its parent held, too.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9


def peak_memory(case: str, which: str, arguments: list[str]) -> float:
    """GB that a process holds at most which does nothing but this."""
    command = [sys.executable, __file__, *arguments, "--memory", case, which]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def achieved(case: str, fast, fast_s: float, cfg, peak: float) -> str:
    """The rate that bounds the case, beside what the machine reaches."""
    if case == "KD-T":  # reads two volumes and writes one forwards, reads and writes one backwards
        gb = 5 * 4 * cfg.model.width * NUM_VOXELS / 1e9
        return f"{gb / fast_s:.0f} of {peak:.0f} GB/s, {gb / fast_s / peak:.0%}"
    if case == "evaluation":  # makes a network ready by running it without data, which would count
        return ""
    with FlopCounterMode(display=False) as counter:
        fast()
    gflop = counter.get_total_flops() / 1e9
    if gflop < 1:
        return ""
    rate = gflop / fast_s
    return f"{gflop:.0f} GFLOP, {rate:.0f} of {peak:.0f} GFLOP/s, {rate / peak:.0%}"


def print_profile(run) -> None:
    """The operations that take most of a second run's time."""
    run()
    with torch.profiler.profile() as profiler:
        run()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=16))


def main_row(case: str, cfg, args) -> tuple[list[str], bool]:
    plain, fast = (prepare(case, cfg, which) for which in (True, False))
    difference = relative(fast(), plain())
    is_loss = case not in ("inference", "evaluation")
    exact = cfg.train.precision != "fp32" or difference <= (LIMIT_LOSS if is_loss else LIMIT_OUTPUT)
    best = copy_rate if case == "KD-T" else peak_rate
    rounds = [(seconds(plain), seconds(fast), best()) for _ in range(args.rounds)]
    plain_s, fast_s, peak = (statistics.median(column) for column in zip(*rounds, strict=True))
    rate = achieved(case, fast, fast_s, cfg, peak)
    del plain, fast
    memory = [peak_memory(case, which, args.passed_on) for which in ("plain", "fast")]
    row = [case, f"{plain_s:.3f}", f"{fast_s:.3f}", f"**{plain_s / fast_s:.2f}**"]
    row += [f"{difference:.1e}", rate, *(f"{gb:.2f}" for gb in memory)]
    row += [f"{memory[1] / memory[0]:.0%}"]
    return row, exact


@exit_on_input_error
def main():
    parser = argparse.ArgumentParser(description="Time and memory against the plain formulation.")
    parser.add_argument("--config", help="preset; default: the paper's size")
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs; default 3")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", choices=CASES, help="where the time of this case goes")
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "WHICH"), help=argparse.SUPPRESS)
    args = parse_settings(parser)
    torch.set_num_threads(args.threads)
    defaults = ["model.pretrained=none", "train.batch_size=1"]
    cfg = load_config(args.config, [*defaults, *args.overrides])
    if args.memory:
        case, which = args.memory
        prepare(case, cfg, plain=which == "plain")()
        print(held_at_most())
        return
    if args.profile:
        print_profile(prepare(args.profile, cfg, plain=False))
        return

    args.passed_on = [*(["--config", args.config] if args.config else []), *args.overrides]
    size = f"width {cfg.model.width}, {cfg.model.encoder}, batch {cfg.train.batch_size}"
    print(f"{size}, {cfg.train.precision}, {args.threads} threads, PyTorch {torch.__version__}\n")
    columns = ["", "plain s", "fast s", "ratio", "difference", "rate of peak"]
    columns += ["plain GB", "fast GB", "of plain"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    exact = True
    for case in args.cases:
        row, row_exact = main_row(case, cfg, args)
        exact &= row_exact
        print(f"| {' | '.join(row)} |", flush=True)
    if not exact:
        sys.exit("error: results differ by more than the limits")


if __name__ == "__main__":
    main()
