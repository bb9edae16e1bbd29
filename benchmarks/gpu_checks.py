"""Parts of benchmarks/gpu.sh that compute in one process: is what a GPU computes right?"""

import copy
import itertools
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional as F
from torch.optim import AdamW
from torch.utils.data import default_collate

from benchmarks.gpu_rows import DESK, ROOT, STUDENT, Bench, Row, judged, measured, skipped
from benchmarks.random_scenes import random_batch
from config import load_config
from constants import IGNORE_INDEX
from datasets.files import read_depth_image, read_rgb
from datasets.frames.cameras import PRESET_DEPTH_UNITS, preset_intrinsics
from datasets.frames.depth import to_metres
from datasets.nyu import build_dataset
from models import build_model, prepare_for_inference
from models.inference import cast_weights
from models.losses import Targets
from models.network import CleanerS
from models.projection import Surface
from utils.checkpoint import read_network
from utils.completion import SceneCompleter
from utils.distributed import choose_kernels, half_type, to_device
from utils.evaluation import evaluate
from utils.step import Objective, build_optimizer, train_step

PAPER = "configs/nyu_segformer_b2.yaml"
TEACHER = ROOT / "teacher/nyu_small_teacher.pth"
# The least share of equal classes and cosine of gradients. bf16 has 8 bits: 99.05 % and 0.979 there
# on a CPU.
LIMITS = {"tf32": (0.99, 0.99), "bf16": (0.98, 0.97), "fp16": (0.99, 0.99)}
MOST_WAITS = 8


def settings(preset: str, *words: str) -> EasyDict:
    return load_config(ROOT / preset, ["model.pretrained=none", *words])


def full_size(bench: Bench, *words: str) -> EasyDict:
    """The paper's preset; in the short form the debug one."""
    return settings("configs/debug.yaml" if bench.short else PAPER, *words)


def build(cfg: EasyDict, seed: int = 0) -> CleanerS:
    torch.manual_seed(seed)
    return build_model(cfg.model)


def without_randomness(model: nn.Module) -> nn.Module:
    """Dropout and stochastic depth off: they differ from CPU to GPU, and from the original."""
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout3d):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return model


def in_double(batch: dict) -> dict:
    return {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}


def step_values(
    cfg: EasyDict, student: CleanerS, teacher: CleanerS | None, batch: dict, device: torch.device
) -> dict[str, dict[str, Tensor]]:
    """What a student's step computes on a device: outputs, losses, gradients, statistics.

    By name, in double precision on the CPU. The networks are not changed.
    """
    student, teacher = (
        copy.deepcopy(network).to(device) if network else None for network in (student, teacher)
    )
    objective = Objective(cfg.loss, "tsdf", teacher, cfg.train.precision)
    batch = to_device(batch, device)
    batch |= {"mapping2d": Surface.of(batch["mapping2d"])}
    outputs = {}
    without_randomness(student.train()).register_forward_hook(
        lambda *call: outputs.update(call[2]._asdict())
    )
    torch.manual_seed(0)  # of the flips
    losses = objective.losses(student, batch, Targets.of(batch))
    scale = 2**12 if cfg.train.precision == "fp16" else 1  # small gradients are 0 there
    (objective.total(losses) * scale).backward()
    values = {
        "outputs": outputs,
        "losses": losses,
        "gradients": {
            n: p.grad / scale for n, p in student.named_parameters() if p.grad is not None
        },
        "running statistics": dict(student.named_buffers()),
    }
    return {
        group: {name: value.detach().cpu().double() for name, value in named.items()}
        for group, named in values.items()
    }


def difference(values: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest of any tensor, relative to its largest value, or to 1e-6 of the largest of all.

    (Some gradients are 0 but for rounding: of a bias before a batch norm.)
    """
    assert values.keys() == expected.keys()
    floor = 1e-6 * max(value.abs().max().item() for value in expected.values())
    return max(
        (value - expected[name]).abs().max().item() / max(expected[name].abs().max().item(), floor)
        for name, value in values.items()
    )


def compare(
    check: str, values: dict[str, Tensor], expected: dict[str, Tensor], limit: float
) -> Row:
    found = difference(values, expected)
    return judged(check, found <= limit, f"{found:.1e}, at most {limit:.0e}")


def versions(bench: Bench) -> Iterator[Row]:
    """Of what computes, and which kernels PyTorch takes for the convolutions of the networks."""
    yield measured("Python, PyTorch", f"{platform.python_version()}, {torch.__version__}")
    if bench.device.type == "cuda":
        card = torch.cuda.get_device_properties(0)
        nccl = ".".join(map(str, torch.cuda.nccl.version()))
        found = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, NCCL {nccl}"
        yield measured("libraries", found)
        yield measured("GPU", f"{card.name}, {card.total_memory / 1e9:.0f} GB")
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        yield judged("computes in bf16", has_bf16, str(has_bf16))
    network = build(full_size(bench)).to(bench.device)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        found = sorted(convolution_backends(network, dtype, bench.device))
        good = bench.device.type != "cuda" or all("Cudnn" in name for name in found)
        yield judged(f"convolution of {str(dtype)[6:]} volumes by", good, ", ".join(found))


def convolution_backends(network: CleanerS, dtype: torch.dtype, device: torch.device) -> set[str]:
    """PyTorch's names of the kernels for every 3D convolution of a network, at its own channels."""
    found = set()
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            volume = torch.zeros(2, module.in_channels, 12, 12, 12, dtype=dtype, device=device)
            volume = volume.to(memory_format=torch.channels_last_3d)
            backend = torch._C._select_conv_backend(
                volume, module.weight.to(dtype), None, module.stride, module.padding,
                module.dilation, module.transposed, module.output_padding, module.groups, None,
            )  # fmt: skip
            found.add(str(backend).rpartition(".")[2])  # ???: one that PyTorch has no name for
    return found


def golden(bench: Bench) -> Iterator[Row]:
    """The original's numbers: the tests that compare with them, on this device, without TF32."""
    if bench.short:
        yield skipped("the original's numbers", "in the test suite, without this")
        return
    files = ["tests/test_network.py", "tests/test_training.py", "tests/test_tsdf.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    summary = [line for line in done.stdout.splitlines() if line][-1:] or done.stderr.splitlines()
    good = done.returncode == 0 and "passed" in summary[-1] and "skipped" not in summary[-1]
    yield judged("the original's numbers", good, summary[-1])


def double(bench: Bench) -> Iterator[Row]:
    """A tiny network in double precision, on the CPU and on the device."""
    words = ["model.width=4"] if bench.short else ["model.encoder=mit_b0", "model.width=32"]
    cfg = settings("configs/debug.yaml", *words)
    student, teacher = build(cfg).double(), build(cfg, 1).double()
    batch = in_double(random_batch(1 if bench.short else 2))
    expected = step_values(cfg, student, teacher, batch, torch.device("cpu"))
    values = step_values(cfg, student, teacher, batch, bench.device)
    for group in expected:
        yield compare(group, values[group], expected[group], 1e-9)


def single(bench: Bench) -> Iterator[Row]:
    """The paper's network in single precision, without TF32, on the CPU and on the device."""
    cfg = full_size(bench, "train.precision=fp32")
    student, teacher = build(cfg), build(cfg, 1)
    batch = random_batch(1)
    expected = step_values(cfg, student, teacher, batch, torch.device("cpu"))
    values = step_values(cfg, student, teacher, batch, bench.device)
    yield compare("outputs in training", values["outputs"], expected["outputs"], 1e-4)
    yield compare("losses", values["losses"], expected["losses"], 1e-5)
    inputs = [batch[name] for name in ("image", "mapping2d", "tsdf")]
    network = prepare_for_inference(copy.deepcopy(student))
    with torch.no_grad():
        expected = network(*inputs)._asdict()
        values = network.to(bench.device)(*(x.to(bench.device) for x in inputs))._asdict()
    values = {name: value.cpu() for name, value in values.items()}
    yield compare("outputs, prepared for inference", values, expected, 1e-4)


def precision(bench: Bench) -> Iterator[Row]:
    """Coarser arithmetic against fp32 on the device: classes and gradient of a trained network.

    Classes of the desk's voxels that the depth says something about, and the gradient of two rooms.
    With a network of random weights, rounding would decide both.
    """
    student, cfg, _ = read_network(STUDENT, [f"data.root={bench.rooms}"])
    teacher, _, _ = read_network(TEACHER)
    rooms = build_dataset(cfg.data, "test", with_cad=True, augment=False)
    batch = default_collate([rooms[0], rooms[1]])
    del batch["name"]
    rgb, raw = read_rgb(DESK / "desk_rgb.jpg"), read_depth_image(DESK / "desk_depth.png")
    depth, _ = to_metres(raw, PRESET_DEPTH_UNITS["tum"])
    K = preset_intrinsics("tum", depth.shape)

    def results(precision: str) -> tuple[Tensor, Tensor]:
        """Classes of the known voxels, and the gradient in one piece."""
        how = EasyDict(loss=cfg.loss, train={"precision": precision})
        gradients = step_values(how, student, teacher, batch, bench.device)["gradients"]
        completer = SceneCompleter(copy.deepcopy(student), bench.device, precision)
        scene = completer(rgb, depth, K)
        classes = torch.from_numpy(scene.prediction[scene.labels != IGNORE_INDEX])
        return classes, torch.cat([gradient.flatten() for gradient in gradients.values()])

    expected, gradient = results("fp32")
    for name, (same_at_least, cosine_at_least) in LIMITS.items():
        if name != "bf16" and bench.short:  # the CPU's fp16 is slow, and TF32 it has not
            yield skipped(f"{name}: classes and gradient", "not in the short form")
            continue
        classes, found = results(name)
        same = (classes == expected).double().mean().item()
        figure = f"{same:.2%} of {len(classes)}, at least {same_at_least:.0%}"
        yield judged(f"{name}: the same class at", same >= same_at_least, figure)
        cosine = F.cosine_similarity(found, gradient, dim=0).item()
        figure = f"{cosine:.4f}, at least {cosine_at_least}"
        yield judged(f"{name}: gradient's cosine", cosine >= cosine_at_least, figure)


def trainer(
    cfg: EasyDict, device: torch.device, distil: bool = True
) -> tuple[CleanerS, AdamW, Callable[[dict], Tensor]]:
    """A student, its optimiser, and a call: a step on a batch, which returns train_step's flags."""
    student, teacher = (build(cfg, seed).to(device) for seed in range(2))
    precision = cfg.train.precision
    cast_weights(prepare_for_inference(teacher), half_type(device, precision))
    objective = Objective(cfg.loss, "tsdf", teacher if distil else None, precision)
    optimizer = build_optimizer(student.train(), cfg.train)
    scaler = GradScaler(device.type, enabled=precision == "fp16", init_scale=2**12)
    given = student, optimizer, scaler, objective
    return student, optimizer, lambda batch: train_step(*given, [batch], cfg.train, device)[1]


def not_finite(bench: Bench) -> Iterator[Row]:
    """A step whose input holds a NaN changes nothing, a step behind it does."""
    good = to_device(random_batch(1), bench.device)
    bad = good | {"tsdf": torch.full_like(good["tsdf"], float("nan"))}
    for name in ("fp32", "bf16", "fp16"):
        if name != "fp32" and bench.short:
            yield skipped(f"{name}: a NaN is told, and nothing else", "not in the short form")
            continue
        cfg = full_size(bench, f"train.precision={name}", "train.max_skipped=1")
        student, optimizer, step = trainer(cfg, bench.device)
        flags, states = [], []
        for batch in (good, bad, good):
            flags.append(step(batch).any().item())
            moments = [value for state in optimizer.state.values() for value in state.values()]
            states.append([x.clone() for x in (*student.state_dict().values(), *moments)])
        first_to_second, second_to_third = (
            all(map(torch.equal, *pair)) for pair in itertools.pairwise(states)
        )
        told = flags == [False, True, False]
        yield judged(f"{name}: a NaN is told, and nothing else", told, str(flags))
        yield judged(f"{name}: it leaves all bit-equal", first_to_second, str(first_to_second))
        yield judged(f"{name}: the next step does not", not second_to_third, str(second_to_third))


def deterministic(bench: Bench) -> Iterator[Row]:
    """Three steps, twice, with the settings of train.deterministic: the same weights."""
    choose_kernels(deterministic=True)
    batch = to_device(random_batch(1 if bench.short else 2), bench.device)
    for name in ("fp32",) if bench.short else ("fp32", "bf16"):
        weights = []
        for _ in range(2):
            student, _, step = trainer(full_size(bench, f"train.precision={name}"), bench.device)
            for seed in range(3):
                torch.manual_seed(seed)
                step(batch)
            weights.append(list(student.state_dict().values()))
        same = all(map(torch.equal, *weights))
        yield judged(f"{name}: twice the same weights", same, str(same))


def waits(bench: Bench) -> Iterator[Row]:
    """How often a student's step and an evaluated scene make the host wait, by PyTorch's count."""
    checks = "of a student's step", "of an evaluated scene"
    if bench.device.type != "cuda":
        yield from (skipped(check) for check in checks)
        return
    cfg = settings("configs/debug.yaml", "train.precision=bf16")
    student, _, step = trainer(cfg, bench.device)
    batch = to_device(random_batch(2), bench.device)
    step(batch)  # makes constants and moments
    count, places = counted_waits(lambda: step(batch))
    yield judged(checks[0], count <= MOST_WAITS, f"{count}, at most {MOST_WAITS}: {places}")
    cfg.data.root = str(bench.rooms)
    scenes = build_dataset(cfg.data, "test", with_cad=False, augment=False)
    two, counts = scenes.scenes[:2], []
    for repeated in (1, 2):
        scenes.scenes = two * repeated
        given = student, scenes, "tsdf", bench.device, "bf16"
        count, places = counted_waits(lambda given=given: evaluate(*given))
        counts.append(count)
    each = (counts[1] - counts[0]) / 2
    yield judged(checks[1], each <= MOST_WAITS, f"{each:.1f}, at most {MOST_WAITS}: {places}")


def counted_waits(run: Callable) -> tuple[int, str]:
    """How many, and at which lines."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        run()
        torch.cuda.set_sync_debug_mode("default")
    found = [w for w in caught if "synchroniz" in str(w.message)]
    places = sorted({f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in found})
    return len(found), " ".join(places)


PARTS = {
    "versions": versions,
    "golden": golden,
    "double": double,
    "single": single,
    "precision": precision,
    "not finite": not_finite,
    "deterministic": deterministic,
    "waits": waits,
}
