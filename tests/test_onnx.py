"""The exported network: the same logits as PyTorch's."""

import sys

import pytest
import torch
from debug_checkpoint import DEBUG, write_debug_checkpoint

import export_onnx
from config import load_config
from constants import GRID, NO_PIXEL
from errors import InputError
from models import build_model
from models.checkpoints import load_weights
from utils import onnx_export


@pytest.mark.parametrize("encoder", ["segformer", "sketch"])
def test_sampling_by_voxel_gives_the_networks_logits(encoder, tiny_model):
    """With the golden weights, and for the head that aligns corners."""
    if encoder == "segformer":
        model = tiny_model()
    else:
        sketch = ["model.encoder=resnet50", "model.head=sketch", "model.width=8", "model.stem=4"]
        torch.manual_seed(0)
        model = build_model(load_config(overrides=[*sketch, "model.pretrained=none"]).model).eval()
    inputs = onnx_export.made_up_inputs(5)
    # Pixels at the image's borders, where sampling clamps.
    for voxel, pixel in enumerate((0, 639, 640, 307199, 306560, 1, 153600)):
        inputs["mapping2d"][inputs["mapping2d"] == voxel] = -1
        taken = inputs["mapping"] == pixel
        inputs["mapping"][taken] = NO_PIXEL
        inputs["mapping"].view(-1)[voxel] = pixel
        inputs["mapping2d"].view(-1)[pixel] = voxel
    with torch.inference_mode():
        expected = model(inputs["image"], inputs["mapping2d"], inputs["tsdf"]).logits
        found = onnx_export.VoxelwiseNetwork(model)(*(inputs[k] for k in onnx_export.INPUTS))
    assert found.shape == (1, 12, *GRID)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert (expected.max() - expected.min()) > 0.01


@pytest.mark.slow
def test_the_command_writes_what_onnxruntime_runs(monkeypatch, capsys, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    weights, path = write_debug_checkpoint(tmp_path / "debug.pth"), tmp_path / "debug.onnx"
    words = ["export_onnx.py", "--pretrained_path", str(weights), "--output", str(path)]
    monkeypatch.setattr(sys, "argv", words)
    export_onnx.main()
    assert "largest difference" in capsys.readouterr().out

    model = build_model(load_config(DEBUG).model).eval()
    load_weights(model, weights)
    inputs = onnx_export.made_up_inputs(11)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {i.name: tuple(i.shape) for i in session.get_inputs()} == {
        key: tuple(inputs[key].shape) for key in ("image", "mapping", "tsdf")
    }
    (logits,) = session.run(None, {k: inputs[k].numpy() for k in ("image", "mapping", "tsdf")})
    with torch.inference_mode():
        expected = model(inputs["image"], inputs["mapping2d"], inputs["tsdf"]).logits
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)


def test_a_network_that_comes_out_different_is_not_written(monkeypatch, capsys, tmp_path):
    weights, path = write_debug_checkpoint(tmp_path / "debug.pth"), tmp_path / "wrong.onnx"
    monkeypatch.setattr("utils.onnx_export.export", lambda model: b"")
    monkeypatch.setattr(
        "utils.onnx_export.largest_difference", lambda *args, **kwargs: float("nan")
    )
    words = ["export_onnx.py", "--pretrained_path", str(weights), "--output", str(path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        export_onnx.main()
    assert "not written" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(package, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == package else object())
    with pytest.raises(InputError, match=f"{package} .*: pip install .*{package}"):
        onnx_export.export(torch.nn.Identity())
