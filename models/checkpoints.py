"""Weights on disk: safe reading, strict loading, and the layout of the original's files."""

import pickle
import pickletools
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from errors import InputError

FORMAT = "cleaners-1"

# Where the original's entries live here; the rest of a name is the same.
ORIGINAL_PREFIXES = {
    "encoder.": "net_2d.encoder.",
    "head.linear_c1.proj.": "net_2d.head.linear.0.",
    "head.linear_c2.proj.": "net_2d.head.linear.1.",
    "head.linear_c3.proj.": "net_2d.head.linear.2.",
    "head.linear_c4.proj.": "net_2d.head.linear.3.",
    "head.linear_fuse.": "net_2d.head.fuse.",
    "head.linear_pred.": "net_2d.head.classifier.",
    "TSDFNet.oper1.": "tsdf_net.stem.",
    "TSDFNet.completion_layer1.": "tsdf_net.unet.down1.",
    "TSDFNet.completion_layer2.": "tsdf_net.unet.down2.",
    "TSDFNet.enc_tsdf.0.": "tsdf_net.unet.up1.",
    "TSDFNet.enc_tsdf.1.": "tsdf_net.unet.up2.",
    "complete.semantic_layer1.": "ssc_net.unet.down1.",
    "complete.semantic_layer2.": "ssc_net.unet.down2.",
    "complete.classify_semantic.0.": "ssc_net.unet.up1.",
    "complete.classify_semantic.1.": "ssc_net.unet.up2.",
    "complete.classify_semantic.2.": "ssc_net.classifier.",
}

# The original creates, but never uses, these modules in the blocks of stride 1.
UNUSED_ENTRIES = frozenset(
    f"{stage}.{block}.downsample{i}.{entry}"
    for stage in (
        "TSDFNet.completion_layer1",
        "TSDFNet.completion_layer2",
        "complete.semantic_layer1",
        "complete.semantic_layer2",
    )
    for block in (1, 2, 3)
    for i in (2, 3, 4)
    for entry in (
        "1.weight",
        "2.weight",
        "2.bias",
        "2.running_mean",
        "2.running_var",
        "2.num_batches_tracked",
    )
)


# What the pickle inside a file may name: the parts of state dicts. PyTorch allows more, among
# it what takes memory without bound.
_ALLOWED_GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "collections Counter",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch Size",
        "_codecs encode",
        "numpy dtype",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
    }
    | {
        f"torch {kind}Storage"
        for kind in (
            "Float",
            "Double",
            "Half",
            "BFloat16",
            "Long",
            "Int",
            "Short",
            "Char",
            "Byte",
            "Bool",
        )
    }
)
_MAX_DEPTH = 50  # of tuples in tuples: Python hashes them recursively, and crashes on very many
_DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}
    | {torch.int16, torch.int8, torch.uint8, torch.bool}
)
_PLAIN_TYPES = (str, int, float, bool, bytes, type(None), torch.Size)
_MAX_NAME = 200  # characters of an entry's name


class _DType:
    """Stands in for np.dtype in files: NumPy's own could be made to read memory at any address."""

    def __init__(self, name, *_):
        self.dtype = {"f4": np.float32, "f8": np.float64, "i8": np.int64}[name]

    def __setstate__(self, state):
        if state[1] not in ("<", "|"):
            raise ValueError("a number that is not little-endian")


def _scalar(dtype, data):
    """Stands in for NumPy's scalars, in which the original's files hold best_val."""
    return np.frombuffer(data, dtype.dtype, count=1)[0].item()


class Checkpoint(NamedTuple):
    """A network's file: ours, or the original's in our names."""

    path: str
    state: dict[str, Tensor]
    meta: dict | None  # config, input, epoch, ...; None where the file is the original's
    training: dict | None  # what continues a run; only in a file of ours that has it


def read_file(path: str | Path) -> dict:
    """What torch.save wrote, on the CPU, without running any code from the file.

    Raises:
        InputError: missing, damaged, not a PyTorch file, or not a dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path, or train or download it first")
    stand_ins = [
        (_DType, "numpy.dtype"),
        (_scalar, "numpy.core.multiarray.scalar"),
        (_scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        _check_file(path)
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_content(content)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a PyTorch weights file, or holds code: {_one_line(error)}"
        ) from error
    except Exception as error:  # damaged bytes surface as errors of zipfile, struct, torch, ...
        raise InputError(
            f"{path} is not a complete PyTorch file (truncated download or copy?): "
            f"{_one_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not weights")
    return content


def _one_line(error):
    """The first line of an exception's message."""
    line = next(iter(str(error).splitlines()), "")
    return "".join(filter(str.isprintable, line))[:200] or type(error).__name__


def _check_file(path: Path) -> None:
    """Raise an exception unless memory and depth of what torch.load makes are in proportion."""
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                size = sum(member.file_size for member in members)
                if size > path.stat().st_size or any(m.compress_type for m in members):
                    raise ValueError("its parts are packed, or overlap")
                for member in members:
                    if member.filename.endswith(".pkl"):
                        with archive.open(member) as pickled:
                            _check_pickle(pickled)
        else:  # before PyTorch 1.6: magic number, version, system, content, keys; then the numbers
            file.seek(0)
            for _ in range(5):
                _check_pickle(file)


def _check_pickle(file) -> None:
    """Raise UnpicklingError for names other than a state dict needs, and for deep tuples.

    Follows a pickle as an unpickler does, but of each object knows how deep its tuples are only.
    """
    stack, marks, memo = [], [], {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "GLOBAL" and argument not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it names {argument}")
        if "PUT" in name:
            memo[argument] = stack[-1]
        elif "GET" in name:
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name.startswith("TUPLE"):
            start = marks.pop() if name == "TUPLE" else len(stack) - int(name[-1])
            stack[start:] = [1 + max(stack[start:], default=0)]
            if stack[-1] > _MAX_DEPTH:
                raise pickle.UnpicklingError("it nests too deeply")
        elif name in ("APPENDS", "SETITEMS"):
            del stack[marks.pop() :]
        elif name in ("APPEND", "SETITEM", "REDUCE", "BUILD", "NEWOBJ"):
            del stack[-2 if name == "SETITEM" else -1 :]
            if name in ("REDUCE", "NEWOBJ"):
                stack[-1] = 0
        elif name == "BINPERSID":
            stack[-1] = 0
        elif name not in ("PROTO", "STOP"):
            stack.append(0)


def _check_content(content) -> None:
    """Raise ValueError for what no state dict holds, and for tensors larger than their memory."""
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or type(value) in _PLAIN_TYPES:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            dense = value.layout == torch.strided and value.device.type == "cpu"
            if not dense or value.is_quantized or value.dtype not in _DTYPES:
                raise ValueError(f"a tensor of {value.dtype}, {value.layout}, {value.device}")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(value.shape)} with fewer numbers")
        elif type(value) in (dict, OrderedDict, Counter):
            # Attributes of an OrderedDict come from the file, too: they could hide its methods.
            if vars(value).keys() - {"_metadata"} if type(value) is not dict else ():
                raise ValueError("a dict with attributes")
            waiting += dict.keys(value)
            waiting += dict.values(value)
        elif type(value) in (list, tuple):
            waiting += value
        else:
            raise ValueError(f"an object of type {type(value).__name__}")


def check_state(state, path: str | Path) -> None:
    """Raise an InputError unless this is a state dict: names and tensors."""
    if not isinstance(state, dict) or not all(
        isinstance(key, str)
        and key.isprintable()
        and len(key) <= _MAX_NAME
        and isinstance(value, Tensor)
        for key, value in state.items()
    ):
        raise InputError(f"{path} holds no network weights")


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load weights; every entry must be there, known, and of the right shape.

    Raises:
        InputError: names the source, the first wrong keys and their number.
    """
    own = module.state_dict()
    wrong = {
        "missing": [key for key in own if key not in state],
        "unknown": [key for key in state if key not in own],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and own[key].shape != state[key].shape
        ],
    }
    if any(wrong.values()):
        parts = [
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in wrong.items()
            if keys
        ]
        raise InputError(
            f"{source} does not fit the network (other encoder, width or file?): "
            + "; ".join(parts)
        )
    nn.Module.load_state_dict(module, state)  # encoders of the library override it, not strictly


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an original state dict and drop the 216 that the network never uses."""
    renamed = {}
    for key, value in state.items():
        if key in UNUSED_ENTRIES:
            continue
        old = next((prefix for prefix in ORIGINAL_PREFIXES if key.startswith(prefix)), "")
        renamed[ORIGINAL_PREFIXES.get(old, "") + key[len(old) :]] = value
    return renamed


def to_original_name(key: str) -> str:
    """The original's name of one of our entries."""
    for old, new in ORIGINAL_PREFIXES.items():
        if key.startswith(new):
            return old + key[len(new) :]
    return key


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours or of the original, decided by its content.

    Raises:
        InputError: unreadable file, or one that holds no network of either layout.
    """
    content = read_file(path)
    is_ours = isinstance(content.get("format"), str) and content["format"] == FORMAT
    state = next((content[k] for k in ("model", "net", "network") if k in content), content)
    check_state(state, path)
    state = dict(state)  # without attributes that the file may have given it
    if is_ours:
        meta, training = content.get("meta"), content.get("training")
        is_sound = (
            isinstance(meta, dict)
            and isinstance(meta.get("config"), dict)
            and isinstance(meta.get("input"), str)
            and meta["input"] in ("tsdf", "tsdf_cad")
            and isinstance(meta.get("epoch"), int)
            and meta["epoch"] >= 0
        )
        if not is_sound:
            raise InputError(f"{path} lacks its metadata: the file is damaged")
        _check_widths(meta["config"].get("model"), state, path)
        return Checkpoint(str(path), state, meta, training)
    for prefix in ("module.", "student."):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not any(key.startswith("TSDFNet.") for key in state):
        raise InputError(f"{path} holds no CleanerS network: no entry begins with TSDFNet.")
    return Checkpoint(str(path), from_original(state), None, None)


def _check_widths(settings, state: dict[str, Tensor], path: str | Path) -> None:
    """Refuse a small file whose settings make a huge network, before that is built."""
    if settings is None:
        return
    sizes = [settings.get(key) for key in ("width", "stem")] if isinstance(settings, dict) else []
    fits = False
    if [type(size) for size in sizes] == [int, int]:
        width, stem = sizes
        fits = all(
            name in state and state[name].shape == shape
            for name, shape in (
                ("tsdf_net.stem.6.weight", (width, stem, 3, 3, 3)),
                ("tsdf_net.unet.up1.0.weight", (2 * width, width, 3, 3, 3)),
            )
        )
    if not fits:
        raise InputError(f"{path}: its settings and its weights are of different networks")


def load_weights(model: nn.Module, path: str | Path) -> dict | None:
    """Load a checkpoint of ours or of the original into a network built by `build_model`.

    Returns:
        Our checkpoint's metadata (config, input, epoch, ...), or None for a file of the original.

    Raises:
        InputError: unreadable file, or a network of another architecture.
    """
    checkpoint = read_checkpoint(path)
    load_strictly(model, checkpoint.state, path)
    return checkpoint.meta
