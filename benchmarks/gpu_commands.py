"""Parts of benchmarks/gpu.sh that run the project's commands, as a user would."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_rows import DESK, ROOT, STUDENT, Bench, Row, judged, measured, skipped
from benchmarks.timing import frames_a_second

WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1")


def start(folder: Path, *words: object, **variables: str) -> subprocess.Popen:
    command = [sys.executable, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=os.environ | variables, text=True, **pipes)


def run(folder: Path, *words: object, **variables: str) -> str:
    """Run Python with these words in a folder; returns what it printed, and raises if it failed."""
    process = start(folder, *words, **variables)
    output, errors = process.communicate()
    if process.returncode:
        last = errors.strip().splitlines() or [""]
        raise RuntimeError(f"{Path(str(words[0])).name}: exit {process.returncode}: {last[-1]}")
    return output


def training(bench: Bench, *words: str) -> list[str]:
    """The words of a small training that gives the same weights on every start."""
    preset = "debug" if bench.short else "rooms"
    words = [f"data.root={bench.rooms}", "data.workers=1", "train.deterministic=true", *words]
    words += ["model.pretrained=none", "train.eval_every=0", "train.precision=auto"]
    return ["--config", str(ROOT / f"configs/{preset}.yaml"), *words]


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True, map_location="cpu")


def train(bench: Bench) -> Iterator[Row]:
    """A teacher; another one that is stopped by SIGTERM and goes on; a student."""
    words = training(bench, f"train.epochs={2 if bench.short else 8}", "train.batch_size=1")
    script, place = ROOT / "train_teacher.py", "train.teacher_path="
    whole, part = bench.folder / "whole.pth", bench.folder / "part.pth"
    began = time.monotonic()
    run(bench.folder, script, *words, f"{place}{whole}")
    yield judged("train_teacher.py", True, f"{time.monotonic() - began:.1f} s")

    process = start(bench.folder, script, *words, f"{place}{part}")
    while not part.exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    unfinished = read(part)["meta"]["epoch"] < read(whole)["meta"]["epoch"]
    stopped = process.returncode == 128 + signal.SIGTERM and unfinished
    yield judged("stopped by SIGTERM", stopped, f"exit {process.returncode}")
    run(bench.folder, script, *words, f"{place}{part}", "--resume")
    one, other = (read(path)["model"] for path in (whole, part))
    same = all(torch.equal(one[name], other[name]) for name in one)
    yield judged("resumed, bit-equal to undisturbed", same, str(same))

    student = bench.folder / "student.pth"
    words += [f"{place}{whole}", f"train.student_path={student}"]
    run(bench.folder, ROOT / "train_student.py", *words, "train.epochs=1")
    yield judged("train_student.py", student.exists(), "one epoch")


def torchrun(bench: Bench) -> Iterator[Row]:
    """A training by torchrun with one process, and one without: NCCL on GPUs, gloo on the CPU."""
    if bench.short:
        yield skipped("losses and weights of one process", "not in the short form")
        return
    # Gradients lie otherwise in memory there, so that their norm is added up in another order.
    limits = {"losses": 1e-4, "weights": 1e-3}
    words, found = training(bench, "train.epochs=1", "train.batch_size=1"), []
    for name, launcher in {"alone": (), "torchrun": TORCHRUN}.items():
        path = bench.folder / f"{name}.pth"
        script = ROOT / "train_teacher.py"
        run(bench.folder, *launcher, script, *words, f"train.teacher_path={path}")
        rows = csv.DictReader((bench.folder / f"logs/{name}/metrics.csv").read_text().splitlines())
        losses = torch.tensor([float(row[key]) for row in rows for key in ("loss_3d", "loss_2d")])
        weights = [x.flatten() for x in read(path)["model"].values() if x.is_floating_point()]
        found.append({"losses": losses, "weights": torch.cat(weights)})
    alone, together = found
    for name, limit in limits.items():
        difference = ((together[name] - alone[name]).norm() / alone[name].norm()).item()
        yield judged(
            f"{name} of one process", difference <= limit, f"{difference:.1e}, {limit:.0e}"
        )


def scripts(bench: Bench) -> Iterator[Row]:
    """test_NYU.py and predict.py with the student that comes along, on GPU and CPU; its export."""
    places = {"here": {}} if bench.device.type == "cpu" else {"here": {}, "CPU": WITHOUT_GPU}
    common = ["--pretrained_path", STUDENT, "train.precision=fp32"]
    for place, variables in places.items():
        words = [f"data.root={bench.rooms}", f"output={bench.folder / place}", "--no-dump"]
        words += ["--pictures", "0", "data.workers=1"]
        run(bench.folder, ROOT / "test_NYU.py", *common, *words, **variables)
    yield judged("test_NYU.py", True, "fp32")
    found = [json.loads((bench.folder / place / "results.json").read_text()) for place in places]
    if len(found) == 2:
        scores = [(scores["sc"]["iou"], scores["ssc"]["miou"]) for scores in found]
        difference = np.abs(np.subtract(*scores)).max()
        yield judged("its scores, GPU against CPU", difference < 0.1, f"{difference:.3f} per cent")
    else:
        yield skipped("its scores, GPU against CPU")

    words = ["--rgb", DESK / "desk_rgb.jpg", "--depth", DESK / "desk_depth.png", "--camera", "tum"]
    for place, variables in places.items():
        output = ["--formats", "npz", "--output", bench.folder / place]
        run(bench.folder, ROOT / "predict.py", *common, *words, *output, **variables)
    yield judged("predict.py", True, "fp32")
    labels = [np.load(bench.folder / place / "desk.npz")["prediction"] for place in places]
    if len(labels) == 2:
        same = np.equal(*labels).mean()
        yield judged("its classes, GPU against CPU", same > 0.999, f"{same:.3%} the same")
    else:
        yield skipped("its classes, GPU against CPU")

    if bench.short:
        yield skipped("export_onnx.py", "not in the short form")
    else:
        words = ["--pretrained_path", STUDENT, "--output", bench.folder / "student.onnx"]
        told = run(bench.folder, ROOT / "export_onnx.py", *words)
        yield judged("export_onnx.py", True, told.strip().splitlines()[-1])


def predict_speed(bench: Bench) -> Iterator[Row]:
    """Of predict.py with a folder of frames; its start, that of a smaller folder, is left out."""
    if bench.short:
        yield skipped("frames a second, poses estimated", "not in the short form")
        return

    def complete(frames: Path) -> None:
        words = ["--rgb", frames, "--depth", frames, "--camera", "tum", "--formats", "npz"]
        run(bench.folder, ROOT / "predict.py", "--pretrained_path", STUDENT, *words)

    pair = DESK / "desk_rgb.jpg", DESK / "desk_depth.png"
    rate, before = frames_a_second(complete, pair, bench.folder, (4, 36))
    yield measured("frames a second, poses estimated", f"{rate:.1f}, after {before:.1f} s")


PARTS = {
    "train": train,
    "torchrun": torchrun,
    "scripts": scripts,
    "predict speed": predict_speed,
}
