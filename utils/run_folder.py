"""logs/<run>/: what was run, on what, and what came out."""

import csv
import io
import json
import math
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
import yaml
from easydict import EasyDict
from torch.utils.tensorboard import SummaryWriter

from config import to_plain
from errors import InputError
from utils import distributed
from utils.files import remove_temporaries, write_text
from utils.metrics import COLUMNS, protocol_rows
from utils.pictures.curves import save_training_curves

try:
    import resource
except ImportError:  # Windows has none
    resource = None

PROJECT = Path(__file__).parents[1]


def to_csv(rows: list[dict]) -> str:
    """One line a row; the columns in the order in which they first occur."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def results_csv(scores_of: dict[str, dict]) -> str:
    """Scores as rows of the paper's Table 1, a protocol each: {scene: scores}, or {"": scores}."""
    rows = []
    for scene, scores in scores_of.items():
        for protocol, row in protocol_rows(scores).items():
            names = {"scene": scene, "protocol": protocol} if scene else {"protocol": protocol}
            rows.append(names | dict(zip(COLUMNS, row, strict=True)))
    return to_csv(rows)


def score_columns(scores: dict) -> dict[str, float]:
    return {
        **{f"sc_{name}": value for name, value in scores["sc"].items()},
        **{f"ssc_{name}": value for name, value in scores["ssc"]["iou"].items()},
        "ssc_miou": scores["ssc"]["miou"],
        "all_voxels_ssc_miou": scores["all_voxels"]["ssc"]["miou"],
    }


def _git(*words: str) -> str | None:
    """The output of a git command about the project; None without git or outside a repository."""
    command = ["git", "-C", str(PROJECT), *words]
    try:
        output = subprocess.check_output(command, text=True, timeout=60, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe(cfg: EasyDict, device: torch.device) -> dict:
    """Command, code, packages, machine and seed of this start, as plain values."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    requirements = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    packages = re.findall(r"^[\w-]+", requirements, re.MULTILINE)
    is_gpu = device.type == "cuda"
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(sys.argv),
        "git_revision": _git("rev-parse", "HEAD"),
        "git_changed_files": changes.splitlines() if changes is not None else None,
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in packages}},
        "cuda": torch.version.cuda if is_gpu else None,
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
        "seed": cfg.seed,
        "deterministic": cfg.train.deterministic,
    }


def peak_memory_gb(device: torch.device) -> float:
    """The most memory this process has held: of the GPU, or of the machine; NaN if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if resource is None:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class RunFolder:
    """Written by the main process alone.

    config.yaml     every setting
    starts.jsonl    `describe` of each start, the first and every --resume, one a line
    metrics.csv     a line an epoch; curves.png shows it
    results.csv     the last evaluation as rows of the paper's Table 1, as test_NYU.py writes
    events.out.*    the same for TensorBoard
    """

    def __init__(self, path: Path, cfg: EasyDict, device: torch.device, resumed: bool) -> None:
        self.path = path
        remove_temporaries(path / "*")
        starts = path / "starts.jsonl"
        earlier = starts.read_text(encoding="utf-8") if resumed and starts.is_file() else ""
        write_text(starts, f"{earlier}{json.dumps(describe(cfg, device))}\n")
        write_text(path / "config.yaml", yaml.safe_dump(to_plain(cfg), sort_keys=False))
        self.events = SummaryWriter(path)

    def write_metrics(self, history: list[dict]) -> None:
        write_text(self.path / "metrics.csv", to_csv(history))
        if history:
            save_training_curves(self.path / "curves.png", history)

    def write_results(self, scores: dict) -> None:
        write_text(self.path / "results.csv", results_csv({"": scores}))

    def write_events(self, row: dict) -> None:
        try:
            for name, value in row.items():
                self.events.add_scalar(name, value, row["epoch"])
            self.events.flush()
        except OSError as error:
            message = f"{self.path} cannot be written ({error.strerror}): free space"
            raise InputError(message) from error
