"""What a run sets on a GPU, and what it leaves as it is on the CPU."""

import copy
import os
from types import SimpleNamespace

import pytest
import torch
from test_fake_cuda import CUDA, fake_cuda
from test_inference import randomise_norms
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.flops import TRAINING_SCENES, step_operations
from config import load_config
from models import build_model, prepare_for_inference
from models.image_net import SegFormerHead
from models.inference import cast_weights
from models.recompute import KEPT_A_SCENE, should_recompute
from utils import distributed
from utils.distributed import autocast
from utils.evaluation import evaluate
from utils.metrics import SSCMetrics

CPU = torch.device("cpu")
TEST_SCENES = 654  # of NYUv2
PAPER = ("nyu_segformer_b2", "nyu_resnet50")


@pytest.fixture
def kernels(monkeypatch):
    """The switches of PyTorch that a run sets, put back behind the test."""
    backends, asked = torch.backends, []
    libraries = backends.cudnn, backends.cuda.matmul
    before = [library.allow_tf32 for library in libraries]
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(backends.cudnn, "benchmark", False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield asked
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    for library, allowed in zip(libraries, before, strict=True):
        library.allow_tf32 = allowed


def test_fastest_kernels_unless_deterministic(kernels):
    distributed.choose_kernels(deterministic=False)
    assert torch.backends.cudnn.benchmark and not kernels
    distributed.choose_kernels(deterministic=True)
    assert kernels == [True] and not torch.backends.cudnn.benchmark
    assert not torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_tf32_only_where_it_was_chosen(precision, kernels):
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    for switch in switches:
        switch.allow_tf32 = precision != "tf32"
    autocast(CPU, precision)
    assert all(switch.allow_tf32 == (precision != "tf32") for switch in switches)
    with fake_cuda():
        autocast(CUDA, precision)
    assert all(switch.allow_tf32 == (precision == "tf32") for switch in switches)
    with autocast(CPU, "tf32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("gpus", [0, 1])
def test_nccl_is_told_its_device(gpus, monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda name, **how: told.append((name, how))
    )
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    device = distributed.setup()
    ((name, how),) = told
    assert (name, how["device_id"]) == (("nccl", device) if gpus else ("gloo", None))


@pytest.mark.parametrize(
    "setting, gigabytes, batch_size, expected",
    [
        ("auto", None, 1, True),  # the CPU
        ("auto", 80, 4, False),
        ("auto", 80, 32, True),
        ("auto", 24, 4, False),
        ("auto", 8, 4, True),
        ("true", 80, 1, True),
        ("false", None, 4, False),
        ("false", 8, 4, False),
    ],
)
def test_recompute_where_memory_needs_it(setting, gigabytes, batch_size, expected, monkeypatch):
    card = SimpleNamespace(total_memory=(gigabytes or 0) * 1e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    device = CUDA if gigabytes else CPU
    assert should_recompute(setting, device, batch_size, width=256) == expected


@pytest.mark.parametrize("word", ["true", "false", "auto"])
def test_recompute_may_be_written_as_a_truth_value(word):
    assert load_config(overrides=[f"train.recompute={word}"]).train.recompute == word


def test_a_gpu_has_room_for_what_auto_keeps():
    """Memory for the backward pass at the paper's size, by the volumes that autograd saves."""
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # and is not freed
        return tensor

    cfg = load_config(overrides=["model.width=64", "model.encoder=mit_b0"])
    model = build_model(cfg.model).train()
    image, mapping2d = torch.zeros(1, 3, 480, 640), torch.full((1, 480, 640), -1)
    mapping2d[:, ::8, ::8] = torch.arange(60 * 80).view(60, 80)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(image, mapping2d, torch.zeros(1, 1, 60, 36, 60))
    total = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in weights)
    assert 0.8 < total / (KEPT_A_SCENE * 64 / 256) < 1


class Casts(TorchDispatchMode):
    """Counts the casts of a network's own weights."""

    def __init__(self, model):
        super().__init__()
        self.weights = {parameter.data_ptr() for parameter in model.parameters()}
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ == "_to_copy":
            self.count += args[0].data_ptr() in self.weights
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("encoder", ["mit_b0", "mobilenet_v2"])
def test_weights_are_cast_once_with_the_same_outputs(encoder, golden_batch):
    torch.manual_seed(0)
    settings = [f"model.encoder={encoder}", "model.width=8", "model.stem=4"]
    settings += ["model.image_scale=0.5"]
    model = randomise_norms(build_model(load_config(overrides=settings).model))
    model = prepare_for_inference(model)
    cast = copy.deepcopy(model)
    cast_weights(cast, None)
    assert {parameter.dtype for parameter in cast.parameters()} == {torch.float32}
    cast_weights(cast, torch.bfloat16)
    batch = golden_batch([0])
    found = []
    for network in (model, cast, prepare_for_inference(copy.deepcopy(cast))):
        with torch.no_grad(), autocast(CPU, "bf16"), Casts(network) as casts:
            found.append(network(batch["image"], batch["mapping2d"], batch["tsdf"]))
        found.append(casts.count)
    plain, plain_casts, once, casts, again, _ = found
    assert plain_casts > 50 and casts == 0
    for value, other, third in zip(plain, once, again, strict=True):
        assert torch.equal(value, other) and torch.equal(value, third)


def test_resized_levels_are_joined_in_half_precision(monkeypatch):
    """The same values: what is joined goes into a convolution in half precision anyway."""
    resize = F.interpolate
    monkeypatch.setattr(  # as autocast does on CUDA
        "models.image_net.F.interpolate", lambda x, *how, **more: resize(x.float(), *how, **more)
    )
    torch.manual_seed(0)
    head = SegFormerHead([4, 4, 8, 8], 8).eval()
    sizes = zip((4, 4, 8, 8), (16, 8, 4, 2), strict=True)
    levels = [torch.randn(2, channels, size, size) for channels, size in sizes]
    joined = []
    head.fuse.register_forward_pre_hook(lambda module, inputs: joined.extend(inputs))
    with torch.no_grad(), autocast(CPU, "bf16"):
        feature, logits = head(levels)
        maps = [
            F.conv2d(level, linear.weight[..., None, None], linear.bias)
            for level, linear in zip(levels, head.linear, strict=True)
        ]
        maps = [maps[0], *(F.interpolate(x, (16, 16), mode="bilinear") for x in maps[1:])]
        assert maps[1].dtype == torch.float32  # or there is nothing to cast back
        expected = head.fuse(torch.cat(maps[::-1], dim=1))
    assert joined[0].dtype == torch.bfloat16 and joined[1].dtype == torch.float32
    assert torch.equal(feature, expected)
    assert torch.equal(logits, head.classifier.to(torch.bfloat16)(expected.bfloat16()))


def test_counts_are_made_on_the_device():
    """No copy from the host, for which it would wait."""

    class NoCopies(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if function.overloadpacket.__name__ == "_to_copy":
                assert args[0].device == out.device
            return out

    shape = (1, 60, 36, 60)
    with fake_cuda(), NoCopies():
        metrics = SSCMetrics(CUDA)
        batch = {
            "label3d": torch.zeros(shape, dtype=torch.int64, device=CUDA),
            "label_weight": torch.ones(shape, dtype=torch.bool, device=CUDA),
            "mapping": torch.zeros(shape, dtype=torch.int64, device=CUDA),
        }
        metrics.update(torch.zeros(shape, dtype=torch.int64, device=CUDA), batch)
        assert metrics.sc.device == metrics.ssc.device == CUDA


def test_evaluation_makes_its_counts_on_the_device(monkeypatch):
    made = []
    monkeypatch.setattr(
        "utils.evaluation.SSCMetrics", lambda device="cpu": made.append(device) or SSCMetrics()
    )
    monkeypatch.setattr("utils.evaluation.prepare_for_inference", nn.Module.eval)
    shape = (60, 36, 60)
    sample = {
        "name": "a",
        "image": torch.zeros(3, 480, 640),
        "mapping2d": torch.full((480, 640), -1),
        "mapping": torch.zeros(shape, dtype=torch.int64),
        "tsdf": torch.zeros(1, *shape),
        "label3d": torch.zeros(shape, dtype=torch.int64),
        "label_weight": torch.ones(shape, dtype=torch.bool),
    }

    class Scenes(list):
        scenes = [SimpleNamespace(name="a")]

    class Constant(nn.Module):
        def forward(self, image, mapping2d, tsdf):
            return SimpleNamespace(logits=torch.zeros(1, 12, *shape))

    evaluate(Constant(), Scenes([sample]), "tsdf", CPU)
    assert made[0] == CPU


@pytest.mark.parametrize("preset", PAPER)
def test_the_papers_presets_on_a_gpu(preset):
    """bf16 where the device has it, and evaluations that take less than a tenth of the time.

    Judged by the operations, of which a scene evaluated alone is taken to need twice the time.
    """
    cfg = load_config(f"configs/{preset}.yaml")
    assert cfg.train.precision == "auto" and cfg.train.recompute == "auto"
    counts = step_operations(cfg.model).values()
    forward, both = (sum(count[i] for count in counts) for i in range(2))
    training = cfg.train.eval_every * TRAINING_SCENES * both  # of the teacher, the shorter one
    evaluation = 2 * TEST_SCENES * forward
    assert evaluation < 0.1 * (training + evaluation)
