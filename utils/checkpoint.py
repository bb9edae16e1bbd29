"""Training state on disk: what continues a run, beside the weights."""

from pathlib import Path

import torch

from errors import InputError
from models.checkpoints import FORMAT, load_strictly, read_file
from utils.files import atomic_file


def save_checkpoint(path: str | Path, model, meta: dict, training: dict | None = None) -> None:
    """Write weights, metadata and training state, whole or not at all.

    Args:
        meta: plain Python values: config, input (tsdf or tsdf_cad), epoch, ...
        training: optimiser and scaler state; left out of a file that is only evaluated.

    Raises:
        InputError: the file cannot be written; an older one stays.
    """
    content = {"format": FORMAT, "model": model.state_dict(), "meta": meta}
    if training is not None:
        content["training"] = training
    with atomic_file(path) as file:
        torch.save(content, file)


def load_training(path: str | Path, model, optimizer, scaler) -> dict:
    """Continue from a checkpoint: fills model, optimiser and scaler; returns the metadata.

    Raises:
        InputError: unreadable file, another network, or a file without training state.
    """
    content = read_file(path)
    if content.get("format") != FORMAT or "training" not in content:
        raise InputError(f"{path} has no training state: it cannot be resumed")
    load_strictly(model, content["model"], path)
    optimizer.load_state_dict(content["training"]["optimizer"])
    scaler.load_state_dict(content["training"]["scaler"])
    return content["meta"]
