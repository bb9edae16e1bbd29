"""Weights on disk: safe reading, strict loading, and the layout of the original's files."""

import pickle
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
    # The original's files hold best_val as a NumPy float.
    numpy_scalar = [
        (np.float32(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
        np.float32(0).__reduce__()[0],
        np.dtype,
        type(np.dtype(np.float32)),
        type(np.dtype(np.float64)),
    ]
    try:
        with torch.serialization.safe_globals(numpy_scalar):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a PyTorch weights file, or holds code: {reason}"
        ) from error
    except Exception as error:  # damaged bytes surface as errors of zipfile, struct, torch, ...
        raise InputError(
            f"{path} is not a complete PyTorch file (truncated download or copy?): "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not weights")
    return content


def check_state(state, path: str | Path) -> None:
    """Raise an InputError unless this is a state dict: names and tensors."""
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
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
    ours = content.get("format") == FORMAT
    state = next((content[k] for k in ("model", "net", "network") if k in content), content)
    check_state(state, path)
    if ours:
        meta, training = content.get("meta"), content.get("training")
        if not isinstance(meta, dict) or not {"config", "input", "epoch"} <= meta.keys():
            raise InputError(f"{path} lacks its metadata: the file is damaged")
        return Checkpoint(str(path), state, meta, training)
    for prefix in ("module.", "student."):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not any(key.startswith("TSDFNet.") for key in state):
        raise InputError(f"{path} holds no CleanerS network: no entry begins with TSDFNet.")
    return Checkpoint(str(path), from_original(state), None, None)


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
