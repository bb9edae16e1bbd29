"""benchmarks/gpu.sh: its short form on the CPU, and what becomes of parts that fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALONE = {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable}


def run(*command):
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | ALONE, capture_output=True, text=True, timeout=2400
    )


def short_form(folder, *words):
    """Its rows and what it printed; every row has passed."""
    path = folder / "table.json"
    done = run("bash", "benchmarks/gpu.sh", "--cpu", "--output", str(path), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(path.read_text())
    assert {row["verdict"] for row in rows} == {"PASS", "measured", "skipped"}
    return rows, done.stdout.splitlines()


def test_parts_without_rooms_pass_and_end_in_a_table(tmp_path):
    names = ["double", "not finite", "waits", "step speed"]
    rows, table = short_form(tmp_path, "--rooms", str(tmp_path), "--parts", *names)
    assert list(dict.fromkeys(row["part"] for row in rows)) == names
    assert {row["verdict"] for row in rows if row["part"] == "waits"} == {"skipped"}
    assert table[-1] == "7 PASS, 0 FAIL, 1 measured, 4 skipped"
    assert sum(line.startswith("double ") for line in table) == 4


@pytest.mark.slow
def test_the_whole_short_form_passes(tmp_path):
    rows, _ = short_form(tmp_path)
    assert list(dict.fromkeys(row["part"] for row in rows)) == [
        "rooms", "versions", "golden", "double", "single", "precision", "not finite",
        "deterministic", "waits", "train", "torchrun", "scripts", "predict speed",
        "inference speed", "loader", "profile", "step speed",
    ]  # fmt: skip
    verdicts = {(row["part"], row["check"]): row["verdict"] for row in rows}
    assert verdicts["train", "resumed, bit-equal to undisturbed"] == "PASS"


PLANTED = """
import os, time
from benchmarks import gpu
from benchmarks.gpu_rows import judged, measured

def raises(bench):
    yield judged("before it", True, "")
    raise ValueError("planted")

def differs(bench):
    yield judged("a difference", 1.0 < 1e-9, "1.0")

def dies(bench):
    os.kill(os.getpid(), 11)
    yield

def hangs(bench):
    time.sleep(600)
    yield

def last(bench):
    yield measured("runs", "after all of them")

gpu.PARTS = {part.__name__: part for part in (raises, differs, dies, hangs, last)}
gpu.LONGEST = {"hangs": 0.1}
gpu.main()
"""


def test_parts_that_fail_are_told_and_do_not_end_the_others(tmp_path):
    path = tmp_path / "table.txt"
    done = run(
        sys.executable, "-c", PLANTED, "--cpu", "--rooms", str(tmp_path), "--output", str(path)
    )
    assert done.returncode == 1
    lines = [" ".join(line.split()) for line in path.read_text().splitlines()]
    assert lines == [
        "raises before it PASS",
        "raises runs to its end FAIL ValueError: planted",
        "differs a difference FAIL 1.0",
        "dies runs to its end FAIL the process died: exit -11",
        "hangs runs to its end FAIL ended after its time was over",
        "last runs measured after all of them",
        "",
        "1 PASS, 4 FAIL, 1 measured, 0 skipped",
    ]
