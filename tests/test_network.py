"""The network and its losses against the numbers of the original implementation."""

import pytest
import torch
from original_names import to_original_name
from torch.nn import functional as F

from benchmarks import reference
from config import load_config
from constants import NO_VOXEL
from models import build_model
from models.losses import distillation_losses, supervised_losses
from models.projection import (
    add_rows,
    fill_holes,
    mapped_pixels,
    reach_of,
    sample_bilinear,
    visible_voxels,
)
from utils.distributed import to_device


def sliced(array, slices):
    return array[tuple(slice(*s) for s in slices)]


def capture(module, store, name):
    return module.register_forward_hook(lambda _, __, output: store.__setitem__(name, output))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_outputs_equal_the_original(batch_size, device, golden, tiny_model, golden_batch):
    expected, arrays = golden("golden_tiny.json"), golden("golden_tiny.npz")
    slices = expected["slices"]
    batch = to_device(golden_batch(range(batch_size)), device)
    model = tiny_model().to(device)
    stages, maps = {}, {}
    capture(model.net_2d.encoder, stages, "levels")
    capture(model.net_2d, maps, "maps")
    with torch.inference_mode():
        out = model(batch["image"], batch["mapping2d"], batch["tsdf"])
    feature, logit_map = maps["maps"]
    pixels = mapped_pixels(batch["mapping2d"])
    winner, voxels = visible_voxels(pixels, batch_size)
    rows = sample_bilinear(feature, pixels, (480, 640), align_corners=False)[winner]
    empty = torch.zeros_like(out.tsdf_feature)
    projected = add_rows(empty, rows, voxels)
    reach = reach_of(voxels, batch_size)
    initialised = add_rows(empty, fill_holes(rows, reach), reach.near)

    def check(name, value, tolerance):
        key = f"B{batch_size}/student/{name}"
        if key in arrays:
            torch.testing.assert_close(
                sliced(value.cpu(), slices[name]), torch.from_numpy(arrays[key]),
                atol=tolerance, rtol=0,
            )  # fmt: skip
        for statistic in ("mean", "std", "absmax"):
            if key in expected:
                got = value.abs().max() if statistic == "absmax" else getattr(value, statistic)()
                assert got.item() == pytest.approx(expected[key][statistic], abs=tolerance)
        assert key in arrays or key in expected

    check("pred3d", out.logits, 1e-5)
    check("tsdf_feat", out.tsdf_feature, 1e-5)
    check("feature2d", feature, 5e-5)
    if batch_size == 1:
        check("proj3d", projected, 5e-5)
        for i, level in enumerate(stages["levels"][-4:], start=1):
            check(f"c{i}", level, 5e-5)
    check("init3d", initialised, 5e-5)
    count = expected[f"B{batch_size}/student/proj3d_nonzero_elements"]
    assert (projected != 0).sum().item() == pytest.approx(count, abs=2)
    dense = F.interpolate(logit_map, (480, 640), mode="bilinear", align_corners=True)
    check("semantic2d", dense, 5e-5)
    mapped = batch["mapping2d"] != NO_VOXEL
    torch.testing.assert_close(out.logits_2d, dense.permute(0, 2, 3, 1)[mapped], atol=5e-6, rtol=0)
    histogram = torch.bincount(out.logits.argmax(dim=1).flatten().cpu(), minlength=12)
    assert histogram.tolist() == pytest.approx(
        expected[f"B{batch_size}/student/argmax3d_hist"], abs=3
    )


def test_semantic2d_at_the_sampled_pixels(golden, tiny_model, golden_batch):
    """The 2D logits are right at any pixel, given a mapping of the sampled ones."""
    expected, arrays = golden("golden_tiny.json"), golden("golden_tiny.npz")
    batch = golden_batch([0])
    slices = expected["slices"]["semantic2d"]
    mapping2d = torch.full((1, 480, 640), NO_VOXEL)
    sampled = sliced(mapping2d, slices[:1] + slices[2:])
    sampled.copy_(torch.arange(sampled.numel()).view(sampled.shape))
    with torch.no_grad():
        out = tiny_model()(batch["image"], mapping2d, batch["tsdf"])
    got = out.logits_2d.T.reshape(1, 12, *sampled.shape[1:])
    torch.testing.assert_close(
        got, torch.from_numpy(arrays["B1/student/semantic2d"]), atol=5e-5, rtol=0
    )


@pytest.mark.parametrize("batch_size", [1, 2])
def test_losses_and_gradients_equal_the_original(
    batch_size, device, golden, tiny_model, golden_batch
):
    expected = golden("golden_tiny.json")
    batch = to_device(golden_batch(range(batch_size)), device)
    student, teacher = tiny_model().to(device), tiny_model("teacher").to(device)
    out = student(batch["image"], batch["mapping2d"], batch["tsdf"])
    with torch.no_grad():
        teacher_out = teacher(batch["image"], batch["mapping2d"], batch["tsdf_cad"])
    losses = supervised_losses(out, batch) | distillation_losses(out, teacher_out, batch)

    golden_losses = expected[f"B{batch_size}/losses"]
    for ours, name in {
        "loss_2d": "loss2d",
        "loss_3d": "loss3d",
        "kd_t": "KD_T",
        "kd_sc": "KD_SC_center_kl",
        "kd_sa": "KD_SA_similarity_mse",
    }.items():
        assert losses[ours].item() == pytest.approx(golden_losses[name], rel=1e-5), ours
    weights = load_config().loss
    total = sum(
        weights[f"weight_{name.removeprefix('loss_')}"] * value for name, value in losses.items()
    )
    assert total.item() == pytest.approx(golden_losses["total"], rel=1e-5)

    total.backward()
    squares = {"head": 0.0, "TSDFNet": 0.0, "complete": 0.0}
    norms = expected.get(f"B{batch_size}/grad_norm_by_param", {})
    for key, parameter in student.named_parameters():
        name = to_original_name(key)
        if name.startswith("encoder."):
            assert parameter.grad is None
            continue
        norm = parameter.grad.double().norm().item()
        squares[name.split(".")[0]] += norm**2
        if name in norms:
            assert norm == pytest.approx(norms[name], rel=1e-3, abs=2e-6), name
    for module, square in squares.items():
        norm = expected[f"B{batch_size}/grad_norm_by_module"][module]
        assert square**0.5 == pytest.approx(norm, rel=1e-3), module
    assert all(p.grad is None for p in teacher.parameters())


def test_a_training_step_equals_the_plain_formulation(golden_batch, monkeypatch):
    """In double precision, so that nothing but the formulation is compared."""
    flips = (True, False)
    torch.manual_seed(0)
    settings = ["model.encoder=resnet18", "model.width=4", "model.stem=2", "model.image_scale=0.25"]
    student, teacher = (build_model(load_config(overrides=settings).model) for _ in range(2))
    student, teacher = student.double().train(), teacher.double().eval()
    student.net_2d.head.dropout.p = student.tsdf_net.unet.dropout.p = 0.0
    batch = {
        key: value.double() if value.is_floating_point() else value
        for key, value in golden_batch([0, 1]).items()
    }
    monkeypatch.setattr(reference, "draw_flips", lambda: flips)
    plain, plain_teacher = reference.PlainCleanerS(student), reference.PlainCleanerS(teacher)

    torch.manual_seed(1)  # the channels that are dropped before the classifier
    inputs = batch["image"], batch["mapping2d"]
    with torch.no_grad():
        target = teacher(*inputs, batch["tsdf_cad"])
    out = student(*inputs, batch["tsdf"], flips)
    losses = supervised_losses(out, batch) | distillation_losses(out, target, batch)
    torch.manual_seed(1)
    target = plain_teacher(*inputs, batch["tsdf_cad"])
    expected = reference.losses(plain(*inputs, batch["tsdf"]), target, batch)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-6), name  # sampled in fp32

    sum(losses.values()).backward()
    sum(expected.values()).backward()
    ours, theirs = (dict(network.named_parameters()) for network in (student, plain))
    for key, parameter in theirs.items():
        if parameter.requires_grad:
            error = (ours[key].grad - parameter.grad).norm()
            assert error <= 1e-5 * parameter.grad.norm() + 1e-9, key
    buffers = dict(plain.named_buffers())
    for key, buffer in student.named_buffers():
        torch.testing.assert_close(buffer, buffers[key], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("variant", ["full", "tiny"])
def test_parameter_counts(variant, golden):
    """Every entry of the original exists, but for the 216 that it never uses."""
    overrides = ["model.encoder=mit_b0", "model.width=32"] if variant == "tiny" else []
    model = build_model(load_config(overrides=overrides).model)
    theirs = {name: tuple(shape) for name, shape, _, _ in golden("state_dict_keys.json")[variant]}
    ours = {to_original_name(key): tuple(value.shape) for key, value in model.state_dict().items()}
    unused = {
        name
        for name, _, _, kind in golden("state_dict_keys.json")[variant]
        if kind.startswith("unused")
    }
    assert len(unused) == 216
    assert ours == {name: shape for name, shape in theirs.items() if name not in unused}
    if variant == "full":
        counts = {
            name: sum(p.numel() for p in module.parameters())
            for name, module in {
                "encoder": model.net_2d.encoder,
                "head": model.net_2d.head,
                "tsdf": model.tsdf_net,
                "ssc": model.ssc_net,
            }.items()
        }
        assert counts == {
            "encoder": 24_196_288,
            "head": 528_908,
            "tsdf": 7_193_623,
            "ssc": 6_748_428,
        }
        sizes = {e[0]: torch.Size(e[1]).numel() for e in golden("state_dict_keys.json")["full"]}
        parameters = {e[0] for e in golden("state_dict_keys.json")["full"] if "buffer" not in e[3]}
        for module, count, with_unused in (
            ("TSDFNet", counts["tsdf"], 7_381_399),
            ("complete", counts["ssc"], 6_936_204),
        ):
            never_used = parameters & unused
            extra = sum(sizes[name] for name in never_used if name.startswith(f"{module}."))
            assert count + extra == with_unused
        frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        assert frozen == 24_196_288
