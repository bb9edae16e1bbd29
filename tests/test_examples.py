"""The frame that README opens with: its command works in a fresh clone and finds the desk."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np

import predict
from constants import CLASS_NAMES
from datasets.frames.cameras import preset_intrinsics, read_intrinsics

ROOT = Path(__file__).parents[1]
TUM = ROOT / "examples/tum"


def test_readmes_frame_gives_a_table_and_chairs_on_a_floor(monkeypatch, capsys, tmp_path):
    (command,) = re.findall(
        r"^python (predict.py .*examples/tum.*)$", (ROOT / "README.md").read_text(), re.M
    )
    assert command in (TUM / "README.md").read_text()
    words = shlex.split(command)
    words[words.index("out")] = str(tmp_path)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [*words, "--formats", "npz"])
    predict.main()
    assert "1 of 1 frames" in capsys.readouterr().out
    labels = np.load(tmp_path / "desk.npz")["labels"]
    counts = {name: int((labels == i).sum()) for i, name in enumerate(CLASS_NAMES)}
    assert counts["table"] > 300 and counts["chair"] > 100 and counts["floor"] > 300
    heights = {
        name: np.nonzero(labels == CLASS_NAMES.index(name))[1] for name in ("floor", "table")
    }
    assert np.median(heights["floor"]) <= 1  # voxels of 8 cm from 5 cm below the floor
    top = np.argmax(np.bincount(heights["table"])) * 0.08
    assert 0.5 < top < 1.0


def test_the_example_is_small_and_says_whose_it_is():
    assert sum(path.stat().st_size for path in TUM.iterdir()) < 600_000
    assert "CC BY 4.0" in (TUM / "README.md").read_text()
    K = read_intrinsics(TUM / "camera.json", (480, 640))
    np.testing.assert_array_equal(K, preset_intrinsics("tum", (480, 640)))
