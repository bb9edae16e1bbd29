"""Reading weights: the original's files and ours, and everything that is not a checkpoint."""

import os
import zipfile

import numpy as np
import pytest
import torch

from config import load_config
from errors import InputError
from models import build_model
from models.checkpoints import (
    UNUSED_ENTRIES,
    from_original,
    load_weights,
    read_checkpoint,
    to_original_name,
)
from utils.checkpoint import save_checkpoint

DEBUG = load_config("configs/debug.yaml")


@pytest.fixture
def tiny_config():
    return load_config(overrides=["model.encoder=mit_b0", "model.width=32"]).model


def test_the_216_unused_entries(golden):
    for variant in ("full", "tiny"):
        unused = {e[0] for e in golden("state_dict_keys.json")[variant] if "unused" in e[3]}
        assert unused == UNUSED_ENTRIES
    assert len(UNUSED_ENTRIES) == 216


@pytest.mark.parametrize("wrapping", ["model", "net", "network", None])
@pytest.mark.parametrize("prefix", ["", "module.", "student.", "module.student."])
def test_every_wrapping_of_the_original_loads(
    wrapping, prefix, original_file, tiny_config, tmp_path
):
    content = torch.load(original_file(), weights_only=False)
    state = {prefix + key: value for key, value in content["model"].items()}
    path = tmp_path / "wrapped.pth"
    torch.save({wrapping: state, "best_val": np.float32(1.5)} if wrapping else state, path)
    model = build_model(tiny_config)
    assert load_weights(model, path) is None
    for key, value in model.state_dict().items():
        assert torch.equal(value, content["model"][to_original_name(key)]), key


def test_ours_carries_its_settings(tmp_path):
    torch.manual_seed(0)
    first, second = build_model(DEBUG.model), build_model(DEBUG.model)
    meta = {"config": {"seed": 0}, "input": "tsdf_cad", "epoch": 3}
    path = tmp_path / "ours.pth"
    save_checkpoint(path, first, meta)
    assert load_weights(second, path) == meta
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_another_architecture_is_refused(original_file, tmp_path):
    model = build_model(DEBUG.model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match="does not fit the network") as caught:
        load_weights(model, original_file())
    assert "original_tiny_.pth" in str(caught.value) and "missing" in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_missing_and_an_extra_entry_are_named(original_file, tiny_config, tmp_path):
    content = torch.load(original_file(), weights_only=False)
    content["model"]["head.linear_pred.surplus"] = content["model"].pop("head.linear_pred.bias")
    path = tmp_path / "edited.pth"
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        load_weights(build_model(tiny_config), path)
    assert "classifier.bias" in str(caught.value) and "classifier.surplus" in str(caught.value)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_checkpoint",)


def write_broken(kind, path, original):
    if kind == "text":
        path.write_text("not weights\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "half":
        data = original.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "code":
        torch.save({"model": Evil()}, path)
    elif kind == "list":
        torch.save([1, 2, 3], path)
    elif kind == "other network":
        torch.save({"model": {"layer.weight": torch.zeros(3)}}, path)
    elif kind == "no tensors":
        torch.save({"model": {"TSDFNet.a": 3}}, path)
    elif kind == "numbered":
        torch.save({0: torch.zeros(3)}, path)
    elif kind == "ours without parts":
        torch.save({"format": "cleaners-1"}, path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "not weights")
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "kind",
    [
        "text", "empty", "half", "code", "list", "other network", "no tensors", "numbered",
        "ours without parts", "zip", "folder", "absent",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_one_clear_line(kind, original_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "broken.pth"
    write_broken(kind, path, original_file())
    with pytest.raises(InputError, match="broken.pth") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made_by_a_checkpoint").exists()


def test_renaming_goes_both_ways(golden):
    names = [e[0] for e in golden("state_dict_keys.json")["full"] if e[0] not in UNUSED_ENTRIES]
    ours = from_original(dict.fromkeys(names))
    assert [to_original_name(key) for key in ours] == names
