"""Every setting, with the paper's value as default.

    cfg = load_config("configs/nyu_small.yaml", ["train.epochs=2", "data.root=/data/NYU"])
    cfg.train.epochs  # 2

A preset (configs/*.yaml) holds only what differs from the defaults; `key.sub=value` overrides it.
"""

import argparse
import contextlib
import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path

import yaml
from easydict import EasyDict

from errors import InputError, exit_on_input_error, one_line

DEFAULTS = {
    "seed": 0,  # of initialisation, order, augmentation, dropout and flips
    "output": "",  # folder that test_NYU.py writes; empty: visual_pred/<name of the checkpoint>
    "data": {
        "root": "data/NYU",  # prepared NYU folder (docs/DATA.md)
        "cad_root": "",  # folder with TSDF-CAD; empty: cad in data.root, or NYUCAD beside it
        "train_ids": "",  # file with scene ids; empty: <root>/train.txt, else all in train/RGB
        "test_ids": "",  # likewise for the scenes to evaluate
        "input": "",  # tsdf or tsdf_cad; empty: tsdf_cad for a teacher, tsdf for a student
        "photometric": "original",  # colour augmentation: original (as published) or standard
        "workers": 6,  # loader processes per training process, at most one a CPU core
    },
    "model": {
        "encoder": "mit_b2",  # of the 2DNet: a name of segmentation-models-pytorch
        "pretrained": "checkpoint/mit_b2.pth",  # its weights: a file, imagenet (download), none
        "freeze_encoder": True,  # train everything but the 2D encoder
        "head": "segformer",  # of the 2DNet: segformer, sketch (the paper's ResNet50), segmenter
        "image_scale": 1.0,  # the image is resized by it before the 2D encoder
        "width": 256,  # feature width f of the 2D head and the 3D networks
        "stem": 64,  # channels of the TSDF stem
    },
    "loss": {
        "label_smoothing": 0.2,  # of both cross-entropies
        "class_balance": 0.0,  # of both: inverse class frequency to this power weighs a voxel
        "free_space": 0.0,  # weight of empty voxels without label_weight; 0: none there is learnt
        "weight_3d": 1.0,  # cross-entropy of the voxels
        "weight_2d": 0.25,  # cross-entropy of the mapped pixels
        "weight_lovasz": 0.0,  # Lovász-softmax of the voxels; not the paper's
        "weight_affinity": 0.0,  # MonoScene's scene-class affinity losses; not the paper's
        "weight_kd_t": 0.25,  # KD-T: TSDF features
        "weight_kd_sc": 0.25,  # KD-SC: class centres
        "weight_kd_sa": 0.25,  # KD-SA: voxel-to-centre affinities
    },
    "train": {
        "epochs": 100,  # length of training and of the cosine schedule
        "batch_size": 2,  # scenes per process and forward pass
        "accumulate": 1,  # forward passes per optimiser step
        "lr": 1e-3,  # learning rate of the first epoch
        "encoder_lr": 1.0,  # of a 2D encoder that is trained, times the learning rate
        "lr_min": 1e-7,  # learning rate that the cosine approaches
        "weight_decay": 0.05,  # of weights with two or more dimensions
        "clip_norm": 10.0,  # L2 norm to which gradients are clipped
        "precision": "fp32",  # fp32, tf32; mixed: bf16, fp16; auto: bf16 where that is faster
        "recompute": "auto",  # what the backward pass needs; auto: where a GPU's memory is small
        "sync_bn": True,  # shared batch statistics over processes (CUDA only)
        "eval_every": 1,  # epochs between evaluations on the test scenes; 0: after the last only
        "save_minutes": 10.0,  # between checkpoints within an epoch; 0: none by time
        "save_steps": 0,  # optimiser steps between checkpoints within an epoch; 0: none by count
        "max_skipped": 0,  # steps with a non-finite loss that a run leaves out before it stops
        "deterministic": False,  # on GPUs too the same weights from every run; slower
        "teacher_path": "teacher/Teacher_ckpt.pth",  # written by train_teacher.py
        "student_path": "checkpoint/CleanerS_ckpt.pth",  # written by train_student.py
    },
    "test": {
        "flips": False,  # test_NYU.py: mean logits over the four flips of 3D-SSCNet's input
    },
}

CHOICES = {
    "data.input": ("", "tsdf", "tsdf_cad"),
    "data.photometric": ("original", "standard"),
    "model.head": ("segformer", "sketch", "segmenter"),
    "train.recompute": ("auto", "true", "false"),
    "train.precision": ("fp32", "tf32", "bf16", "fp16", "auto"),
}

MAX_PRESET_BYTES = 1 << 16
# Smallest and largest value of a number; at least 0 where nothing is said here.
RANGES = {
    "seed": (0, 2**31 - 1),
    "model.image_scale": (0.05, 4),
    "model.width": (4, 4096),
    "model.stem": (1, 4096),
    "loss.label_smoothing": (0, 1),
    "loss.class_balance": (0, 1),
    "loss.free_space": (0, 1),
    "train.epochs": (1, 10**6),
    "train.batch_size": (1, 10**6),
    "train.accumulate": (1, 10**6),
}


def _short(value: object) -> str:
    """What a user wrote, on one line, and never long: nested lists can have no end."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python prints no integers of thousands of digits
        return "so many digits"


def _convert(key: str, value: object, default: object, source: str) -> object:
    """The value in the type of its default; 1e-3 is a string to YAML, but a number to us."""
    kind = type(default)
    if kind is float and type(value) in (int, str):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if kind is str and value is None:
        value = ""
    if type(value) is bool and "true" in CHOICES.get(key, ()):
        value = str(value).lower()
    if type(value) is not kind or (kind is str and not value.isprintable()):
        raise InputError(f"{source}: {key} must be of type {kind.__name__}, not {_short(value)}")
    if key in CHOICES and value not in CHOICES[key]:
        allowed = ", ".join(choice or "(empty)" for choice in CHOICES[key])
        raise InputError(f"{source}: {key} must be one of {allowed}, not {_short(value)}")
    low, high = RANGES.get(key, (0, 1e30))
    if kind in (int, float) and not low <= value <= high:
        raise InputError(f"{source}: {key} must be in {low}..{high:.10g}, not {_short(value)}")
    if key == "model.width" and value % 4:
        raise InputError(f"{source}: model.width must be a multiple of 4, not {value}")
    return value


def flatten(settings: dict, prefix: str = "") -> Iterable[tuple[str, object]]:
    """("train.lr", 0.001) and so on, of nested settings."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _unknown(key: str) -> str:
    close = difflib.get_close_matches(key, dict(flatten(DEFAULTS)), n=1, cutoff=0)
    return f"unknown setting {key}; did you mean {close[0]}?"


def _merge(settings: dict, changes: dict, source: str, prefix: str = "") -> None:
    if not isinstance(changes, dict):
        where = prefix.rstrip(".") or "a preset"
        raise InputError(f"{source}: {where} must hold `key: value` lines, not {_short(changes)}")
    for name, value in changes.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > 100:
            raise InputError(f"{source}: {_short(name)} is not the name of a setting")
        key = f"{prefix}{name}"
        if name not in settings:
            while isinstance(value, dict) and value and len(key) < 100:
                name, value = next(iter(value.items()))
                key = f"{key}.{_short(name).strip(chr(39))}"
            raise InputError(f"{source}: {_unknown(key)}")
        if isinstance(settings[name], dict):
            _merge(settings[name], value, source, f"{key}.")
        else:
            settings[name] = _convert(key, value, settings[name], source)


class _Loader(yaml.SafeLoader):
    """Plain values only, and no references: a few lines of them can stand for a billion values."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references (*name) are not allowed")
        return super().compose_node(parent, index)


def _parse_yaml(text: str, source: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # malformed dates, numbers, tags, depth: each raises its own
        raise InputError(f"{source} is not valid YAML: {one_line(error)}") from error


def merge_config(
    settings: dict, changes: dict, source: str, overrides: Iterable[str] = ()
) -> EasyDict:
    """A copy of settings with checked changes, from `source`, and `key.sub=value` overrides."""
    merged = to_plain(settings)
    _merge(merged, changes, source)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"{override!r} is not a setting: write key.sub=value")
        change = _parse_yaml(text, override)
        for name in reversed(key.split(".")):
            change = {name: change}
        _merge(merged, change, override)
    return EasyDict(merged)


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> EasyDict:
    """The defaults, changed by a preset and by `key.sub=value` overrides."""
    changes = {}
    if path is not None:
        try:
            if Path(path).stat().st_size > MAX_PRESET_BYTES or not Path(path).is_file():
                raise OSError(f"no file, or larger than {MAX_PRESET_BYTES} bytes")
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as a preset: {error}") from error
        changes = _parse_yaml(text, str(path)) or {}
    return merge_config(DEFAULTS, changes, str(path), overrides)


def to_plain(cfg: EasyDict) -> dict:
    """Settings as plain dicts, for files."""
    return {k: to_plain(v) if isinstance(v, dict) else v for k, v in cfg.items()}


def parse_settings(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse a script's command line; `args.overrides` has the key.sub=value words."""
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change a setting")
    return parser.parse_intermixed_args()


def parse_training(description: str) -> tuple[EasyDict, bool]:
    """The command line of a training script: its settings, and whether to resume."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", default="configs/nyu_segformer_b2.yaml", help="preset")
    resume = "go on where the checkpoint stands, if it exists"
    parser.add_argument("--resume", action="store_true", help=resume)
    args = parse_settings(parser)
    return load_config(args.config, args.overrides), args.resume


@exit_on_input_error
def main() -> None:
    """Print all settings or one: python config.py --config configs/debug.yaml [--get train.lr]."""
    parser = argparse.ArgumentParser(description="Print the settings of a preset.")
    parser.add_argument("--config", help="preset; default: the paper's values")
    parser.add_argument("--get", metavar="key.sub", help="print this setting alone")
    args = parse_settings(parser)
    cfg = load_config(args.config, args.overrides)
    values = dict(flatten(cfg))
    if args.get is None:
        print(yaml.safe_dump(to_plain(cfg), sort_keys=False), end="")
    elif args.get in values:
        print(values[args.get])
    else:
        raise InputError(_unknown(args.get))


if __name__ == "__main__":
    main()
