"""The golden numbers of the original implementation, and networks filled as they were."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import predict
from config import load_config
from models import build_model
from models.checkpoints import load_weights

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

from inputs_rule import make_batch  # noqa: E402
from weights_rule import fill_array  # noqa: E402

TINY = ["model.encoder=mit_b0", "model.width=32", "model.pretrained=none"]


def pytest_configure(config):
    """Tests of several processes compute on the CPU: they would all want the one GPU."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def gpu_where_it_is_needed(request):
    """A GPU for tests that ask for one, which compares with a CPU: without TF32."""
    if request.node.get_closest_marker("gpu"):
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Of a test that gives the same numbers on CPU and GPU."""
    return torch.device(request.param)


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def golden():
    """`golden("golden_tiny.json")`: a file of tests/golden, read."""

    def read(name):
        path = GOLDEN / name
        return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)

    return read


@pytest.fixture(scope="session")
def original_file(golden, tmp_path_factory):
    """`original_file(salt, variant)`: a checkpoint in the original's layout, with known weights."""

    def write(salt="", variant="tiny"):
        path = tmp_path_factory.getbasetemp() / f"original_{variant}_{salt}.pth"
        if not path.exists():
            state = {
                name: torch.as_tensor(fill_array(name, shape, salt))
                for name, shape, _, _ in golden("state_dict_keys.json")[variant]
            }
            torch.save({"model": state, "epoch": 7, "best_val": np.float32(1.5)}, path)
        return path

    return write


@pytest.fixture
def tiny_model(original_file):
    """`tiny_model(salt)`: the tiny variant with the golden weights, in evaluation mode."""

    def build(salt=""):
        model = build_model(load_config(overrides=TINY).model)
        load_weights(model, original_file(salt))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def golden_batch():
    """`golden_batch([0, 1])`: generated scenes under our names, as tensors."""

    def make(seeds):
        raw = make_batch(seeds)
        grid = (len(seeds), 60, 36, 60)
        return {
            "image": torch.from_numpy(raw["img"]),
            "mapping2d": torch.from_numpy(raw["mapping2d"]),
            "mapping": torch.from_numpy(raw["mapping"]).view(grid),
            "tsdf": torch.from_numpy(raw["tsdf"]),
            "tsdf_cad": torch.from_numpy(raw["tsdf_CAD"]),
            "label3d": torch.from_numpy(raw["label3d"]).view(grid),
            "label_weight": torch.from_numpy(raw["label_weight"]).view(grid),
        }

    return make


@pytest.fixture
def run_predict(monkeypatch, capsys):
    """`run_predict(*words)`: predict.py's main in this process; (exit status, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, words)])
        status = 0
        try:
            predict.main()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run
