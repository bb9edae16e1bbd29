"""Weights as others hand them on: in dicts, under prefixes, as safetensors; and what is no weights.

What wraps a network here is PyTorch's or a library's own, where there is one.
"""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from original_names import to_original_name
from safetensors.torch import save_file
from test_scripts import error_of
from torch import nn

from config import load_config, to_plain
from errors import InputError
from models import build_model
from models.checkpoints import load_weights, read_checkpoint
from models.encoder_weights import load_pretrained_encoder, stem_of_weights
from models.safe_load import read_file
from utils.checkpoint import find_checkpoint, read_network

DEBUG = load_config("configs/debug.yaml")
SAID = ["model.encoder=mobilenet_v2", "model.image_scale=0.25", "data.input=tsdf"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return build_model(DEBUG.model)


def assert_equal_states(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


WRAPPERS = {
    "bare": lambda network: network,
    "DataParallel": nn.DataParallel,
    "compile": torch.compile,
    "both": lambda network: nn.DataParallel(torch.compile(network)),
    "average": torch.optim.swa_utils.AveragedModel,  # and a number beside it
    "Lightning": lambda network: nn.ModuleDict({"model": network, "loss": nn.Linear(1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize(
    "wrapper, nesting",
    [(name, ()) for name in WRAPPERS]
    + [("bare", ("state_dict",)), ("both", ("model", "model_state_dict"))],
)
def test_a_network_of_ours_in_any_wrapping(wrapper, nesting, network, tmp_path):
    content = WRAPPERS[wrapper](network).state_dict()
    for key in reversed(nesting):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "wrapped.pth")
    checkpoint = read_checkpoint(tmp_path / "wrapped.pth")
    assert checkpoint.meta is None and not checkpoint.is_original
    assert_equal_states(checkpoint.state, network.state_dict())


def test_parts_that_were_compiled_or_put_in_parallel(network, tmp_path):
    parts = {
        "net_2d": torch.compile(network.net_2d),
        "tsdf_net": nn.DataParallel(network.tsdf_net),
    }
    parts["ssc_net"] = network.ssc_net
    torch.save(nn.ModuleDict(parts).state_dict(), tmp_path / "parts.pth")
    assert_equal_states(read_checkpoint(tmp_path / "parts.pth").state, network.state_dict())


def test_a_checkpoint_of_ours_of_a_wrapped_network_keeps_its_settings(network, tmp_path):
    meta = {"config": to_plain(DEBUG), "input": "tsdf_cad", "epoch": 3}
    content = {"format": "cleaners-1", "meta": meta}
    content["model"] = torch.compile(network).state_dict()
    torch.save(content, tmp_path / "ours.pth")
    model, cfg, volume = read_network(tmp_path / "ours.pth")
    assert volume == "tsdf_cad" and cfg.model.width == 8
    assert_equal_states(model.state_dict(), network.state_dict())


def test_a_network_as_safetensors(network, original_file, tmp_path):
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "a.safetensors"
    )
    assert_equal_states(read_checkpoint(tmp_path / "a.safetensors").state, network.state_dict())
    # Whatever the file is called; the original's too, in half precision.
    original = torch.load(original_file(), weights_only=False)["model"]
    halves = {
        key: value.half() if value.is_floating_point() else value for key, value in original.items()
    }
    save_file(halves, tmp_path / "original.pth")
    checkpoint = read_checkpoint(tmp_path / "original.pth")
    assert checkpoint.is_original
    for key, value in checkpoint.state.items():
        assert torch.equal(value, halves[to_original_name(key)]) and value.dtype != torch.float32


def test_weights_alone_ask_for_what_they_do_not_say(network, tmp_path, capsys):
    path = tmp_path / "bare.pth"
    torch.save(network.state_dict(), path)
    for given in ([], [*SAID[:2], "data.root=x"]):
        with pytest.raises(InputError, match="bare.pth holds weights alone") as caught:
            read_network(path, given)
        said = {word.partition("=")[0] for word in given}
        for word in SAID:
            key = word.partition("=")[0]
            assert (f"{key}=" in str(caught.value)) == (key not in said)
    model, cfg, volume = read_network(path, SAID)
    assert_equal_states(model.state_dict(), network.state_dict())
    assert (cfg.model.width, cfg.model.stem, cfg.model.head, volume) == (8, 4, "segformer", "tsdf")
    with pytest.raises(InputError, match="bare.pth does not fit the network"):
        read_network(path, [*SAID, "model.encoder=resnet18"])
    assert load_weights(model, path) is None


def test_weights_alone_end_in_one_line_of_a_command(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    message = error_of("test_NYU.py", "--pretrained_path", "bare.pth", cwd=tmp_path)
    assert "bare.pth holds weights alone" in message


def test_weights_of_two_widths_are_no_network(network, tmp_path):
    state = dict(network.state_dict())
    state["tsdf_net.stem.6.weight"] = torch.zeros(4096, 1, 3, 3, 3)  # before a huge one is built
    torch.save(state, tmp_path / "huge.pth")
    with pytest.raises(InputError, match="huge.pth"):
        read_network(tmp_path / "huge.pth", SAID)


def test_two_networks_in_one_file_are_refused(network, tmp_path):
    both = nn.ModuleDict({"student": network, "teacher": network}).state_dict()
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(InputError, match=r"both.pth holds several networks \(student., teacher.\)"):
        read_checkpoint(tmp_path / "both.pth")


def test_weights_that_are_there_twice_are_refused(network, tmp_path):
    state = dict(network.state_dict())
    key = "ssc_net.classifier.2.bias" if "ssc_net.classifier.2.bias" in state else next(iter(state))
    torch.save(state | {f"module.{key}": state[key] + 1}, tmp_path / "twice.pth")
    with pytest.raises(InputError, match="twice.pth holds some weights twice"):
        read_checkpoint(tmp_path / "twice.pth")


def test_a_dict_that_holds_itself_ends(tmp_path):
    content = {"model": {}}
    content["model"]["model"] = content
    torch.save(content, tmp_path / "circle.pth")
    with pytest.raises(InputError, match="circle.pth holds no network weights"):
        read_checkpoint(tmp_path / "circle.pth")


# ---- encoders ----


def test_an_encoder_inside_a_segmentation_network(network, tmp_path):
    """Of segmentation-models-pytorch; and of a network of ours, as a start for another."""
    unet = smp.Unet("mobilenet_v2", encoder_weights=None, decoder_channels=(8, 8, 8, 8, 8))
    torch.save({"state_dict": nn.DataParallel(unet).state_dict()}, tmp_path / "unet.pth")
    ours = SimpleNamespace(encoder=smp.encoders.get_encoder("mobilenet_v2", weights=None))
    load_pretrained_encoder(ours, "mobilenet_v2", str(tmp_path / "unet.pth"))
    assert_equal_states(ours.encoder.state_dict(), unet.encoder.state_dict())
    torch.save({"format": "cleaners-1", "model": network.state_dict()}, tmp_path / "ours.pth")
    load_pretrained_encoder(ours, "mobilenet_v2", str(tmp_path / "ours.pth"))
    assert_equal_states(ours.encoder.state_dict(), network.net_2d.encoder.state_dict())


class SmallEncoder(nn.Module):
    """Names like a ResNet's, within `model` like timm's if wanted."""

    def __init__(self, stem=3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, stem)
        block = nn.ModuleDict({"conv1": nn.Conv2d(2, 2, 1)})
        self.layer1 = nn.Sequential(block)
        self.layer4 = nn.Sequential(nn.ModuleDict({"conv1": nn.Conv2d(2, 2, 1)}))


def encoder_file(path, prefix, source, **more):
    state = {prefix + key: value for key, value in source.state_dict().items()}
    state |= {f"{prefix}fc.weight": torch.zeros(3), **more}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


PREFIXES = ("", "backbone.", "encoder.", "model.", "module.encoder.", "model.backbone.", "net.a.b.")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_encoder_under_a_prefix(prefix, suffix, tmp_path):
    source = SmallEncoder()
    beside = {"decode_head.conv_seg.weight": torch.zeros(3)} if prefix else {}
    path = encoder_file(tmp_path / f"encoder{suffix}", prefix, source, **beside)
    ours = SimpleNamespace(encoder=SmallEncoder())
    load_pretrained_encoder(ours, "small", path)
    assert_equal_states(ours.encoder.state_dict(), source.state_dict())
    timms = SimpleNamespace(encoder=nn.ModuleDict({"model": SmallEncoder()}))
    load_pretrained_encoder(timms, "tu-small", path)
    assert_equal_states(timms.encoder.model.state_dict(), source.state_dict())


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("stem, expected", [(7, "resnet50"), (3, "tu-resnet50s")])
def test_the_stem_is_found_under_a_prefix(stem, expected, prefix, tmp_path):
    path = encoder_file(tmp_path / "resnet.pth", prefix, SmallEncoder(stem))
    overrides = ["model.encoder=resnet50", f"model.pretrained={path}"]
    assert stem_of_weights(load_config(overrides=overrides).model) == expected


def test_what_is_missing_under_a_prefix_is_named(tmp_path):
    source = SmallEncoder()
    del source.layer4
    path = encoder_file(tmp_path / "part.pth", "backbone.", source)
    with pytest.raises(InputError, match=r"part.pth .* 2 missing \(layer4.0.conv1.weight"):
        load_pretrained_encoder(SimpleNamespace(encoder=SmallEncoder()), "small", path)


def test_two_encoders_in_one_file_are_refused(tmp_path):
    """As DINO's files hold student and teacher: which is meant is not for us to guess."""
    other = {f"teacher.{key}": value for key, value in SmallEncoder().state_dict().items()}
    path = encoder_file(tmp_path / "dino.pth", "student.", SmallEncoder(), **other)
    with pytest.raises(InputError, match=r"dino.pth holds several networks \(student., teacher.\)"):
        load_pretrained_encoder(SimpleNamespace(encoder=SmallEncoder()), "small", path)


# ---- what is no file of weights ----

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 5556431\n"
PAGE = b"\n<!DOCTYPE html>\n<html lang=en><head><title>Not Found</title></head></html>"


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def bytes_of(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def tar(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))


def hdf5(file):
    with h5py.File(file, "w") as archive:
        archive["kernel"] = np.zeros(3)


WEIGHTS = bytes_of(lambda file: torch.save({"TSDFNet.a": torch.zeros(1000)}, file))
HEADER = json.dumps(
    {"TSDFNet.a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}
).encode()
TENSORS = struct.pack("<Q", len(HEADER)) + HEADER + bytes(4000)
SCRIPT = bytes_of(lambda file: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file))

NO_WEIGHTS = {
    "pointer": (POINTER, "a Git-LFS pointer", "git lfs pull"),
    "page": (PAGE, "a web page"),
    "page with a mark": (b"\xef\xbb\xbf<html>" + "é".encode() * 600, "a web page"),
    "page in latin-1": (b"<html><p>caf\xe9</p></html>", "a web page"),
    "answer of a server": (b'{"error": "Entry not found"}', "a text file", "Entry not found"),
    "blank": (b"\n\n", "a text file"),
    "empty": (b"", "empty"),
    "half": (WEIGHTS[: len(WEIGHTS) // 2], "truncated"),
    "start": (WEIGHTS[:100], "truncated"),
    "half safetensors": (TENSORS[:2000], "truncated"),
    "start of safetensors": (TENSORS[:20], "truncated"),
    "zip": (zipped(**{"readme.txt": "no weights"}), "a zip archive with readme.txt"),
    "zip of nothing": (zipped(), "a zip archive with nothing"),
    "zip of weights": (zipped(**{"a/w.pth": WEIGHTS}), "a zip archive with a/w.pth", "unpack"),
    "npz": (bytes_of(lambda file: np.savez(file, a=np.zeros(3))), "a zip archive with a.npy"),
    "npy": (bytes_of(lambda file: np.save(file, np.zeros(3))), "a NumPy array"),
    "TorchScript": (SCRIPT, "a TorchScript program", "state_dict()"),
    "gzip": (gzip.compress(WEIGHTS), "a gzip archive", "unpack"),
    "tar": (bytes_of(tar), "a tar archive", "unpack"),
    "HDF5": (bytes_of(hdf5), "an HDF5 file"),
    "names that end a terminal": (zipped(**{"a\x1b[2J\nb": "x"}), "a zip archive with"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_what_is_no_weights_is_named(name, kind, tmp_path):
    content, *fragments = NO_WEIGHTS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    encoder = SimpleNamespace(encoder=SmallEncoder())
    for read in (
        read_file,
        read_checkpoint,
        find_checkpoint,
        lambda path: load_pretrained_encoder(encoder, "small", str(path)),
    ):
        with pytest.raises(InputError) as caught:
            read(path)
        message = str(caught.value)
        assert message.isprintable() and str(path) in message
        assert all(fragment in message for fragment in fragments) or (
            read is find_checkpoint and "truncated" in fragments  # says so by other words
        )


def test_the_files_above_are_weights_when_whole(tmp_path):
    for content in (WEIGHTS, TENSORS):
        (tmp_path / "whole").write_bytes(content)
        assert read_file(tmp_path / "whole")["TSDFNet.a"].shape == (1000,)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4000]},
        {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4 * 10**12]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4000]},
        {"dtype": "C64", "shape": [500], "data_offsets": [0, 4000]},
        [[[]]],
    ],
)
def test_safetensors_that_say_more_than_they_hold_are_refused(entry, tmp_path):
    header = json.dumps({"TSDFNet.a": entry}).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4000))
    with pytest.raises(InputError, match="odd.safetensors") as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable()
