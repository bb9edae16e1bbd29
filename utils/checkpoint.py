"""A run on disk: its networks, and the training state that continues it.

The layout of a network's file, ours or the original's, is that of models/checkpoints.py.
"""

import os
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from config import DEFAULTS, flatten, merge_config
from datasets.nyu import NYUDataset, build_dataset
from errors import InputError
from models import build_model
from models.checkpoints import FORMAT, Checkpoint, load_strictly, model_settings, read_checkpoint
from models.encoder_weights import names_a_file
from models.network import CleanerS
from utils import distributed
from utils.files import atomic_file, remove_temporaries

# Where things are on the machine of who runs it, for no file to say.
CALLERS_SETTINGS = (
    "output", "data.root", "data.cad_root", "data.train_ids", "data.test_ids", "data.workers",
    "train.teacher_path", "train.student_path",
)  # fmt: skip
# Settings that say where and how fast, not what is learnt.
LOCAL_SETTINGS = (
    *CALLERS_SETTINGS, "data.input", "model.pretrained", "train.eval_every", "train.save_minutes",
    "train.save_steps", "train.max_skipped", "train.recompute", "train.deterministic", "test.flips",
)  # fmt: skip


def beside(path: str | Path, suffix: str) -> Path:
    """checkpoint/CleanerS_ckpt.pth -> checkpoint/CleanerS_ckpt_<suffix>.pth."""
    return Path(path).with_name(f"{Path(path).stem}_{suffix}.pth")


def run_name(path: str | Path) -> str:
    """checkpoint/CleanerS_ckpt.pth -> CleanerS."""
    return Path(path).stem.removesuffix("_ckpt")


def without_callers(config: dict) -> dict:
    """Nested settings but for CALLERS_SETTINGS, and for a model.pretrained that is a file."""

    def is_callers(section: str, name: str, value: object) -> bool:
        if (section, name) == ("model", "pretrained"):
            return isinstance(value, str) and names_a_file(value)
        return (section, name) in {tuple(key.split(".")) for key in CALLERS_SETTINGS}

    kept = {key: value for key, value in config.items() if key not in CALLERS_SETTINGS}
    for section, values in kept.items():
        if isinstance(values, dict):
            own = {n: value for n, value in values.items() if not is_callers(section, n, value)}
            kept[section] = own
    return kept


def save_checkpoint(
    path: str | Path, model: nn.Module, meta: dict, training: dict | None = None
) -> None:
    """Write weights, metadata and training state, whole or not at all.

    meta: plain values: config, input (tsdf or tsdf_cad), epoch, ...; of the config all is kept but
    the caller's; training: optimiser and scaler state, None in a file that is only evaluated; with
    it, the older file becomes <name>_backup.pth.
    """
    if isinstance(meta.get("config"), dict):
        meta = meta | {"config": without_callers(meta["config"])}
    content, backup = {"format": FORMAT, "model": model.state_dict(), "meta": meta}, None
    if training is not None:
        content["training"], backup = training, beside(path, "backup")
    with atomic_file(path, backup) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # So does PyTorch's writer end when `file.write` failed.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def _read_intact(path: Path) -> Checkpoint:
    """read_checkpoint, after comparing the checksums, which torch.load does not."""
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":  # of another age, or something else, which is named
                return read_checkpoint(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is not a complete checkpoint ({error})") from error
    if damaged is not None:
        raise InputError(f"{path} is damaged: the checksum of {damaged} is wrong")
    return read_checkpoint(path)


def find_checkpoint(path: str | Path) -> Checkpoint | None:
    """The newest intact checkpoint of the run that writes `path`: that file, or its backup.

    None where there is neither. A broken file is skipped with a warning; raises InputError where
    none is intact.
    """
    problems = []
    for candidate in filter(Path.exists, (Path(path), beside(path, "backup"))):
        try:
            checkpoint = _read_intact(candidate)
        except InputError as error:
            problems.append(str(error))
            continue
        if problems and distributed.is_main():
            print(f"warning: {problems[0]}; {candidate} is taken", file=sys.stderr)
        return checkpoint
    if problems:
        raise InputError("; ".join(problems) + "; move the file away to start anew")
    return None


def set_aside_earlier_run(path: str | Path, checkpoint: Checkpoint | None) -> None:
    """Keep files of earlier runs, before a run writes its first.

    checkpoint: where the run goes on; None: it starts anew, and an older run's file becomes
    <name>_previous.pth, its best epoch <name>_previous_best.pth.
    """
    path, backup = Path(path), beside(path, "backup")
    remove_temporaries(path)
    if checkpoint is not None:
        if checkpoint.path != str(path) and path.exists():
            os.replace(path, beside(path, "broken"))  # or it would become the backup
        return
    if not path.exists() and backup.exists():
        os.replace(backup, path)
    if path.exists():
        print(f"{path} exists: moved to {beside(path, 'previous')}")
        os.replace(path, beside(path, "previous"))
        if beside(path, "best").exists():
            os.replace(beside(path, "best"), beside(path, "previous_best"))
    backup.unlink(missing_ok=True)


def restore(
    checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer, scaler: GradScaler
) -> None:
    """Fill model, optimiser and scaler, to go on where the checkpoint was written."""
    load_strictly(model, checkpoint.state, checkpoint.path)
    try:
        state = checkpoint.training["optimizer"]
        # The kind of implementation is this run's affair, and older files have no lr_scale.
        for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
            group |= {key: own[key] for key in ("fused", "lr_scale")}
        optimizer.load_state_dict(state)
        for parameter, moments in optimizer.state.items():
            if any(moments[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
                raise ValueError("a moment of another shape than its weight")
        scaler.load_state_dict(checkpoint.training["scaler"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(
            f"{checkpoint.path} has no training state of these settings: it cannot be resumed"
        ) from error


def settings_of(checkpoint: Checkpoint, overrides: Iterable[str] = ()) -> EasyDict:
    """What a checkpoint of ours was made with, but for the caller's settings, and with overrides.

    overrides: key.sub=value. Raises InputError for what are no settings.
    """
    config = without_callers(checkpoint.meta["config"])  # older files have all
    return merge_config(DEFAULTS, config, str(checkpoint.path), overrides)


def named_scenes(dataset: NYUDataset) -> str:
    """Their number and a checksum of their ids: what a checkpoint says that it was trained on."""
    ids = " ".join(scene.id for scene in dataset.scenes)
    return f"{len(dataset)}, checksum {zlib.crc32(ids.encode()):08x}"


def other_scenes(checkpoint: Checkpoint, cfg: EasyDict) -> str | None:
    """None, or what to say where a checkpoint was trained on other scenes than these settings'."""
    theirs = (checkpoint.meta or {}).get("train_scenes")
    if not isinstance(theirs, str):  # older files do not say it
        return None
    ours = named_scenes(build_dataset(cfg.data, "train", with_cad=False, augment=False))
    if theirs == ours:
        return None
    return f"{checkpoint.path} was trained on other scenes ({theirs!r:.40} instead of {ours})"


def check_settings(
    checkpoint: Checkpoint, cfg: EasyDict, sections: tuple[str, ...], ignored: tuple[str, ...] = ()
) -> None:
    """Raise InputError unless a checkpoint was made with these settings, but for LOCAL_SETTINGS.

    sections: top-level names of the settings to compare; ignored: settings that may differ as well.
    """
    if checkpoint.meta is None:
        if distributed.is_main():
            kind = "a file of the original" if checkpoint.is_original else "weights alone"
            print(f"{checkpoint.path}: {kind}, which does not say its settings")
        return
    theirs = dict(flatten(settings_of(checkpoint)))
    different = [
        f"{key}={theirs[key]} instead of {value}"
        for key, value in flatten(cfg)
        if theirs[key] != value
        and key.split(".")[0] in sections
        and key not in (*LOCAL_SETTINGS, *ignored)
    ]
    if different:
        raise InputError(
            f"{checkpoint.path} was made with other settings ({', '.join(different)}): give the "
            "same, or move the file away"
        )


def find_resumable(
    path: str | Path, cfg: EasyDict, volume: str, ignored: tuple[str, ...] = ()
) -> Checkpoint | None:
    """find_checkpoint; raises InputError unless a run with these settings may go on there.

    volume: what the network is given, "tsdf" or "tsdf_cad"; ignored as in check_settings.
    """
    checkpoint = find_checkpoint(path)
    if checkpoint is not None:
        check_settings(checkpoint, cfg, ("seed", "data", "loss", "model", "train"), ignored)
        if checkpoint.meta is not None and checkpoint.meta["input"] != volume:
            raise InputError(
                f"{checkpoint.path} was trained on {checkpoint.meta['input']} instead of {volume}: "
                "give the same data.input, or move the file away"
            )
        if problem := other_scenes(checkpoint, cfg):
            raise InputError(
                f"{problem}: give the same data.root and data.train_ids, or move the file away"
            )
    return checkpoint


def is_finished(checkpoint: Checkpoint) -> bool:
    """Whether the run that writes this file is over."""
    meta = checkpoint.meta
    return meta is None or meta["epoch"] >= settings_of(checkpoint).train.epochs


def _settings_of_bare(checkpoint: Checkpoint, overrides: Iterable[str]) -> EasyDict:
    """Settings for weights alone: what they show, and what they do not as overrides say it."""
    shown, overrides = model_settings(checkpoint.state), list(overrides)
    if shown is None:
        raise InputError(f"{checkpoint.path}: its weights are not of one network of CleanerS")
    asked = {"model.encoder": "mobilenet_v2", "model.image_scale": "0.5", "data.input": "tsdf"}
    missing = asked.keys() - {word.partition("=")[0] for word in overrides}
    if missing:
        example = " ".join(f"{key}={asked[key]}" for key in asked if key in missing)
        raise InputError(
            f"{checkpoint.path} holds weights alone: say what they were trained with (for example "
            f"{example}), or give the checkpoint that they were taken from"
        )
    return merge_config(DEFAULTS, {"model": shown}, str(checkpoint.path), overrides)


def read_network(path: str | Path, overrides: Iterable[str] = ()) -> tuple[CleanerS, EasyDict, str]:
    """The network of a checkpoint, its settings with overrides, and its input: tsdf or tsdf_cad.

    What a file of the original does not say is assumed, which is printed; of weights alone it has
    to be said by overrides.
    """
    checkpoint, volume = read_checkpoint(path), "tsdf"
    if checkpoint.meta is not None:
        cfg, volume = settings_of(checkpoint, overrides), checkpoint.meta["input"]
    elif checkpoint.is_original:
        cfg = merge_config(DEFAULTS, {}, str(path), overrides)
        if distributed.is_main():
            print(f"{path}: a file of the original; assumed: preset nyu_segformer_b2,")
            print("input tsdf (the teacher's weights want data.input=tsdf_cad)")
    else:
        cfg = _settings_of_bare(checkpoint, overrides)
    model = build_model(cfg.model)
    load_strictly(model, checkpoint.state, path)
    return model, cfg, cfg.data.input or volume
