"""What goes wrong in days of training: full disks, lost files, killed workers, NaN, signals."""

import contextlib
import csv
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from make_nyu import make_nyu_root
from small_network import CPU, SmallNetwork, assert_same, content, small_run, small_settings

from datasets.nyu import build_dataset
from errors import InputError, exit_on_input_error
from utils import training
from utils.checkpoint import find_checkpoint, save_checkpoint
from utils.evaluation import evaluate
from utils.files import atomic_file, write_text
from utils.signals import Stopped
from utils.step import Objective, build_optimizer, train_step


@pytest.fixture(scope="module")
def nyu(tmp_path_factory):
    return make_nyu_root(tmp_path_factory.mktemp("data"), train=4, test=2, cad=False)


@pytest.fixture(scope="module")
def undisturbed(nyu, tmp_path_factory):
    """The checkpoint of two epochs, four steps each, that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    before = os.getcwd()
    os.chdir(folder)
    small_run(small_settings(nyu, "train.epochs=2"))
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class AtStep(Objective):
    """Does something when the loss of one training step (counted from 1) is computed."""

    def __init__(self, cfg, step, action):
        super().__init__(cfg.loss, "tsdf")
        self.step, self.action, self.calls = step, action, 0

    def losses(self, model, batch, counts):
        self.calls += 1
        losses = super().losses(model, batch, counts)
        if self.calls == self.step:
            return self.action(losses, batch) or losses
        return losses


def assert_resumes(cfg, undisturbed):
    small_run(cfg, resume=True)
    assert_same(content("run.pth"), content(undisturbed / "run.pth"))


def temporaries(folder):
    return list(folder.rglob("*.tmp"))


# ---- disks ----


@contextlib.contextmanager
def file_limit(size):
    """No file may become longer than `size` bytes, as on a full disk.

    Not a fixture: that would end after pytest has reported, to a log which may be longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_older_file(own_folder):
    write_text("table.csv", "old")
    save_checkpoint("big.pth", torch.nn.Linear(9, 9), {"epoch": 1})
    old = Path("big.pth").read_bytes()
    with file_limit(20_000):
        with pytest.raises(InputError, match=r"table\.csv cannot be written.*free space"):
            write_text("table.csv", "new" * 10_000)
        with pytest.raises(InputError, match=r"big\.pth cannot be written.*free space"):
            save_checkpoint("big.pth", torch.nn.Linear(99, 99), {"epoch": 2})
    assert Path("table.csv").read_text() == "old" and Path("big.pth").read_bytes() == old
    assert not temporaries(own_folder)


def test_training_on_a_full_disk_stops_and_goes_on(nyu, undisturbed, own_folder):
    cfg = small_settings(nyu, "train.epochs=2", "train.save_steps=1")
    size = (undisturbed / "run.pth").stat().st_size
    with contextlib.ExitStack() as disk:
        fill = AtStep(cfg, 6, lambda losses, batch: disk.enter_context(file_limit(size // 2)))
        with pytest.raises(InputError, match=r"run\.pth cannot be written"):
            small_run(cfg, objective=fill)
    meta = find_checkpoint("run.pth").meta
    assert (meta["epoch"], meta["unfinished"]["step"]) == (1, 1)
    assert not temporaries(own_folder)
    assert_resumes(cfg, undisturbed)


def test_any_failure_while_writing_leaves_the_older_file(own_folder):
    write_text("file", "old")
    with pytest.raises(RuntimeError), atomic_file("file") as file:
        file.write(b"half of the new")
        raise RuntimeError("anything")
    assert Path("file").read_text() == "old" and not temporaries(own_folder)


def test_an_unwritable_folder_is_found_before_the_first_step(nyu, own_folder):
    (own_folder / "file").write_text("in the way")
    cfg = small_settings(nyu)
    objective = AtStep(cfg, 0, None)
    with pytest.raises(InputError, match="file.*cannot be written.*choose a folder"):
        small_run(cfg, "file/run.pth", objective)
    assert objective.calls == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_found_before_the_first_step(nyu, own_folder):
    (own_folder / "locked").mkdir(mode=0o555)
    cfg = small_settings(nyu)
    with pytest.raises(InputError, match="locked.*cannot be written"):
        small_run(cfg, "locked/run.pth", AtStep(cfg, 0, None))


# ---- data ----


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_data_folder_is_named(workers, nyu, undisturbed, own_folder, capsys):
    root = shutil.copytree(nyu, own_folder / "NYU")
    cfg = small_settings(root, "train.epochs=2", f"data.workers={workers}", "train.save_steps=1")
    away = own_folder / "away"
    vanish = AtStep(cfg, 5, lambda losses, batch: root.rename(away) and None)
    with pytest.raises(SystemExit) as end:
        exit_on_input_error(small_run)(cfg, objective=vanish)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith(f"error: {root}/") and "Traceback" not in line
    away.rename(root)
    assert_resumes(cfg, undisturbed)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_sample_is_named(workers, nyu, own_folder, capsys):
    root = shutil.copytree(nyu, own_folder / "NYU")
    bad = root / "TSDF" / "0005.npz"
    bad.write_bytes(bad.read_bytes()[:3000])
    cfg = small_settings(root, f"data.workers={workers}")
    with pytest.raises(SystemExit):
        exit_on_input_error(small_run)(cfg)
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and errors[0].startswith(f"error: {bad}: ")


def test_a_killed_worker_ends_the_run_with_advice(nyu, undisturbed, capsys):
    cfg = small_settings(nyu, "train.epochs=2", "data.workers=1", "train.save_steps=1")
    others = multiprocessing.active_children()

    def kill(losses, batch):
        (worker,) = [child for child in multiprocessing.active_children() if child not in others]
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()

    with pytest.raises(SystemExit) as end:
        exit_on_input_error(small_run)(cfg, objective=AtStep(cfg, 2, kill))
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: a process that reads data was killed")
    assert "data.workers" in line and "--resume" in line
    assert_resumes(cfg, undisturbed)


def test_other_errors_are_not_hidden():
    @exit_on_input_error
    def main():
        raise RuntimeError("a defect of the program")

    with pytest.raises(RuntimeError, match="a defect"):
        main()


# ---- losses ----


def not_finite(losses, batch):
    return {**losses, "loss_3d": losses["loss_3d"] * float("nan")}


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_scene(nyu, undisturbed):
    cfg = small_settings(nyu, "train.epochs=2", "train.save_steps=1")
    seen = []

    def poison(losses, batch):
        seen.extend(batch["name"])
        return not_finite(losses, batch)

    with pytest.raises(InputError) as error:
        small_run(cfg, objective=AtStep(cfg, 6, poison))
    assert f"not finite in epoch 2, step 2, for a scene of {seen[0]}:" in str(error.value)
    assert "train.lr" in str(error.value) and "train.max_skipped" in str(error.value)
    assert find_checkpoint("run.pth").meta["unfinished"]["step"] == 1
    assert_resumes(cfg, undisturbed)


def test_only_the_scenes_of_the_bad_micro_batch_are_named(nyu):
    cfg = small_settings(nyu, "train.batch_size=2", "train.accumulate=2")
    seen = []

    def poison(losses, batch):
        seen.extend(batch["name"])
        return not_finite(losses, batch)

    with pytest.raises(InputError) as error:
        small_run(cfg, objective=AtStep(cfg, 2, poison))
    assert f"for a scene of {', '.join(seen)}:" in str(error.value) and len(seen) == 2


def test_steps_that_are_not_finite_are_left_out_by_setting(nyu, capsys):
    """The epoch's means are those of the other steps; the number is kept over a restart."""
    cfg = small_settings(nyu, "train.epochs=2", "train.max_skipped=1")
    totals = []

    class Recording(AtStep):
        def total(self, losses):
            total = super().total(losses)
            totals.append(total.item())
            return total

    small_run(cfg, objective=Recording(cfg, 2, not_finite))
    assert "warning: loss or gradient is not finite in epoch 1, step 2" in capsys.readouterr().err
    with open("logs/run/metrics.csv") as file:
        first, second = csv.DictReader(file)
    good = [total for i, total in enumerate(totals[:4]) if i != 1]
    assert np.isnan(totals[1])
    assert float(first["total"]) == pytest.approx(np.mean(good), rel=1e-6)
    assert float(second["total"]) == pytest.approx(np.mean(totals[4:]), rel=1e-6)
    assert (first["skipped_steps"], second["skipped_steps"]) == ("1", "0")

    longer = small_settings(nyu, "train.epochs=3", "train.max_skipped=1")
    checkpoint = torch.load("run.pth", weights_only=True)
    checkpoint["meta"]["config"]["train"]["epochs"] = 3
    torch.save(checkpoint, "run.pth")
    with pytest.raises(InputError, match="not finite in epoch 3, step 1"):
        small_run(longer, objective=AtStep(longer, 1, not_finite), resume=True)


def one_batch(cfg):
    dataset = build_dataset(cfg.data, "train", with_cad=False, augment=False)
    return torch.utils.data.default_collate([dataset[0]])


def steps_apart(cfg, scaler, spoil):
    """States of network and optimiser before and after a step that `spoil` has spoilt."""
    torch.manual_seed(0)
    network, batch = SmallNetwork(), one_batch(cfg)
    optimizer = build_optimizer(network, cfg.train)
    objective = Objective(cfg.loss, "tsdf")
    words = scaler, objective, [batch], cfg.train, CPU
    train_step(network, optimizer, *words)

    def state():
        return torch.utils._pytree.tree_map(
            lambda value: value.clone() if torch.is_tensor(value) else value,
            {"network": dict(network.state_dict()), "optimizer": optimizer.state_dict()},
        )

    before = state()
    spoil(network, objective)
    _, flags = train_step(network, optimizer, *words)
    return before, state(), flags.tolist()


def test_a_step_left_out_changes_nothing(nyu):
    cfg = small_settings(nyu, "train.max_skipped=1")

    def nan_input(network, objective):
        spoil = network.feature.register_forward_hook(lambda m, i, out: out * float("nan"))
        network.register_forward_hook(lambda *_: spoil.remove())

    def overflow(network, objective):
        # A finite loss whose gradient is not.
        network.pixels.bias.register_hook(lambda grad: grad / 0)

    scaler = torch.amp.GradScaler("cpu", enabled=False)
    before, after, flags = steps_apart(cfg, scaler, nan_input)
    assert_same(before, after)
    assert flags == [True, True]
    before, after, flags = steps_apart(cfg, scaler, overflow)
    del before["network"], after["network"]  # batch statistics are finite, but kept as well
    assert_same(before, after)
    assert flags == [True, False]


def test_a_good_step_changes_weights_optimiser_and_statistics(nyu):
    cfg = small_settings(nyu, "train.max_skipped=1")
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    before, after, flags = steps_apart(cfg, scaler, lambda *_: None)
    assert flags == [False, False]
    changed = {
        name for name, value in before["network"].items()
        if not torch.equal(value, after["network"][name])
    }  # fmt: skip
    assert changed == {name for name in before["network"] if not name.startswith("tsdf_net.")}


def test_gradients_that_overflow_in_fp16_are_the_scalers_affair(nyu):
    cfg = small_settings(nyu)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before, after, flags = steps_apart(
        cfg, scaler, lambda network, _: network.pixels.bias.register_hook(lambda grad: grad / 0)
    )
    assert flags == [False, False] and scaler.get_scale() == 2.0
    assert_same(before["optimizer"], after["optimizer"])


def test_an_infinite_loss_with_finite_gradients_is_left_out_in_fp16(nyu):
    cfg = small_settings(nyu)

    def spoil(network, objective):
        losses = objective.losses
        objective.losses = lambda *words: {
            name: loss + float("inf") for name, loss in losses(*words).items()
        }

    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before, after, flags = steps_apart(cfg, scaler, spoil)
    assert flags == [True, True] and scaler.get_scale() == 2.0
    for part in (before, after):  # batch statistics are finite, and not kept without max_skipped
        part["network"] = {k: v for k, v in part["network"].items() if "running_" not in k}
        part["network"].pop("voxels.0.num_batches_tracked")
    assert_same(before, after)


# ---- signals ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_after_the_step_and_ends(number, nyu, undisturbed, capsys):
    cfg = small_settings(nyu, "train.epochs=2", "data.workers=1")

    def send(losses, batch):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # as launchers and Slurm do

    handler = signal.getsignal(number)
    with pytest.raises(Stopped) as end:
        small_run(cfg, objective=AtStep(cfg, 6, send))
    assert end.value.code == 128 + number
    assert signal.getsignal(number) is handler
    assert "saved, go on with --resume" in capsys.readouterr().out
    meta = find_checkpoint("run.pth").meta
    assert (meta["epoch"], meta["unfinished"]["step"]) == (1, 2)
    assert_resumes(cfg, undisturbed)


def test_a_signal_during_evaluation_saves_and_ends_at_once(nyu, undisturbed, monkeypatch):
    cfg = small_settings(nyu, "train.epochs=2")

    def evaluate_and_stop(*words, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the evaluation went on")

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(training, "evaluate", evaluate_and_stop)
        small_run(cfg)
    assert find_checkpoint("run.pth").meta["unfinished"]["step"] == 4
    assert_resumes(cfg, undisturbed)


class SignalledReaders:
    """A data set whose reader gets the signal that was sent to the whole job."""

    def __init__(self, dataset):
        self.dataset, self.scenes = dataset, dataset.scenes

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        os.kill(os.getpid(), signal.SIGTERM)
        return self.dataset[i]


def test_processes_that_read_for_an_evaluation_outlive_a_signal(nyu):
    """The main process would otherwise end by their death, before it saved."""
    dataset = build_dataset(small_settings(nyu).data, "test", with_cad=False, augment=False)
    network = SmallNetwork()
    with mock.patch("utils.evaluation.prepare_for_inference", torch.nn.Module.eval):
        _, expected = evaluate(network, dataset, "tsdf", CPU)
        _, found = evaluate(network, SignalledReaders(dataset), "tsdf", CPU, workers=1)
    assert list(found) == list(expected) != []


def test_checkpoints_within_an_epoch_by_time(nyu, monkeypatch):
    cfg = small_settings(nyu, "train.save_minutes=1e-9")
    saved = []
    monkeypatch.setattr(training, "save_checkpoint", lambda path, *rest: saved.append(str(path)))
    small_run(cfg)
    assert saved == ["run.pth"] * 4 + ["run_best.pth", "run.pth"]


# ---- checkpoints ----


@pytest.fixture
def stopped(nyu, undisturbed):
    """Settings of a run that stopped in its second epoch, with a backup one step older."""
    cfg = small_settings(nyu, "train.epochs=2", "train.save_steps=1")
    with pytest.raises(Stopped):
        stop = AtStep(cfg, 7, lambda losses, batch: os.kill(os.getpid(), signal.SIGTERM))
        small_run(cfg, objective=stop)
    assert find_checkpoint("run.pth").meta["unfinished"]["step"] == 3
    return cfg


def cut(data):
    return data[: len(data) // 2]


def flip_a_bit(data):
    """In the middle of a tensor, where unpickling does not look."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    value = content["model"]["voxels.2.weight"].numpy().tobytes()
    assert data.count(value) == 1
    place = data.index(value) + 5
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flip_a_bit, lambda data: b""])
def test_a_broken_checkpoint_is_skipped(damage, stopped, undisturbed, own_folder, capsys):
    path = own_folder / "run.pth"
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    assert find_checkpoint("run.pth").meta["unfinished"]["step"] == 2
    warning = capsys.readouterr().err
    assert warning.startswith("warning: run.pth") and "run_backup.pth is taken" in warning
    assert_resumes(stopped, undisturbed)
    assert (own_folder / "run_broken.pth").read_bytes() == broken


def test_a_missing_checkpoint_with_a_backup(stopped, undisturbed, own_folder):
    """As a kill leaves it between the two renamings of a save."""
    (own_folder / "run.pth").unlink()
    assert_resumes(stopped, undisturbed)


def test_without_an_intact_checkpoint_nothing_is_begun(stopped, own_folder):
    for name in ("run.pth", "run_backup.pth"):
        (own_folder / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"run\.pth.*run_backup\.pth.*move"):
        find_checkpoint("run.pth")
    assert find_checkpoint("absent.pth") is None


def test_a_new_run_never_goes_on_with_the_backup_of_an_older_one(stopped, own_folder):
    before = (own_folder / "run.pth").read_bytes()
    (own_folder / "run_best.pth").write_bytes(b"best epoch of the older run")
    for left in (".run.pth.123.tmp", "logs/run/.curves.png.123.tmp"):
        (own_folder / left).write_bytes(b"left by a killed run")

    def stop_before_the_first_save(losses, batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(stopped, objective=AtStep(stopped, 1, stop_before_the_first_save))
    assert (own_folder / "run_previous.pth").read_bytes() == before
    best = own_folder / "run_previous_best.pth"
    assert best.read_bytes() == b"best epoch of the older run"
    assert not (own_folder / "run_best.pth").exists()
    assert find_checkpoint("run.pth") is None
    assert not temporaries(own_folder)


def test_another_data_set_does_not_go_on_within_an_epoch(stopped, nyu, own_folder):
    root = shutil.copytree(nyu, own_folder / "NYU")
    (root / "train/RGB/NYU0006_rgb.png").unlink()
    cfg = small_settings(root, "train.epochs=2")
    with pytest.raises(InputError, match="epoch of 4 steps on 1 processes, now an epoch has 3"):
        small_run(cfg, resume=True)


# ---- the run folder ----


def test_the_run_folder_says_what_was_run(stopped, undisturbed, own_folder):
    small_run(stopped, resume=True)
    folder = own_folder / "logs/run"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["seed"] == 0 and settings["train"]["save_steps"] == 1
    starts = [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]
    assert len(starts) == 2
    for start in starts:
        assert torch.__version__.startswith(start["versions"]["torch"])
        assert start["command"] and start["seed"] == 0 and start["processes"] == 1
        revision = start["git_revision"]
        assert revision is None or len(revision) == 40
    with open(folder / "results.csv") as file:
        paper, everything, known = csv.DictReader(file)
    with open(folder / "metrics.csv") as file:
        last = list(csv.DictReader(file))[-1]
    protocols = [row["protocol"] for row in (paper, everything, known)]
    assert protocols == ["paper", "all_voxels", "known"]
    assert paper["IoU"] == last["sc_iou"] and paper["bed"] == last["ssc_bed"]
    assert everything["avg."] == last["all_voxels_ssc_miou"]


def test_determinism_is_switched_on_by_setting(nyu, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    small_run(small_settings(nyu))
    assert not asked
    small_run(small_settings(nyu, "train.deterministic=true"))
    assert asked == [True] and os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"
