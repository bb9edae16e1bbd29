"""The trained networks that come with the repository."""

import csv
import json
import pickletools
import re
import zipfile

import pytest
import torch
from segmentation_models_pytorch.encoders import get_encoder
from test_nyu import REAL, needs_real_data
from test_scripts import ROOT, run

from config import load_config
from datasets.files import read_rgb
from datasets.transforms import normalize
from models import build_model
from models.checkpoints import read_checkpoint
from models.encoder_weights import load_pretrained_encoder
from utils.checkpoint import read_network
from utils.metrics import protocol_rows

SHIPPED = {
    "teacher": ROOT / "teacher/nyu_small_teacher.pth",
    "student": ROOT / "checkpoint/nyu_small_student.pth",
}
ENCODER = ROOT / "checkpoint/mobilenet_v2_nyu40.pth"
RESULTS = ROOT / "docs/results/nyu_small"
NYU40 = {"wall": 0, "floor": 1, "chair": 4, "table": 6}
CAD = ROOT / "data/NYUCAD"
VOLUMES = {"teacher": "tsdf_cad", "student": "tsdf"}


@pytest.mark.parametrize("role", SHIPPED)
def test_a_clone_holds_a_trained_network(role, golden_batch):
    checkpoint = read_checkpoint(SHIPPED[role])
    assert checkpoint.meta["input"] == VOLUMES[role]
    assert checkpoint.meta["epoch"] == checkpoint.meta["config"]["train"]["epochs"]
    assert checkpoint.training is None
    model, _, volume = read_network(SHIPPED[role], [])
    batch = golden_batch([0])
    with torch.inference_mode():
        out = model.eval()(batch["image"], batch["mapping2d"], batch["tsdf"])
    assert volume == VOLUMES[role]
    assert out.logits.shape == (1, 12, 60, 36, 60) and out.logits.isfinite().all()


@pytest.mark.parametrize("role", SHIPPED)
def test_they_do_not_say_where_their_maker_kept_things(role):
    content = torch.load(SHIPPED[role], weights_only=True)
    config = content["meta"]["config"]
    assert config["data"] == {"input": "", "photometric": "standard"}
    assert "output" not in config and "pretrained" not in config["model"]
    assert config["train"].keys().isdisjoint({"teacher_path", "student_path"})
    with zipfile.ZipFile(SHIPPED[role]) as archive:
        words = {word for _, word, _ in pickletools.genops(archive.read("archive/data.pkl"))}
    words = {word for word in words if isinstance(word, str)}
    assert "tu-tf_efficientnet_lite2" in words
    assert not [word for word in words if any(mark in word for mark in ("/", "\\", ".pth", ".txt"))]


def test_a_clone_holds_a_trained_encoder():
    encoder = get_encoder("mobilenet_v2", weights=None)
    encoder.load_state_dict(torch.load(ENCODER, weights_only=True), strict=True)
    # Trained weights: the first filters respond to edges and colours, batch norms have moved on.
    assert encoder.features[0][0].weight.abs().max() > 0.5
    with torch.no_grad():
        features = encoder.eval()(torch.randn(1, 3, 480, 640))
    assert [f.shape[1] for f in features[1:]] == [16, 24, 32, 96, 1280]
    assert 0.1 < features[-1].mean() < 1


def test_a_clone_holds_a_trained_segmenter():
    """It finds what is in the picture: wall, floor, a chair, and desks as tables."""
    cfg = load_config(ROOT / "configs/nyu_small.yaml")
    net = build_model(cfg.model).net_2d.eval()
    load_pretrained_encoder(net, cfg.model.encoder, str(ROOT / cfg.model.pretrained))
    classes = []
    net.head.classes.register_forward_hook(lambda *args: classes.append(args[2].softmax(dim=1)))
    image = read_rgb(ROOT / "examples/tum/desk_rgb.jpg")
    with torch.no_grad():
        net(torch.from_numpy(normalize(image))[None])
    found = classes[0][0].argmax(dim=0)  # (h, w): NYU-40 class minus 1
    shares = {name: (found == i).double().mean() for name, i in NYU40.items()}
    assert min(shares.values()) > 0.05 and sum(shares.values()) > 0.7


def test_every_file_that_is_named_is_there():
    text = (ROOT / "checkpoint/README.md").read_text()
    named = re.findall(r"^\| `(\S+)`", text, re.MULTILINE)
    assert len(named) >= 3 and all((ROOT / "checkpoint" / name).exists() for name in named)


@pytest.mark.parametrize("preset", ["rooms", "nyu_small", "nyu_everywhere"])
def test_presets_start_from_files_of_a_clone(preset):
    assert (ROOT / load_config(ROOT / f"configs/{preset}.yaml").model.pretrained).is_file()


def test_they_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.values()) < 30e6


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
