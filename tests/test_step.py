"""What a training step does to the machine: the fused optimiser, determinism, no waiting."""

import copy

import pytest
import torch
from gpu_waits import Waits
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from config import load_config
from errors import InputError
from models import build_model
from models.blocks import AveragePool, UNet3D
from models.image_net import SegFormerHead
from models.losses import DISTILLATION, Targets
from models.recompute import recompute_activations
from utils.step import Objective, build_optimizer, learning_rate, train_step

CPU = torch.device("cpu")


def test_fused_optimiser_steps_equal_the_plain_formulation():
    """AdamW (arXiv 1711.05101, algorithm 2), a line an equation, in double precision."""
    cfg = load_config().train
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(5, 7).double()
    weights = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    moments = {name: (0.0, 0.0) for name in weights}
    optimizer = build_optimizer(layer, cfg)
    for step in range(1, 6):
        for group in optimizer.param_groups:
            group["lr"] = lr = learning_rate(step, cfg)
        for name, parameter in layer.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = gradient
            first, second = moments[name]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            moments[name] = first, second
            update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            decay = cfg.weight_decay * weights[name] if name == "weight" else 0
            weights[name] = weights[name] - lr * (update + decay)
        optimizer.step()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], atol=1e-13, rtol=1e-12)


class Operations(TorchDispatchMode):
    """Notes the operations that run inside."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


# Of the documentation of torch.use_deterministic_algorithms: what raises on a GPU. The backward
# pass of bilinear resizing is missing, because torch.nn.functional.interpolate replaces it there.
NOT_DETERMINISTIC = {
    "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "fractional_max_pool3d_backward", "max_unpool3d",
    "upsample_bicubic2d_backward", "upsample_linear1d_backward", "reflection_pad2d_backward",
    "reflection_pad3d_backward", "nll_loss2d_forward", "_ctc_loss_backward", "put_", "put",
    "grid_sampler_2d_backward", "grid_sampler_3d_backward", "histc", "bincount", "median",
}  # fmt: skip


@pytest.fixture(scope="module")
def step(golden_batch):
    """A step of the student: its operations, what it returned, and the student."""
    cfg = load_config("configs/debug.yaml", ["model.width=4"])
    student, teacher = build_model(cfg.model).train(), build_model(cfg.model)
    objective = Objective(cfg.loss, "tsdf", teacher)
    optimizer = build_optimizer(student, cfg.train)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    batch = golden_batch([0])
    with Operations() as operations:
        out = train_step(student, optimizer, scaler, objective, [batch], cfg.train, CPU)
    assert {"convolution_backward", "_fused_adamw_"} <= operations.names
    return operations.names, out, student


def test_a_step_has_a_deterministic_form_on_gpus(step):
    """Judged by the operations that it consists of; no GPU is needed for that."""
    assert not step[0] & NOT_DETERMINISTIC


def test_the_counter_of_waits_sees_each_kind():
    x = torch.arange(3.0)
    for wait in (
        lambda: x.nonzero(),
        lambda: x[x > 1],
        lambda: x.masked_select(x > 1),
        lambda: x.clone().index_put_((x > 1,), torch.zeros(())),
        lambda: x[0].item(),
        lambda: bool(x[0] > 1),
        lambda: x.tolist(),
        lambda: x.unique(),
        lambda: torch.tensor([1, 2]),
    ):
        with Waits() as waits:
            wait()
        assert sum(waits.counts.values()) >= 1
    with Waits() as waits:
        x[1:].add_(1).index_select(0, torch.arange(2)) + torch.full((), 2.0)
    assert not waits.counts


@pytest.mark.parametrize("losses", ["kd_t", "kd_sc kd_sa"])
def test_how_often_a_step_waits_for_a_gpu(losses, golden_batch, monkeypatch):
    cfg = load_config("configs/debug.yaml", ["model.width=4", "loss.class_balance=0.4"])
    cfg.loss |= {f"weight_{name}": float(name in losses) for name in DISTILLATION}
    student, teacher = build_model(cfg.model).train(), build_model(cfg.model)
    objective = Objective(cfg.loss, "tsdf", teacher)
    optimizer = build_optimizer(student, cfg.train)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    monkeypatch.setattr("models.ssc_net.draw_flips", lambda: (True, False))  # drawn by the host
    arguments = student, optimizer, scaler, objective, [golden_batch([0])], cfg.train, CPU
    train_step(*arguments)  # makes the constants
    with Waits() as waits:
        train_step(*arguments)
    assert sum(waits.counts.values()) <= 8


def test_a_step_keeps_no_graph_and_no_gradients(step):
    _, (losses, flags), student = step
    assert not any(loss.requires_grad for loss in losses.values()) and not flags.any()
    assert all(parameter.grad is None for parameter in student.parameters())


@pytest.mark.parametrize("part", ["blocks", "head"])
def test_recomputed_activations_change_nothing_but_what_is_kept(part):
    torch.manual_seed(0)
    if part == "blocks":
        plain = UNet3D(8).to(memory_format=torch.channels_last_3d)
        inputs = torch.randn(2, 8, 12, 8, 12)
    else:
        plain = SegFormerHead([4, 4, 8, 8], 8)
        sizes = zip((4, 4, 8, 8), (16, 8, 4, 2), strict=True)
        inputs = [torch.randn(2, channels, size, size) for channels, size in sizes]
    recomputed = copy.deepcopy(plain)
    recompute_activations(recomputed, True)
    results, kept = [], []
    for net in (plain, recomputed):
        storages = {}

        def note(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        for step in range(2):
            torch.manual_seed(step)  # of the head's dropout
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                out = net(inputs)
            out = out[0] if part == "head" else out
            out.square().sum().backward()
            drawn_next = torch.rand(1)
        results.append([out, drawn_next, *(p.grad for p in net.parameters()), *net.buffers()])
        kept.append(sum(tensor.untyped_storage().nbytes() for tensor in storages.values()))
    for value, other in zip(*results, strict=True):
        assert value is other is None or torch.equal(value, other)
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 1), (2, 1, 1)])
def test_average_pool_is_pytorchs_and_keeps_the_layout(stride):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6, 8).contiguous(memory_format=torch.channels_last_3d)
    results = []
    for pool in (AveragePool(stride), nn.AvgPool3d(stride, stride)):
        leaf = x.clone().requires_grad_()
        out = pool(leaf)
        (gradient,) = torch.autograd.grad(
            (out * torch.arange(out.numel()).view_as(out)).sum(), leaf
        )
        results.append((out, gradient))
    (out, gradient), (expected, expected_gradient) = results
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    assert torch.equal(gradient, expected_gradient)
    for tensor in (out, gradient):
        assert tensor.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_loss_of_weight_0_is_neither_computed_nor_reported(golden_batch):
    words = ["model.width=4", "loss.weight_2d=0", "loss.weight_kd_sc=0", "loss.weight_kd_sa=0"]
    cfg = load_config("configs/debug.yaml", words)
    student, teacher = build_model(cfg.model).train(), build_model(cfg.model)
    batch = golden_batch([0])

    def losses(objective):
        torch.manual_seed(0)
        return objective.losses(student, batch, Targets.of(batch))

    everything = load_config("configs/debug.yaml").loss
    expected = losses(Objective(everything, "tsdf", teacher))
    teacher.ssc_net = None  # KD-T does without
    objective = Objective(cfg.loss, "tsdf", teacher)
    found = losses(objective)
    assert list(expected) == ["loss_3d", "loss_2d", "kd_t", "kd_sc", "kd_sa"]
    assert found == {name: expected[name] for name in ("loss_3d", "kd_t")}
    assert objective.total(found) == found["loss_3d"] + 0.25 * found["kd_t"]
    with pytest.raises(InputError, match="weight 0"):
        Objective(dict.fromkeys(cfg.loss, 0), "tsdf", teacher)
