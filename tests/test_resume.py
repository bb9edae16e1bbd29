"""A run that is killed and goes on ends as one that nothing disturbed, bit for bit."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from make_nyu import make_nyu_root
from small_network import ROOT, assert_same, content, small_run, small_settings

from utils.signals import Stopped
from utils.step import Objective

TIMES = {"seconds", "seconds_per_step", "waiting_for_data", "peak_memory_gb"}


def command(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def kill_and_compare(folder, script, path, kills, *words):
    """Train undisturbed in one folder and killed in another; returns figures of the kills."""
    killer = ROOT / "tests/kill_training.py"
    figures = json.loads(command(folder, killer, kills, path, script, *words))
    one, other = folder / "undisturbed", folder / "killed"
    for place in (one, other):
        output = (place / "output.txt").read_text()
        assert figures[f"exit status, {place.name}"] == 0, output
    assert_same(content(other / path), content(one / path))
    best = Path(path).with_name(f"{Path(path).stem}_best.pth")
    assert_same(state(other / best), state(one / best))
    tables = []
    for place in (one, other):
        (table,) = place.glob("logs/*/metrics.csv")
        with open(table) as file:
            rows = list(csv.DictReader(file))
        tables.append([{k: v for k, v in row.items() if k not in TIMES} for row in rows])
    assert tables[0] == tables[1]
    assert not list(other.rglob("*.tmp"))
    return figures


def state(path):
    return torch.load(path, weights_only=True)["model"]


SAVE_EVERY_STEP = ["train.batch_size=1", "train.save_steps=1", "train.eval_every=2"]


def test_killed_twice_and_resumed(tmp_path):
    root = make_nyu_root(tmp_path, train=4, test=1, cad=False)
    figures = kill_and_compare(
        tmp_path, "small_network.py", "run.pth", 2,
        "--config", ROOT / "configs/debug.yaml", f"data.root={root}", "data.workers=1",
        "train.epochs=6", "train.student_path=run.pth", *SAVE_EVERY_STEP,
    )  # fmt: skip
    assert figures["kills"] == 2


@pytest.mark.slow
def test_killed_twenty_times_and_resumed(tmp_path):
    """The real student, its teacher, workers and an evaluation; figures in docs/RELIABILITY.md."""
    root = make_nyu_root(tmp_path, train=12, test=1)
    words = [
        "--config", ROOT / "configs/debug.yaml", f"data.root={root}", "data.workers=2",
        "model.width=4", "model.image_scale=0.1", f"train.teacher_path={tmp_path}/teacher.pth",
    ]  # fmt: skip
    command(tmp_path, ROOT / "train_teacher.py", *words)
    figures = kill_and_compare(
        tmp_path, "train_student.py", "run_ckpt.pth", 20,
        *words, "train.epochs=8", "train.student_path=run_ckpt.pth", *SAVE_EVERY_STEP,
    )  # fmt: skip
    print(figures)
    assert figures["kills"] == 20 and figures["while writing"] >= 5


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(tmp_path, monkeypatch):
    """And another seed gives others: nothing is constant by mistake."""
    root = make_nyu_root(tmp_path, train=4, test=1, cad=False)
    monkeypatch.chdir(tmp_path)
    for name, *words in (("one",), ("two",), ("three", "data.workers=2"), ("four", "seed=1")):
        small_run(small_settings(root, *words), f"{name}.pth")
    assert_same(content("two.pth"), content("one.pth"))
    assert_same(content("three.pth"), content("one.pth"))
    assert not torch.equal(state("four.pth")["pixels.weight"], state("one.pth")["pixels.weight"])


def test_steps_within_an_epoch_draw_what_they_would_have_drawn(tmp_path, monkeypatch):
    """Order and augmentation of the scenes, and dropout and flips, of a run that went on."""
    root = make_nyu_root(tmp_path, train=4, test=1, cad=False)
    monkeypatch.chdir(tmp_path)
    seen = []

    class Recording(Objective):
        stop_at = None

        def losses(self, model, batch, counts):
            drawn = torch.rand(())  # of dropout's and the flips' generator
            seen.append((*batch["name"], batch["image"].double().sum().item(), drawn.item()))
            if len(seen) == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().losses(model, batch, counts)

    cfg = small_settings(root, "train.epochs=2", "data.workers=2")
    small_run(cfg, "whole.pth", Recording(cfg.loss, "tsdf"))
    whole, seen = seen, []
    stopping = Recording(cfg.loss, "tsdf")
    stopping.stop_at = 3
    with pytest.raises(Stopped):
        small_run(cfg, "part.pth", stopping)
    small_run(cfg, "part.pth", Recording(cfg.loss, "tsdf"), resume=True)
    assert seen == whole and len(set(whole)) == 8
