"""The commands as a user runs them: train, resume, evaluate, and every wrong input."""

import contextlib
import csv
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
import yaml
from make_nyu import make_nyu_root
from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score
from torchvision import tv_tensors

from config import load_config
from constants import GRID, IMAGE_SIZE, NO_PIXEL
from datasets.nyu import NYUDataset, find_scenes, read_image
from datasets.transforms import normalize
from figs.make_analysis import confusion_shares, occurring_miou
from models import build_model
from models.checkpoints import load_weights, read_checkpoint
from models.encoder_weights import load_pretrained_encoder
from runs.pretrain_encoder import mean_iou, transforms
from utils.checkpoint import save_checkpoint
from utils.metrics import SSCMetrics

ROOT = Path(__file__).parents[1]


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(script, *words, cwd, ok=True):
    """Run a script's main as the command line would; in this process, which saves its imports."""
    main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    code = 0
    try:
        os.chdir(cwd)
        with (
            mock.patch.object(sys, "argv", [script, *map(str, words)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as stop:
        code = stop.code
    finally:
        os.chdir(before)
    result = Result(code, out.getvalue(), err.getvalue())
    assert not ok or result.returncode == 0, result.stderr
    return result


def error_of(script, *words, cwd):
    """The single line of a refusal, without a traceback; exit status 2."""
    result = run(script, *words, cwd=cwd, ok=False)
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, and teacher and student trained for an epoch on it."""
    folder = tmp_path_factory.mktemp("work")
    make_nyu_root(folder / "data", train=4, test=2)
    preset = yaml.safe_load((ROOT / "configs/debug.yaml").read_text())
    preset["train"]["eval_every"] = 0
    (folder / "debug.yaml").write_text(yaml.safe_dump(preset))
    run("train_teacher.py", "--config", "debug.yaml", cwd=folder)
    run("train_student.py", "--config", "debug.yaml", cwd=folder)
    return folder


@pytest.fixture
def copy(work, tmp_path):
    """A copy of that folder, to break."""
    return Path(shutil.copytree(work, tmp_path / "copy"))


def test_training_writes_checkpoints_and_a_csv(work):
    for role, path, volume in (
        ("teacher", "teacher/debug_teacher.pth", "tsdf_cad"),
        ("student", "checkpoint/debug_student.pth", "tsdf"),
    ):
        meta = read_checkpoint(work / path).meta
        assert (meta["input"], meta["epoch"]) == (volume, 1)
        assert meta["config"]["data"] == {"input": "", "photometric": "standard"}
        assert meta["train_scenes"].startswith("4, checksum ")
        with open(work / f"logs/debug_{role}/metrics.csv") as file:
            (row,) = csv.DictReader(file)
        assert float(row["loss_3d"]) > 0 and float(row["sc_iou"]) >= 0
        assert ("kd_t" in row) == (role == "student")
        assert list((work / f"logs/debug_{role}").glob("events.out.tfevents.*"))
        best = Path(work / path)
        assert read_checkpoint(best.with_name(f"{best.stem}_best.pth")).meta["epoch"] == 1


def test_evaluation_needs_only_the_checkpoint(work):
    """results.json against a loop over the data set written here."""
    result = run("test_NYU.py", "--pretrained_path", "checkpoint/debug_student.pth", cwd=work)
    output = work / "visual_pred/debug_student"
    scores = json.loads((output / "results.json").read_text())

    cfg = load_config(ROOT / "configs/debug.yaml")
    model = build_model(cfg.model)
    load_weights(model, work / "checkpoint/debug_student.pth")
    metrics, per_scene = SSCMetrics(), {}
    for sample in NYUDataset(work / "data/NYU", "test"):
        batch = {k: v[None] for k, v in sample.items() if torch.is_tensor(v)}
        with torch.no_grad():
            out = model.eval()(batch["image"], batch["mapping2d"], batch["tsdf"])
        scene = SSCMetrics()
        scene.update(out.logits, batch)
        metrics.merge(scene)
        per_scene[sample["name"]] = scene.compute()["ssc"]["miou"]
        shown = out.logits.argmax(1)[batch["label_weight"]]
        points = (output / f"{sample['name']}.ply").read_text().split("end_header\n")[1]
        assert len(points.splitlines()) == (shown > 0).sum()
    expected = metrics.compute()
    assert scores["sc"] == pytest.approx(expected["sc"], abs=0.01)
    assert scores["ssc"]["miou"] == pytest.approx(expected["ssc"]["miou"], abs=0.01)
    everything = expected["all_voxels"]["ssc"]["iou"]
    assert scores["all_voxels"]["ssc"]["iou"] == pytest.approx(everything, abs=0.01)
    with open(output / "scenes.csv") as file:
        rows = {r["scene"]: r for r in csv.DictReader(file) if r["protocol"] == "paper"}
    assert {n: float(r["avg."]) for n, r in rows.items()} == pytest.approx(per_scene, abs=0.01)
    assert f"{scores['ssc']['miou']:.1f}" in result.stdout


def test_a_teacher_is_evaluated_on_tsdf_cad_and_dumps_can_be_limited(work, tmp_path):
    teacher = ("--pretrained_path", work / "teacher/debug_teacher.pth")
    data = f"data.root={work}/data/NYU"
    result = run("test_NYU.py", *teacher, data, "--max-dump", 1, "output=out", cwd=tmp_path)
    assert "on tsdf_cad, 2 scenes" in result.stdout
    assert len(list((tmp_path / "out").glob("*.ply"))) <= 1
    result = run(
        "test_NYU.py", *teacher, data, "--no-dump", "output=none", "data.input=tsdf", cwd=tmp_path
    )
    assert "on tsdf, 2 scenes" in result.stdout
    assert not list((tmp_path / "none").glob("*.ply"))


def test_a_student_is_evaluated_without_tsdf_cad(copy):
    shutil.rmtree(copy / "data/NYUCAD")
    run("test_NYU.py", "--pretrained_path", "checkpoint/debug_student.pth", "--no-dump", cwd=copy)


def test_the_scenes_are_the_callers(work, tmp_path):
    """Not those of the maker of a checkpoint, here one from before this was left out of files."""
    content = torch.load(work / "checkpoint/debug_student.pth", weights_only=True)
    content["meta"]["config"]["output"] = "/the/makers"
    content["meta"]["config"]["data"] |= {
        "root": "/the/makers/NYU", "test_ids": "docs/ids.txt", "cad_root": "cad", "workers": 999
    }  # fmt: skip
    torch.save(content, tmp_path / "old.pth")
    make_nyu_root(tmp_path, train=1, test=3)
    words = ("test_NYU.py", "--pretrained_path", "old.pth", "--no-dump", "--pictures", 0)

    def scenes(*overrides):
        result = run(*words, "data.root=NYU", *overrides, cwd=tmp_path)
        with open(tmp_path / "visual_pred/old/scenes.csv") as file:
            found = {row["scene"] for row in csv.DictReader(file)}
        assert f"on tsdf, {len(found)} scenes" in result.stdout
        return found

    images = sorted(path.name[:7] for path in (tmp_path / "NYU/test/RGB").iterdir())
    assert scenes() == set(images) and len(images) == 3
    (tmp_path / "NYU/test.txt").write_text("\n".join(images[1:]))
    assert scenes() == set(images[1:])
    (tmp_path / "mine.txt").write_text(images[0])
    assert scenes("data.test_ids=mine.txt") == {images[0]}
    assert "data/NYU: no such folder" in error_of(*words, cwd=tmp_path)


def test_a_file_of_the_original_is_evaluated(work, original_file, tmp_path):
    words = ["--pretrained_path", original_file(), f"data.root={work}/data/NYU", "--no-dump"]
    tiny = ["model.encoder=mit_b0", "model.width=32", "data.workers=0"]
    result = run("test_NYU.py", *words, *tiny, cwd=tmp_path)
    assert "assumed: preset nyu_segformer_b2" in result.stdout
    assert "on tsdf, 2 scenes" in result.stdout


def test_a_trained_encoder_moves_by_its_own_learning_rate(work):
    """At none at all its weights stay, while those of the head do not."""
    words = ["model.freeze_encoder=false", "train.encoder_lr=0", "train.student_path=still.pth"]
    words += [f"loss.weight_kd_{name}=0" for name in ("t", "sc", "sa")]
    run("train_student.py", "--config", "debug.yaml", *words, cwd=work)
    model = build_model(load_config(ROOT / "configs/debug.yaml").model)
    load_weights(model, work / "still.pth")
    torch.manual_seed(0)
    start = build_model(load_config(ROOT / "configs/debug.yaml").model)
    pairs = list(zip(model.named_parameters(), start.parameters(), strict=True))
    moved = {name for (name, trained), initial in pairs if not torch.equal(trained, initial)}
    assert "net_2d.head.classifier.weight" in moved
    assert not any(name.startswith("net_2d.encoder.") for name in moved)


def test_fast_and_plain_steps_are_compared_with_losses_of_one_s_own(work):
    """The plain ones know the paper's losses alone; the preset has others beside them."""
    words = ["--config", str(ROOT / "configs/nyu_small.yaml"), "--rounds", "1"]
    words += ["--cases", "teacher step", "--threads", str(torch.get_num_threads())]
    small = ["model.encoder=mobilenet_v2", "model.head=segformer", "model.width=8"]
    *_, row = run("benchmarks/run.py", *words, *small, cwd=work).stdout.splitlines()
    name, *numbers = row.strip("| ").split(" | ")
    assert name == "teacher step" and float(numbers[3]) < 1e-5  # the relative difference


def test_precision_is_compared_on_the_test_scenes(work):
    words = ["--pretrained_path", "checkpoint/debug_student.pth"]
    result = run("benchmarks/precision.py", *words, cwd=work)
    *_, fp32, bf16, last = result.stdout.splitlines()
    sizes = [
        (sample["label_weight"] & (sample["label3d"] != 255)).sum().item()
        for sample in NYUDataset(work / "data/NYU", "test")
    ]
    assert f"of {sum(sizes)} evaluated voxels" in last
    assert fp32.startswith("fp32: SC IoU") and bf16.startswith("bf16: SC IoU")


def test_what_the_mask_gives_away_is_scored(work):
    path = "checkpoint/debug_student.pth"
    words = ["--config", "debug.yaml", "--pretrained_path", path, "data.root=data/NYU"]
    lines = run("runs/mask_rule.py", *words, cwd=work).stdout.splitlines()
    found = {
        line.split(":")[0]: [float(word.split()[-1]) for word in line.replace(";", ",").split(",")]
        for line in lines
    }
    network = build_model(load_config(ROOT / "configs/debug.yaml").model)
    load_weights(network, work / path)
    truth, predicted = [], {name: [] for name in found}
    hidden = []
    for sample in NYUDataset(work / "data/NYU", "test", work / "data/NYUCAD"):
        inputs = (sample[name][None] for name in ("image", "mapping2d", "tsdf"))
        with torch.no_grad():
            labels = network.eval()(*inputs).logits.argmax(dim=1)[0]
        scored = sample["label_weight"] & (sample["label3d"] != 255) & (sample["mapping"] == 307200)
        truth.append((sample["label3d"] > 0)[scored])
        hidden.append((sample["tsdf"][0] < -0.5)[scored])
        occupied = [
            labels > -1,
            sample["tsdf"][0] >= -0.5,
            sample["tsdf_cad"][0] >= -0.5,
            labels > 0,
        ]
        for name, volume in zip(found, occupied, strict=True):
            predicted[name].append(volume[scored])
    truth, hidden = torch.cat(truth).numpy(), torch.cat(hidden).numpy()
    for name, parts in predicted.items():
        occupied = torch.cat(parts).numpy()
        expected = [
            100 * score(truth[where], occupied[where], zero_division=0)
            for where in (hidden | True, hidden)
            for score in (precision_score, recall_score, jaccard_score)
        ]
        assert found[name] == pytest.approx(expected, abs=0.06), name


def test_an_analysis_is_drawn(work, tmp_path):
    words = ["--pretrained_path", "checkpoint/debug_student.pth", f"output={tmp_path}"]
    run("figs/make_analysis.py", *words, cwd=work)
    for name in ("confusion", "scenes", "best", "worst"):
        assert cv2.imread(str(tmp_path / f"{name}.png")).std() > 5, name


def test_best_and_worst_scenes_are_in_order(work, tmp_path, monkeypatch):
    captions = {}
    monkeypatch.setattr(
        "figs.make_analysis.draw_scenes", lambda path, _, texts: captions.update({path.stem: texts})
    )
    scores = iter([20.0, 70.0])  # of the two test scenes; the little network's are both 0
    monkeypatch.setattr("figs.make_analysis.occurring_miou", lambda _: next(scores))
    words = ["--pretrained_path", "checkpoint/debug_student.pth", f"output={tmp_path}"]
    run("figs/make_analysis.py", *words, cwd=work)
    first, second = (scene.name for scene in find_scenes(work / "data/NYU", "test"))
    found = {key: [(text[:7], text[-2:]) for text in texts] for key, texts in captions.items()}
    assert found["worst"] == [(first, "20"), (second, "70")]
    assert found["best"] == found["worst"][::-1]


def scored(truth, prediction):
    """Metrics of label volumes that are evaluated in every voxel."""
    metrics = SSCMetrics()
    everywhere = torch.ones(1, *GRID, dtype=torch.bool)
    mapping = torch.full((1, *GRID), NO_PIXEL)
    metrics.update(prediction, {"label3d": truth, "label_weight": everywhere, "mapping": mapping})
    return metrics


def test_confusion_shares_equal_scikit_learns():
    torch.manual_seed(0)
    truth, prediction = torch.randint(0, 12, (1, *GRID)), torch.randint(0, 9, (1, *GRID))
    expected = confusion_matrix(truth.flatten(), prediction.flatten(), normalize="true")
    np.testing.assert_allclose(confusion_shares(scored(truth, prediction)), 100 * expected)


def test_a_scenes_mean_iou_is_over_the_classes_in_it():
    torch.manual_seed(0)
    truth, prediction = torch.randint(0, 4, (1, *GRID)), torch.randint(0, 6, (1, *GRID))
    expected = jaccard_score(
        truth.flatten(), prediction.flatten(), labels=[1, 2, 3], average="macro"
    )
    assert occurring_miou(scored(truth, prediction)) == pytest.approx(100 * expected, abs=1e-6)


def test_an_encoder_learns_from_labelled_images(work, tmp_path, monkeypatch):
    """Colours are classes here: an epoch must lower the loss, and 2DNet take the weights."""
    monkeypatch.setattr("runs.pretrain_encoder.BATCH_SIZE", 2)
    for split in ("train", "test"):
        for image in (work / f"data/NYU/{split}/RGB").iterdir():
            grey = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(tmp_path / f"{image.name[3:7]}.png"), grey // 64)
    words = ["--config", "debug.yaml", "--labels", tmp_path, "--out", tmp_path / "encoder.pth"]
    result = run("runs/pretrain_encoder.py", *words, "--epochs", 4, "--validate", cwd=work)
    losses = [float(line.split()[3].strip(",")) for line in result.stdout.splitlines()]
    assert len(losses) == 4 and losses[-1] < 0.8 * losses[0]

    net = build_model(load_config(ROOT / "configs/debug.yaml").model).net_2d
    load_pretrained_encoder(net, "mobilenet_v2", str(tmp_path / "encoder.pth"))

    (tmp_path / "0003.png").unlink()
    assert "0003.png" in error_of("runs/pretrain_encoder.py", *words, cwd=work)


def test_an_encoder_is_trained_on_images_as_2dnet_sees_them(work):
    scenes = find_scenes(work / "data/NYU", "train")
    image = read_image(scenes[0].image)
    whole = transforms(IMAGE_SIZE, augment=False)
    mask = tv_tensors.Mask(torch.zeros(IMAGE_SIZE, dtype=torch.uint8))
    rgb = torch.from_numpy(image).permute(2, 0, 1)
    np.testing.assert_allclose(whole(tv_tensors.Image(rgb), mask)[0], normalize(image), atol=1e-5)


def test_mean_iou_of_segmentation_equals_that_of_scikit_learn():
    torch.manual_seed(0)
    logits = torch.randn(3, 39, 4, 5)
    labels = torch.randint(0, 5, (3, 4, 5))
    labels[0, 0] = 39
    loader = [(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    score = mean_iou(torch.nn.Identity(), loader, torch.device("cpu"), "fp32")
    scored = labels != 39
    predicted = logits.argmax(dim=1)[scored]
    expected = jaccard_score(labels[scored], predicted, labels=range(5), average="macro")
    assert score == pytest.approx(100 * expected, abs=1e-3)


@pytest.mark.slow  # tests/test_resume.py shows the same with a small network
def test_resumed_training_equals_undisturbed_training(copy, monkeypatch):
    student = ["--config", "debug.yaml", "train.epochs=2", "train.eval_every=1"]
    run("train_student.py", *student, "train.student_path=whole.pth", cwd=copy)
    whole = torch.load(copy / "whole.pth", weights_only=True)

    def save_and_die(path, *rest):
        save_checkpoint(path, *rest)
        if str(path) == "part.pth":
            raise KeyboardInterrupt

    words = [*student, "train.student_path=part.pth"]
    monkeypatch.setattr("utils.training.save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run("train_student.py", *words, cwd=copy)
    monkeypatch.undo()
    assert read_checkpoint(copy / "part.pth").meta["epoch"] == 1
    run("train_student.py", *words, "--resume", cwd=copy)
    part = torch.load(copy / "part.pth", weights_only=True)
    for key, value in whole["model"].items():
        assert torch.equal(value, part["model"][key]), key
    with open(copy / "logs/part/metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]

    before = (copy / "part.pth").read_bytes()
    assert "complete: kept" in run("train_student.py", *words, "--resume", cwd=copy).stdout
    assert (copy / "part.pth").read_bytes() == before


def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(copy):
    student = ("train_student.py", "--config", "debug.yaml", "--resume")
    for change in ("loss.weight_kd_t=0", "train.lr=0.1", "seed=1", "data.photometric=original"):
        key = change.split("=")[0]
        message = error_of(*student, change, cwd=copy)
        assert "debug_student.pth was made with other settings" in message and key in message
    message = error_of(*student, "data.input=tsdf_cad", cwd=copy)
    assert "was trained on tsdf instead of tsdf_cad" in message and "data.input" in message
    words = (
        "train.recompute=false",
        "data.workers=1",
        "model.pretrained=elsewhere.pth",
        "data.root=data/../data/NYU",
    )
    assert "complete: kept" in run(*student, *words, cwd=copy).stdout
    teacher = ("train_teacher.py", "--config", "debug.yaml", "--resume")
    assert "complete: kept" in run(*teacher, "loss.weight_kd_t=0", cwd=copy).stdout
    for change in ("model.stem=8", "train.lr=0.1", "seed=1", "loss.class_balance=0.4"):
        assert change.split("=")[0] in error_of(*teacher, change, cwd=copy)


def test_a_run_goes_on_with_the_scenes_that_it_began_with(copy):
    student = ("train_student.py", "--config", "debug.yaml")
    ids = sorted(path.name[3:7] for path in (copy / "data/NYU/train/RGB").iterdir())
    (copy / "same.txt").write_text("\n".join(ids))
    same = run(*student, "--resume", "data.train_ids=same.txt", cwd=copy)
    assert "complete: kept" in same.stdout
    (copy / "fewer.txt").write_text("\n".join(ids[1:]))
    message = error_of(*student, "--resume", "data.train_ids=fewer.txt", cwd=copy)
    assert "debug_student.pth was trained on other scenes" in message
    assert "'4, checksum" in message and "instead of 3, checksum" in message
    # A teacher may have seen others, which is said.
    words = ("data.train_ids=fewer.txt", "train.student_path=fewer.pth")
    warning = run(*student, *words, cwd=copy).stderr
    assert "warning: teacher/debug_teacher.pth was trained on other scenes" in warning


def test_run_sh_trains_evaluates_and_keeps(work, tmp_path):
    """In a copy of the project, whose folders run.sh writes to."""
    project = tmp_path / "project"
    left_out = shutil.ignore_patterns(".*", "data", "logs", "visual_pred", "tests", "*.pth")
    shutil.copytree(ROOT, project, ignore=left_out)
    # Where the scenes are is said by the preset alone.
    (tmp_path / "it's data").symlink_to(work / "data")
    (scene, *_) = sorted(path.name[:7] for path in (work / "data/NYU/test/RGB").iterdir())
    (tmp_path / "one: #1.txt").write_text(scene)
    preset = yaml.safe_load((project / "configs/debug.yaml").read_text())
    preset["data"] |= {"root": f"{tmp_path}/it's data/NYU", "test_ids": f"{tmp_path}/one: #1.txt"}
    (project / "configs/debug.yaml").write_text(yaml.safe_dump(preset))

    def run_sh(*words):
        command = ["bash", "run.sh", "configs/debug.yaml", *words]
        environment = {**os.environ, "PYTHON": sys.executable}
        return subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )

    first = run_sh("output=results")
    assert first.returncode == 0, first.stderr
    assert (project / "visual_pred/debug_teacher/results.json").exists()
    assert (project / "results/results.json").exists()
    for title in ("debug_teacher on tsdf_cad, 1 scenes", "debug_student on tsdf, 1 scenes"):
        assert title in first.stdout
    files = [project / "teacher/debug_teacher.pth", project / "checkpoint/debug_student.pth"]
    before = [path.read_bytes() for path in files]
    other = run_sh("model.width=12")
    assert other.returncode == 2 and "debug_teacher.pth was made with other" in other.stderr
    assert [path.read_bytes() for path in files] == before


def test_a_new_run_keeps_the_file_of_the_old_one(copy):
    before = (copy / "teacher/debug_teacher.pth").read_bytes()
    run("train_teacher.py", "--config", "debug.yaml", "seed=1", cwd=copy)
    assert (copy / "teacher/debug_teacher_previous.pth").read_bytes() == before
    assert (copy / "teacher/debug_teacher.pth").read_bytes() != before


def test_without_distillation_no_teacher_is_needed(copy):
    shutil.rmtree(copy / "teacher")
    shutil.rmtree(copy / "data/NYUCAD")
    weights = [f"loss.weight_kd_{name}=0" for name in ("t", "sc", "sa")]
    run("train_student.py", "--config", "debug.yaml", *weights, cwd=copy)
    (row,) = read_checkpoint(copy / "checkpoint/debug_student.pth").meta["history"]
    assert "kd_t" not in row


def test_wrong_inputs_of_training(copy):
    train = ("train_student.py", "--config", "debug.yaml")
    assert "did you mean train.epochs" in error_of(*train, "train.epoch=1", cwd=copy)
    assert "absent.yaml" in error_of("train_teacher.py", "--config", "absent.yaml", cwd=copy)
    absent = "train.teacher_path=absent.pth"
    assert "absent.pth does not exist" in error_of(*train, absent, cwd=copy)
    other = error_of(*train, "model.width=12", cwd=copy)
    assert "debug_teacher.pth was made with other settings (model.width=8 instead of 12)" in other
    assert "no/such" in error_of(*train, "data.root=no/such", cwd=copy)
    assert "too few" in error_of(*train, "train.batch_size=5", cwd=copy)
    student = error_of(*train, "train.teacher_path=checkpoint/debug_student.pth", cwd=copy)
    assert "debug_student.pth is no teacher" in student
    (copy / "teacher/debug_teacher.pth").write_text("not weights")
    assert "debug_teacher.pth" in error_of(*train, cwd=copy)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_named(workers, copy):
    evaluate = ("test_NYU.py", "--pretrained_path", "checkpoint/debug_student.pth")
    setting = f"data.workers={workers}"
    tsdf = copy / "data/NYU/TSDF/0001.npz"
    arrays = np.load(tsdf)
    volume = arrays["arr_0"].copy()
    volume[5] = np.nan
    np.savez(tsdf, volume, arrays["arr_1"])
    assert "TSDF/0001.npz" in error_of(*evaluate, setting, cwd=copy)
    tsdf.write_bytes(tsdf.read_bytes()[:1000])
    assert "TSDF/0001.npz" in error_of(*evaluate, setting, cwd=copy)
    shutil.rmtree(copy / "data/NYUCAD")
    message = error_of("train_teacher.py", "--config", "debug.yaml", setting, cwd=copy)
    assert "NYUCAD/TSDF" in message and "prepare_NYU.py cad" in message


def test_wrong_checkpoints_of_evaluation(copy):
    def evaluate(path):
        return error_of("test_NYU.py", "--pretrained_path", path, cwd=copy)

    data = (copy / "checkpoint/debug_student.pth").read_bytes()
    (copy / "half.pth").write_bytes(data[: len(data) // 2])
    (copy / "text.pth").write_text("hello")
    assert "absent.pth does not exist" in evaluate("absent.pth")
    assert "half.pth" in evaluate("half.pth")
    assert "text.pth" in evaluate("text.pth")
    student = ("--pretrained_path", "checkpoint/debug_student.pth")
    assert "does not fit" in error_of("test_NYU.py", *student, "model.width=12", cwd=copy)
    (copy / "empty/test/RGB").mkdir(parents=True)
    assert "empty" in error_of("test_NYU.py", *student, "data.root=empty", cwd=copy)


def test_an_output_folder_that_cannot_be_made_is_named(copy):
    (copy / "file").write_text("in the way")
    student = ("--pretrained_path", "checkpoint/debug_student.pth")
    assert "file" in error_of("test_NYU.py", *student, "output=file/out", cwd=copy)


def test_a_refusal_is_one_line_of_a_real_command(tmp_path):
    command = [sys.executable, ROOT / "test_NYU.py", "--pretrained_path", "absent.pth"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: absent.pth does not exist")
    assert len(result.stderr.splitlines()) == 1


def test_settings_can_be_printed(tmp_path):
    path = ROOT / "configs/nyu_small.yaml"
    printed = run("config.py", "--config", path, "--get", "train.lr", "train.lr=5e-4", cwd=tmp_path)
    assert printed.stdout == "0.0005\n"
    printed = yaml.safe_load(run("config.py", "--config", path, cwd=tmp_path).stdout)
    assert printed == load_config(path)
    assert "train.lr" in error_of("config.py", "--get", "train.lt", cwd=tmp_path)


@pytest.mark.slow
def test_two_processes_train_and_evaluate_like_one(work, tmp_path):
    def torchrun(*words):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        script, *words = map(str, words)
        return subprocess.run(
            [*command, str(ROOT / script), *words],
            cwd=work, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip

    path = tmp_path / "two.pth"
    torchrun(
        "train_student.py", "--config", "debug.yaml", "train.batch_size=1",
        f"train.student_path={path}",
    )  # fmt: skip
    (row,) = read_checkpoint(path).meta["history"]
    evaluate = ("test_NYU.py", "--pretrained_path", path)
    torchrun(*evaluate, f"output={tmp_path}/two")
    run(*evaluate, f"output={tmp_path}/one", cwd=work)
    two, one = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("two", "one"))
    assert two == one
    assert row["ssc_miou"] == pytest.approx(one["ssc"]["miou"], abs=0.01)
    plys = [{path.name for path in (tmp_path / n).glob("*.ply")} for n in ("two", "one")]
    assert plys[0] == plys[1]
