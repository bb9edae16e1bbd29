"""The trained networks that come with the repository."""

import csv
import json

import pytest
import torch
from segmentation_models_pytorch.encoders import get_encoder
from test_nyu import REAL, needs_real_data
from test_scripts import ROOT, run

from config import flatten, load_config
from models.checkpoints import read_checkpoint
from utils.checkpoint import PLACES, read_network
from utils.metrics import protocol_rows

SHIPPED = {
    "teacher": ROOT / "teacher/nyu_small_teacher.pth",
    "student": ROOT / "checkpoint/nyu_small_student.pth",
}
ENCODER = ROOT / "checkpoint/mobilenet_v2_nyu40.pth"
RESULTS = ROOT / "docs/results/nyu_small"
CAD = ROOT / "data/NYUCAD"
VOLUMES = {"teacher": "tsdf_cad", "student": "tsdf"}


@pytest.mark.parametrize("role", SHIPPED)
def test_a_clone_holds_a_trained_network(role, golden_batch):
    checkpoint = read_checkpoint(SHIPPED[role])
    assert checkpoint.meta["input"] == VOLUMES[role]
    assert checkpoint.meta["epoch"] == checkpoint.meta["config"]["train"]["epochs"]
    assert checkpoint.training is None
    assert not set(dict(flatten(checkpoint.meta["config"]))) & set(PLACES)
    model, _, volume = read_network(SHIPPED[role], [])
    batch = golden_batch([0])
    with torch.inference_mode():
        out = model.eval()(batch["image"], batch["mapping2d"], batch["tsdf"])
    assert volume == VOLUMES[role]
    assert out.logits.shape == (1, 12, 60, 36, 60) and out.logits.isfinite().all()


def test_a_clone_holds_a_trained_encoder():
    encoder = get_encoder("mobilenet_v2", weights=None)
    encoder.load_state_dict(torch.load(ENCODER, weights_only=True), strict=True)
    # Trained weights: the first filters respond to edges and colours, batch norms have moved on.
    assert encoder.features[0][0].weight.abs().max() > 0.5
    with torch.no_grad():
        features = encoder.eval()(torch.randn(1, 3, 480, 640))
    assert [f.shape[1] for f in features[1:]] == [16, 24, 32, 96, 1280]
    assert 0.1 < features[-1].mean() < 1


@pytest.mark.parametrize("preset", ["rooms", "nyu_small"])
def test_presets_start_from_it(preset):
    assert ROOT / load_config(ROOT / f"configs/{preset}.yaml").model.pretrained == ENCODER


def test_they_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.values()) < 12e6


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize("role", SHIPPED)
def test_it_reproduces_its_row(role, tmp_path):
    """docs/results/nyu_small, written when it was trained, against an evaluation now."""
    if role == "teacher" and not (CAD / "TSDF").is_dir():
        pytest.skip("no TSDF-CAD in data/NYUCAD: prepare_NYU.py cad makes it")
    words = ["--pretrained_path", SHIPPED[role], "--no-dump", "--pictures", 0]
    settings = f"data.root={REAL}", f"data.cad_root={CAD}", f"data.test_ids={RESULTS}/test_ids.txt"
    run("test_NYU.py", *words, *settings, f"output={tmp_path}", cwd=tmp_path)
    rows = protocol_rows(json.loads((tmp_path / "results.json").read_text()))
    with open(RESULTS / f"{role}_seed0.csv") as file:
        for expected in csv.DictReader(file):
            found = rows[expected.pop("protocol")]
            assert found == pytest.approx(list(map(float, expected.values())), abs=0.1)
