"""Counts, on the CPU, where a GPU would make the host wait."""

import traceback
from collections import Counter
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

PROJECT = str(Path(__file__).parents[1])
SIZED_BY_DATA = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive")


def _place():
    """The innermost line of the project that is not a test."""
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(PROJECT)]
    frames = [f for f in frames if "/tests/" not in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"


class _Operations(TorchDispatchMode):
    """Results whose size depends on data, numbers read by the host, tensors made of the host's."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        masked = any(i is not None and i.dtype == torch.bool for i in indices)
        if masked or name in SIZED_BY_DATA or name in ("_local_scalar_dense", "lift_fresh"):
            self.waits[f"{name} in {_place()}"] += 1
        return function(*args, **(kwargs or {}))


class _Lists(TorchFunctionMode):
    """What copies a tensor to the host without an operation of its own."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("tolist", "numpy", "cpu"):
            self.waits[f"{function.__name__} in {_place()}"] += 1
        return function(*args, **(kwargs or {}))


class Waits:
    """A context; afterwards `counts` has {"operation in file:function": times}."""

    def __enter__(self):
        self.counts = Counter()
        self.modes = _Lists(self.counts), _Operations(self.counts)
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self.modes):
            mode.__exit__(*error)
