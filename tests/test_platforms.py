"""Other systems, launchers and terminals than a Linux shell."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from debug_checkpoint import write_debug_checkpoint
from make_nyu import make_nyu_root
from small_network import small_run, small_settings

from datasets.nyu import NYUDataset
from errors import InputError
from utils import run_folder
from utils.completion import SceneCompleter
from utils.distributed import setup, started_by_torchrun
from utils.lock import RunLock
from utils.signals import wait_for_main

ROOT = Path(__file__).parents[1]
# As on Windows: neither these modules nor these names.
IMPORT_ALL = """
import importlib, os, pathlib, signal, sys
import cv2, embreex, h5py, matplotlib.figure, onnxruntime, scipy.ndimage, torch, trimesh
import segmentation_models_pytorch, torch.utils.tensorboard  # which have ways of their own
for name in ("resource", "fcntl", "termios", "pwd", "grp"):
    sys.modules[name] = None
for module, names in ((signal, ("SIGALRM", "alarm", "SIGKILL", "SIGUSR1")),
                      (os, ("sched_getaffinity", "fork", "getuid"))):
    for name in names:
        delattr(module, name)
root = pathlib.Path(sys.argv[1])
folders = [root / name for name in ("models", "datasets", "utils")]
files = [*root.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
for file in files:
    parts = file.relative_to(root).with_suffix("").parts
    importlib.import_module(".".join(part for part in parts if part != "__init__"))
print(len(files))
"""


def test_every_module_imports_where_there_is_no_posix():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(ROOT)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_peak_memory_in_the_units_of_the_system(monkeypatch):
    class Usage:
        ru_maxrss = 3 * 10**9

    monkeypatch.setattr(run_folder.resource, "getrusage", lambda _: Usage)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run_folder.peak_memory_gb(torch.device("cpu")) == 3  # bytes
    monkeypatch.setattr(sys, "platform", "linux")
    assert run_folder.peak_memory_gb(torch.device("cpu")) == 3 * 1024  # kilobytes


def test_a_mac_takes_the_cpu_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    has_mps = functools.wraps(torch.backends.mps.is_available)(lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", has_mps)
    path = write_debug_checkpoint(tmp_path / "student.pth", "tsdf")
    for choose in (setup, lambda: SceneCompleter.from_checkpoint(path).device):
        assert choose() == torch.device("cpu")
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("device: cpu") and "mps" in line
    with pytest.raises(InputError, match="device mps: .*--device cpu"):
        SceneCompleter.from_checkpoint(path, "mps")
    assert SceneCompleter.from_checkpoint(path, "cpu").device.type == "cpu"
    assert not capsys.readouterr().out


def test_workers_that_are_spawned_read_scenes(tmp_path):
    make_nyu_root(tmp_path, train=2, test=1)
    dataset = NYUDataset(tmp_path / "NYU", "train")
    loader = torch.utils.data.DataLoader(
        dataset, num_workers=1, multiprocessing_context="spawn", worker_init_fn=wait_for_main
    )
    names = [batch["name"][0] for batch in loader]
    assert names == [scene.name for scene in dataset.scenes]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, but RANK is not set"),
        ({"WORLD_SIZE": "auto"}, "WORLD_SIZE is auto"),
        ({"WORLD_SIZE": "auto", "RANK": "0"}, "WORLD_SIZE is auto"),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"}, "srun started 8 copies"),
    ],
)
def test_launchers_that_are_no_torchrun(variables, said, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        started_by_torchrun()


def test_a_launchers_variables_are_one_line_of_a_script(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "auto")
    command = [sys.executable, ROOT / "train_teacher.py", "--config", ROOT / "configs/debug.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len([line for line in done.stderr.splitlines() if "WORLD_SIZE is auto" in line]) == 1


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"WORLD_SIZE": ""}, False),
        ({"WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "2", "RANK": "1"}, True),
        # torchrun, which srun started on each of two machines
        ({"WORLD_SIZE": "2", "RANK": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, True),
        # within sbatch, without srun
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False),
    ],
)
def test_one_process_or_several(variables, several, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started_by_torchrun() == several


def test_two_runs_do_not_write_one_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_nyu_root(tmp_path, train=4, test=1)
    cfg = small_settings(tmp_path / "NYU", "train.epochs=1")
    lock = tmp_path / "run.pth.lock"
    with subprocess.Popen(["sleep", "60"]) as other:
        lock.write_text(f"{socket.gethostname()} {other.pid}\n")
        with pytest.raises(InputError, match=f"run.pth.lock: process {other.pid} on"):
            small_run(cfg)
        assert not (tmp_path / "run.pth").exists() and lock.exists()
        other.kill()
    small_run(cfg)  # that process is gone
    assert (tmp_path / "run.pth").exists() and not lock.exists()


def test_a_lock_of_another_host_is_kept(tmp_path):
    lock = tmp_path / "run.pth.lock"
    lock.write_text("elsewhere 1\n")
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        RunLock(tmp_path / "run.pth")
    lock.write_text("cut o")
    RunLock(tmp_path / "run.pth")
    assert lock.read_text().split() == [socket.gethostname(), str(os.getpid())]


def test_a_terminal_without_the_letters_of_a_name(tmp_path):
    """As a console of Windows: an error that names a folder in Japanese is still one line."""
    path = tmp_path / "部屋.pth"
    command = [sys.executable, ROOT / "test_NYU.py", "--pretrained_path", path]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, encoding="cp1252",
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "\\u90e8\\u5c4b.pth does not exist" in done.stderr
