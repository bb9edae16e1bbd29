"""Reading weights: the original's files and ours, and everything that is not a checkpoint."""

import io
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from original_names import to_original_name

from config import load_config, to_plain
from errors import InputError
from models import build_model
from models.checkpoints import (
    UNUSED_ENTRY,
    from_original,
    load_weights,
    read_checkpoint,
)
from models.safe_load import read_file
from tests.debug_checkpoint import write_debug_checkpoint
from utils.checkpoint import read_network, save_checkpoint

DEBUG = load_config("configs/debug.yaml")


@pytest.fixture
def tiny_config():
    return load_config(overrides=["model.encoder=mit_b0", "model.width=32"]).model


def test_the_216_unused_entries(golden):
    for variant in ("full", "tiny"):
        entries = golden("state_dict_keys.json")[variant]
        unused = {e[0] for e in entries if "unused" in e[3]}
        assert unused == {e[0] for e in entries if UNUSED_ENTRY.fullmatch(e[0])}
        assert len(unused) == 216


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


def test_where_things_are_is_not_for_a_file_to_say(tmp_path):
    """Nor read from one that says it, as older ones do; how it was trained is."""
    config = to_plain(DEBUG) | {"output": "out", "seed": 5}
    config["data"] |= {"root": "/a", "cad_root": "/b", "train_ids": "c", "test_ids": "d"}
    config["data"] |= {"workers": 7, "photometric": "original"}
    config["model"] |= {"pretrained": "/weights/mobilenet.pth"}
    config["train"] |= {"teacher_path": "e.pth", "student_path": "f.pth", "lr": 0.25}
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    save_checkpoint(new, build_model(DEBUG.model), {"config": config, "input": "tsdf", "epoch": 1})
    content = torch.load(new, weights_only=True)
    said = content["meta"]["config"]
    assert said["data"] == {"input": "", "photometric": "original"} and said["train"]["lr"] == 0.25
    assert "output" not in said and "pretrained" not in said["model"]
    assert said["train"].keys().isdisjoint({"teacher_path", "student_path"})
    torch.save(content | {"meta": content["meta"] | {"config": config}}, old)
    for path in (new, old):
        cfg = read_network(path, ["data.cad_root=mine"])[1]
        assert (cfg.seed, cfg.train.lr, cfg.data.photometric) == (5, 0.25, "original")
        assert (cfg.data.root, cfg.data.cad_root, cfg.data.workers) == ("data/NYU", "mine", 6)
        assert cfg.output == cfg.data.train_ids == cfg.data.test_ids == ""
        assert cfg.train.teacher_path == "teacher/Teacher_ckpt.pth"


def test_a_name_of_weights_to_download_is_kept(tmp_path):
    config = {"model": dict(DEBUG.model) | {"pretrained": "imagenet"}}
    meta = {"config": config, "input": "tsdf", "epoch": 1}
    save_checkpoint(tmp_path / "a.pth", build_model(DEBUG.model), meta)
    assert read_network(tmp_path / "a.pth")[1].model.pretrained == "imagenet"


def test_a_shrunk_checkpoint_is_half_the_size_and_the_same_to_fp16(tmp_path):
    large, small = write_debug_checkpoint(tmp_path / "large.pth"), tmp_path / "small.pth"
    command = [sys.executable, "checkpoint/shrink.py", str(large), str(small)]
    subprocess.run(command, check=True)
    assert small.stat().st_size < 0.6 * large.stat().st_size
    (first, *expected), (second, *found) = read_network(large), read_network(small)
    assert found == expected
    ours = second.state_dict()
    for name, value in first.state_dict().items():
        expected = value.half().float() if value.ndim > 1 else value
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=0)


def test_a_file_of_the_original_is_not_shrunk(original_file, tmp_path):
    command = [sys.executable, "checkpoint/shrink.py", str(original_file()), str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is the original's" in done.stderr
    assert not (tmp_path / "x").exists()


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
    names = [e[0] for e in golden("state_dict_keys.json")["full"]]
    names = [name for name in names if not UNUSED_ENTRY.fullmatch(name)]
    ours = from_original(dict.fromkeys(names))
    assert [to_original_name(key) for key in ours] == names


# ---- files that were made to do harm -------------------------------------------------------------


def write_pickle(path, pickled, packing=zipfile.ZIP_STORED):
    """A file of PyTorch's with this pickle inside."""
    file = io.BytesIO()
    torch.save({}, file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w", packing) as target:
        for member in source.infolist():
            data = pickled if member.filename.endswith(".pkl") else source.read(member)
            target.writestr(member.filename, data)


def assert_refused(path, *fragments):
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.isprintable()
    for fragment in (path.name, *fragments):
        assert fragment in message


@pytest.mark.parametrize(
    "pickled, fragment",
    [
        # A key of a million nested tuples overflows the stack of the interpreter that hashes it.
        (b"}(" + b")" + b"\x85" * 10**6 + b"K\x01u.", "nests too deeply"),
        (b"}(" + b")" + b"q\x00\x85q\x00h\x00\x85" * 10**5 + b"K\x01u.", "nests too deeply"),
        # 20 GB of zeros in 50 bytes
        (b"c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x05\x85R.", "bytearray"),
        (b"ctorch\nTensor\n\x8a\x05\x00\x00\x00\x00\x05\x85R.", "Tensor"),
        (b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "os system"),
        # A NumPy type that says its bytes are pointers to objects
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x89\x88\x87R.", "V8"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R.", "O8"),
        (b"Xzz\x00\x00abc.", ""),
        (b"}" * 10**6, ""),
        (b"h\x00.", ""),
        (b"t.", ""),
    ],
)
def test_hostile_pickles_are_refused(pickled, fragment, tmp_path):
    path = tmp_path / "hostile.pth"
    write_pickle(path, b"\x80\x02" + pickled)
    assert_refused(path, fragment)


def test_packed_parts_are_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    write_pickle(path, b"\x80\x02}." + bytes(10**8), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    assert_refused(path, "packed")


def attributed(**attributes):
    state = OrderedDict({"TSDFNet.a": torch.zeros(2)})
    vars(state).update(attributes)
    return state


@pytest.mark.parametrize(
    "state, fragment",
    [
        ({"TSDFNet.a": torch.zeros(1).expand(10**12)}, "1000000000000"),
        ({"TSDFNet.a": torch.zeros(2, 2).to_sparse()}, ""),
        ({"TSDFNet.a": torch.zeros(2, dtype=torch.complex64)}, "Complex"),
        ({"TSDFNet.a": torch.zeros(2, device="meta")}, ""),
        ({"TSDFNet.a\nTSDFNet.b": torch.zeros(2)}, "no network weights"),
        ({"TSDFNet." + "a" * 10**5: torch.zeros(2)}, "no network weights"),
        (attributed(values=3), "attributes"),
        ({"TSDFNet.a": {1, 2}}, ""),
    ],
)
def test_what_no_network_has_is_refused(state, fragment, tmp_path):
    path = tmp_path / "odd.pth"
    torch.save({"model": state}, path)
    assert_refused(path, fragment)


def test_attributes_of_a_state_dict_do_not_matter(tmp_path):
    path = tmp_path / "odd.pth"
    torch.save({"model": attributed(_metadata=3)}, path)
    assert type(read_checkpoint(path).state) is dict


def test_lists_that_stand_for_a_billion_are_read_at_once(tmp_path):
    history = [1]
    for _ in range(40):
        history = [history] * 10
    path = tmp_path / "laughs.pth"
    meta = {"config": {}, "input": "tsdf", "epoch": 1, "history": history}
    torch.save({"format": "cleaners-1", "model": {}, "meta": meta}, path)
    assert read_checkpoint(path).meta["epoch"] == 1


@pytest.mark.parametrize(
    "change", [{"epoch": "3"}, {"epoch": -1}, {"config": [1]}, {"input": "depth"}, {"input": None}]
)
def test_wrong_metadata_is_refused(change, tmp_path):
    path = tmp_path / "ours.pth"
    meta = {"config": {}, "input": "tsdf", "epoch": 1} | change
    torch.save({"format": "cleaners-1", "model": {}, "meta": meta}, path)
    assert_refused(path, "metadata")


@pytest.mark.parametrize("kind", ["new", "legacy"])
def test_files_of_every_age_and_type_load(kind, tmp_path):
    state = OrderedDict(
        (f"TSDFNet.{dtype}", torch.arange(3).to(dtype))
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)
    )
    state["TSDFNet.parameter"] = torch.nn.Parameter(torch.ones(2, 3).T)
    scalars = [np.float32(1.5), np.float64(2.5), np.int64(3)]
    path = tmp_path / "weights.pth"
    torch.save(
        {"model": state, "best": scalars}, path, _use_new_zipfile_serialization=kind == "new"
    )
    assert read_file(path)["best"] == [1.5, 2.5, 3]
    for key, value in read_checkpoint(path).state.items():
        original = state[key.replace("tsdf_net.", "TSDFNet.")]
        assert torch.equal(value, original) and value.dtype == original.dtype


@pytest.mark.parametrize(
    "change", [{"width": 4096}, {"stem": 4096}, {"width": None}, {"width": torch.ones(2)}, None]
)
def test_a_small_file_cannot_ask_for_a_huge_network(change, tmp_path):
    model = build_model(DEBUG.model)
    settings = {"config": {"model": dict(DEBUG.model)}, "input": "tsdf", "epoch": 1}
    path = tmp_path / "huge.pth"
    save_checkpoint(path, model, settings)
    read_checkpoint(path)
    settings["config"]["model"] = dict(DEBUG.model) | change if change else [1]
    save_checkpoint(path, model, settings)
    assert_refused(path, "different networks")
