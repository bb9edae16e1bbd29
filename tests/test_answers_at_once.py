"""--help and a wrong word are answered without the libraries that take seconds to import."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "__main__" in path.read_text())
SLOW = "torch torchvision segmentation_models_pytorch timm scipy sklearn matplotlib trimesh"
# A script as the command line runs it, and which slow libraries are there when it ends.
CHILD = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    print(f"status {{stop.code}}:", *sorted(sys.modules.keys() & {{*"{SLOW}".split()}}))
"""


def answer(*words):
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    return child.stdout.splitlines()[-1], child.stderr


def test_all_entry_scripts_are_known():
    assert {"predict.py", "train_student.py", "prepare_NYU.py", "export_onnx.py"} < {*SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    assert answer(script, "--help")[0] == "status 0:"


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option(script):
    last, errors = answer(script, "--halp")
    assert last == "status 2:" and "error: " in errors


@pytest.mark.parametrize("script", ["train_teacher.py", "train_student.py", "config.py"])
def test_a_wrong_setting(script):
    last, errors = answer(script, "train.epochz=3")
    assert last == "status 2:"
    assert errors.startswith("error: ") and "train.epochs" in errors


def test_a_frame_that_is_not_there(tmp_path):
    words = ["--list", str(tmp_path / "nowhere.txt"), "--pretrained_path", "x.pth"]
    last, errors = answer("predict.py", *words)
    assert last == "status 2:" and "nowhere.txt" in errors
