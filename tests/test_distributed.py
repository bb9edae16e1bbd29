"""Several processes do what one does; a dead one ends the job; files and messages come once."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from make_nyu import make_nyu_root
from small_network import ROOT, assert_same, content

GROUPS = ROOT / "tests/process_groups.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


TASKS = (
    "five_small_steps:1", "five_small_steps:2", "table:1", "table:2", "table:3",
    "not_finite_in_one:2", "stopped_and_resumed:2", "one_dies:2",
)  # fmt: skip


class Groups:
    """Groups of processes at work in a folder: what each process returned, said and wrote."""

    def __init__(self, folder, *tasks):
        make_nyu_root(folder, train=4, test=2)
        command = [sys.executable, GROUPS, folder, *tasks]
        result = subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        self.folder, self.figures = folder, json.loads(result.stdout)

    def outputs(self, task):
        return [(self.folder / task / f"{r}.txt").read_text() for r in range(int(task[-1]))]

    def results(self, task):
        """By rank."""
        statuses, _ = self.figures[task]
        assert statuses == [0] * len(statuses), "\n".join(self.outputs(task))
        return [
            torch.load(self.folder / task / f"{rank}.pth", weights_only=True)
            for rank in range(len(statuses))
        ]


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return Groups(tmp_path_factory.mktemp("groups"), *TASKS)


def assert_two_learn_what_one_does(groups, steps):
    """In double precision, on running batch statistics, without dropout: to 1e-8."""
    (one,), (two, other) = groups.results(f"{steps}:1"), groups.results(f"{steps}:2")
    assert_same(two, other)
    assert max(gradient.abs().max() for gradient in one["gradients"]) > 1e-3
    totals = one["losses"][:, -1].tolist()
    assert totals == sorted(totals, reverse=True) and totals[-1] < totals[0] - 1e-3
    for expected, gradient in zip(one["gradients"], two["gradients"], strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-8, rtol=0)
    for name, expected in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], expected, atol=1e-8, rtol=0, msg=name)
    torch.testing.assert_close(two["losses"], one["losses"], atol=1e-8, rtol=0)
    assert two["row"] == other["row"] == pytest.approx(one["row"], abs=1e-8)  # of metrics.csv
    assert one["row"]["total"] == pytest.approx(sum(totals) / 5, abs=1e-12)
    largest = max((two["weights"][n] - w).abs().max() for n, w in one["weights"].items())
    print(f"largest difference of a weight after five steps: {largest:.1e}")


def test_two_processes_learn_what_one_does(groups):
    assert_two_learn_what_one_does(groups, "five_small_steps")


@pytest.mark.slow
def test_two_processes_learn_what_one_does_with_the_real_network(tmp_path):
    groups = Groups(tmp_path, "five_real_steps:1", "five_real_steps:2")
    assert_two_learn_what_one_does(groups, "five_real_steps")


def test_any_number_of_processes_evaluates_alike(groups):
    """Also more than there are scenes."""
    (one,) = groups.results("table:1")
    assert list(one["scenes"]) == one["seen"] == ["NYU0001", "NYU0002"]
    for size in (2, 3):
        results = groups.results(f"table:{size}")
        for result in results:
            assert result["scores"] == one["scores"] and result["scenes"] == one["scenes"]
        shares = [["NYU0001"], ["NYU0002"], []]
        assert [result["seen"] for result in results] == shares[:size]


def test_a_loss_that_is_not_finite_in_one_process_is_left_out_in_all(groups):
    task = "not_finite_in_one:2"
    _, poisoned = groups.results(task)
    main, other = groups.outputs(task)
    warning = f"not finite in epoch 1, step 2, for a scene of {poisoned['names'][1]}: step left out"
    assert main.count(warning) == 1 and "warning" not in other
    logs = groups.folder / task / "logs/run"
    with open(logs / "metrics.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["skipped_steps"] == "1" and float(row["total"]) > 0


def test_logs_are_written_once(groups):
    logs = groups.folder / "not_finite_in_one:2/logs/run"
    assert len((logs / "starts.jsonl").read_text().splitlines()) == 1
    assert len(list(logs.glob("events*"))) == 1
    main, other = groups.outputs("not_finite_in_one:2")
    assert main.count("epoch 1, lr") == 1 and "epoch" not in other


def test_two_processes_stop_together_and_resume(groups):
    """Though only one got the signal."""
    task = "stopped_and_resumed:2"
    assert [result["code"] for result in groups.results(task)] == [128 + signal.SIGTERM] * 2
    place = groups.folder / task
    assert_same(content(place / "part.pth"), content(place / "whole.pth"))


def test_a_dead_process_ends_the_others(groups):
    statuses, seconds = groups.figures["one_dies:2"]
    assert statuses == [2, -signal.SIGKILL] and seconds < 60
    message = groups.outputs("one_dies:2")[0].splitlines()[-1]
    assert message.startswith("error: the connection to another process of this job broke")
    assert "--resume" in message


def torchrun(folder, script, *words):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", ROOT / script]
    return subprocess.Popen(
        [str(word) for word in (*command, *words)], cwd=folder, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


SMALL = [
    "--config", ROOT / "configs/debug.yaml", "model.width=4", "model.image_scale=0.1",
    "train.batch_size=1", "data.root=NYU", "train.teacher_path=teacher.pth",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    make_nyu_root(tmp_path, train=4, test=2)
    return tmp_path


@pytest.mark.slow
def test_torchrun_says_an_input_error_once(folder):
    (folder / "NYU/TSDF/0005.npz").write_bytes(b"broken")
    for words, message in (
        (["data.root=absent"], "absent: no such folder"),
        ([], "NYU/TSDF/0005.npz"),
    ):
        process = torchrun(folder, "train_teacher.py", *SMALL, *words)
        output = process.communicate(timeout=120)[0]
        assert process.returncode != 0
        errors = re.findall("^error: .*", output, re.MULTILINE)
        assert len([line for line in errors if message in line]) == 1, output
        assert "line " not in output.split("torch/distributed")[0], output  # no traceback of ours


@pytest.mark.slow
def test_torchrun_ends_within_a_minute_when_a_process_dies(folder):
    process = torchrun(folder, "train_teacher.py", *SMALL, "train.epochs=50", "train.save_steps=1")
    limit = time.monotonic() + 120
    while not (folder / "teacher.pth").exists():
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {}
    for pid in children:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks |= {int(e[5:]): int(pid) for e in environment if e.startswith(b"RANK=")}
    began = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    seconds = time.monotonic() - began
    print(f"ended after {seconds:.1f} s")
    assert process.returncode != 0 and seconds < 60
    assert "exitcode  : -9" in output and "Signal 9 (SIGKILL)" in output
    torch.load(folder / "teacher.pth", weights_only=True)
