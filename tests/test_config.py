"""Settings: presets, overrides, and what is refused."""

import os
from pathlib import Path

import pytest

from config import DEFAULTS, load_config
from errors import InputError

PRESETS = sorted(Path("configs").glob("*.yaml"))


def test_overrides_win_over_the_preset(tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("train:\n  lr: 1e-2\n  epochs: 7\nseed: 3\n")
    cfg = load_config(preset, ["train.lr=1e-3", "data.root=/data/NYU", "train.clip_norm=5"])
    assert cfg.train.lr == 0.001 and isinstance(cfg.train.lr, float)
    assert (cfg.train.epochs, cfg.seed, cfg.data.root) == (7, 3, "/data/NYU")
    assert cfg.train.clip_norm == 5.0 and isinstance(cfg.train.clip_norm, float)
    assert DEFAULTS["seed"] == 0, "the defaults must not change"


def test_the_papers_values():
    cfg = load_config("configs/nyu_segformer_b2.yaml")
    assert (cfg.model.encoder, cfg.model.width, cfg.train.epochs) == ("mit_b2", 256, 100)
    assert (cfg.train.lr, cfg.train.weight_decay, cfg.train.batch_size) == (1e-3, 0.05, 2)
    assert (cfg.loss.label_smoothing, cfg.loss.weight_2d) == (0.2, 0.25)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(preset):
    load_config(preset)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "did you mean train.epochs"),
        ("modle.width=3", "did you mean model.width"),
        ("train.epochs=many", "train.epochs must be of type int"),
        ("train.epochs=1.5", "train.epochs must be of type int"),
        ("train.epochs=true", "train.epochs must be of type int"),
        ("train.lr=fast", "train.lr must be of type float"),
        ("train.lr=nan", "train.lr must be in 0.."),
        ("train.lr=-1", "train.lr must be in 0.."),
        ("train.batch_size=0", "train.batch_size must be in 1.."),
        ("model.width=30", "multiple of 4"),
        ("model.image_scale=0", "model.image_scale must be in 0.05..4"),
        ("loss.label_smoothing=2", "loss.label_smoothing must be in 0..1"),
        ("seed=99999999999999999", "seed must be in 0..2147483647"),
        ("model.freeze_encoder=1", "model.freeze_encoder must be of type bool"),
        ("train.precision=fp8", "train.precision must be one of fp32, tf32, bf16, fp16, auto"),
        ("train=3", "train must hold"),
        ("train.lr", "write key.sub=value"),
        ("data.root=[a", "not valid YAML"),
        ("data.root=[a]", "data.root must be of type str"),
    ],
)
def test_wrong_settings_are_one_clear_line(override, message):
    with pytest.raises(InputError) as caught:
        load_config(overrides=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["- a list\n", "train: {lr: [1\n", "just words\n", "trian: {lr: 1}\n", "\x00\x01"]
)
def test_broken_presets_name_the_file(tmp_path, text):
    preset = tmp_path / "broken.yaml"
    preset.write_text(text)
    with pytest.raises(InputError, match="broken.yaml"):
        load_config(preset)


def test_a_missing_preset_names_the_file(tmp_path):
    with pytest.raises(InputError, match="absent.yaml"):
        load_config(tmp_path / "absent.yaml")


def test_yaml_cannot_run_code(tmp_path):
    preset = tmp_path / "evil.yaml"
    preset.write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(InputError, match="evil.yaml"):
        load_config(preset)
    assert not (tmp_path / "made").exists()


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "[" * 20000,
        "data: " * 9000,
        "seed: 0x" + "f" * 20000,
        "seed: " + "9" * 20000,
        "train: {lr: 0x" + "f" * 2000 + "}",
        "seed: !!timestamp later",
        "seed: !!bool perhaps",
        "seed: !!int ''",
        "seed: 2001-99-99",
        '"se\\ned": 1',
        '"\\ud800": 1',
        'data: {root: "a\\0b"}',
        'data: {root: "\\ud800"}',
        "? [a, b]\n: 1",
        f"{'x' * 60000}: 1",
        "x: " + "1" * 70000,
        "seed: !!python/name:os.system",
    ],
)
def test_hostile_presets_are_one_short_line(tmp_path, text):
    preset = tmp_path / "hostile.yaml"
    preset.write_text(text)
    with pytest.raises(InputError, match="hostile.yaml") as caught:
        load_config(preset)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(preset)) + 500


def test_a_preset_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml"):
        with pytest.raises(InputError, match=path.name):
            load_config(path)
