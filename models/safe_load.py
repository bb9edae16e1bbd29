"""Safe reading of weights that may come from anywhere: no code of theirs is run.

A pickle may name any function to call and any size to allocate. What is let through here is what
state dicts consist of, in an amount that fits the file's size.
"""

import pickle
import pickletools
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import IO

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from errors import InputError, one_line
from models.file_kinds import is_safetensors, what_else

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
    | {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16")}
    | {f"torch {kind}Storage" for kind in ("Long", "Int", "Short", "Char", "Byte", "Bool")}
)
_MAX_DEPTH = 50  # of tuples in tuples: Python hashes them recursively, and crashes on very many
_DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}
    | {torch.int16, torch.int8, torch.uint8, torch.bool}
)
_PLAIN_TYPES = (str, int, float, bool, bytes, type(None), torch.Size)


class _DType:
    """Stands in for np.dtype in files: NumPy's own could be made to read memory at any address."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = {"f4": np.float32, "f8": np.float64, "i8": np.int64}[name]

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "|"):
            raise ValueError("a number that is not little-endian")


def _scalar(dtype: _DType, data: bytes) -> int | float:
    """Stands in for NumPy's scalars, in which the original's files hold best_val."""
    return np.frombuffer(data, dtype.dtype, count=1)[0].item()


_STAND_INS = [
    (_DType, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]


def read_file(path: str | Path) -> dict:
    """What torch.save or safetensors wrote, on the CPU, without running any code from the file.

    Raises InputError for a file that is missing, damaged or something else, or that holds no dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path, or train or download it first")
    try:
        if kind := what_else(path):
            raise InputError(f"{path} is {kind}")
        if is_safetensors(path):
            content = safetensors.torch.load(path.read_bytes())
        else:
            _check_file(path)
            with torch.serialization.safe_globals(_STAND_INS):
                content = torch.load(path, map_location="cpu", weights_only=True)
        _check_content(content)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a PyTorch weights file, or holds code: {one_line(error)}"
        ) from error
    except Exception as error:  # damaged bytes surface as errors of zipfile, struct, torch, ...
        raise InputError(
            f"{path} is not a complete file of weights (truncated download or copy?): "
            f"{one_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not weights")
    return content


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


def _check_pickle(file: IO[bytes]) -> None:
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


def _check_content(content: object) -> None:
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
