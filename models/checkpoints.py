"""Weights on disk: strict loading, and the layout of the original's files."""

import re
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from errors import InputError
from models.safe_load import read_file
from models.wrappings import part_of, state_of

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

# The original creates, but never uses, these 216 entries of the blocks of stride 1.
UNUSED_ENTRY = re.compile(
    r"(TSDFNet\.completion|complete\.semantic)_layer[12]\.[123]\.downsample[234]\."
    r"(1\.weight|2\.(weight|bias|running_mean|running_var|num_batches_tracked))"
)


OWN_ENTRY = re.compile(r"(tsdf_net|TSDFNet)\.").match  # by which a network is known, ours or not


class Checkpoint(NamedTuple):
    """A network's file: ours, or the original's in our names."""

    path: str
    state: dict[str, Tensor]
    meta: dict | None  # config, input, epoch, ...; None in the original's files and in bare weights
    training: dict | None  # what continues a run; only in a file of ours that has it
    is_original: bool = False


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load weights; every entry must be there, known, and of the right shape.

    Raises InputError naming the source, the first wrong keys and their number.
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


def renamed(key: str, prefixes: dict[str, str]) -> str:
    """The key with its beginning replaced, if that is one of the prefixes."""
    old = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
    return prefixes.get(old, "") + key[len(old) :]


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an original state dict and drop those that the network never uses."""
    return {
        renamed(key, ORIGINAL_PREFIXES): value
        for key, value in state.items()
        if not UNUSED_ENTRY.fullmatch(key)
    }


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of ours or of the original, decided by its content."""
    content = read_file(path)
    state = part_of(state_of(content, path), OWN_ENTRY, path)
    if content.get("format") == FORMAT:
        meta, training = content.get("meta"), content.get("training")
        is_sound = (
            isinstance(meta, dict)
            and isinstance(meta.get("config"), dict)
            and meta.get("input") in ("tsdf", "tsdf_cad")
            and isinstance(meta.get("epoch"), int)
            and meta["epoch"] >= 0
        )
        if not is_sound:
            raise InputError(f"{path} lacks its metadata: the file is damaged")
        _check_widths(meta["config"].get("model"), state, path)
        return Checkpoint(str(path), state, meta, training)
    if any(key.startswith("TSDFNet.") for key in state):
        return Checkpoint(str(path), from_original(state), None, None, is_original=True)
    if not any(key.startswith("tsdf_net.") for key in state):
        raise InputError(
            f"{path} holds no CleanerS network: no entry begins with tsdf_net. or TSDFNet."
        )
    return Checkpoint(str(path), state, None, None)


def model_settings(state: dict[str, Tensor]) -> dict | None:
    """The `model` settings that weights show: width, stem and head; None for no such network.

    The weights do not show model.encoder by name, nor model.image_scale.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    width, stem, *_ = shapes.get("tsdf_net.stem.6.weight", ()) + (0, 0)
    if not (
        shapes.get("tsdf_net.stem.6.weight") == (width, stem, 3, 3, 3)
        and shapes.get("tsdf_net.unet.up1.0.weight") == (2 * width, width, 3, 3, 3)
    ):
        return None
    signs = {"reduce.0.weight": "sketch", "classes.weight": "segmenter"}
    head = next((signs[key] for key in signs if f"net_2d.head.{key}" in state), "segformer")
    return {"width": width, "stem": stem, "head": head}


def _check_widths(settings: object, state: dict[str, Tensor], path: str | Path) -> None:
    """Refuse a small file whose settings make a huge network, before that is built."""
    if settings is None:
        return
    shown, settings = model_settings(state), settings if isinstance(settings, dict) else {}
    said = settings.get("width"), settings.get("stem")
    if shown is None or set(map(type, said)) != {int} or said != (shown["width"], shown["stem"]):
        raise InputError(f"{path}: its settings and its weights are of different networks")


def load_weights(model: nn.Module, path: str | Path) -> dict | None:
    """Load a checkpoint of ours or of the original into a network built by `build_model`.

    Returns our checkpoint's metadata (config, input, epoch, ...), None where a file has none: the
    original's, and bare weights.
    """
    checkpoint = read_checkpoint(path)
    load_strictly(model, checkpoint.state, path)
    return checkpoint.meta
