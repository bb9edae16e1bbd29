"""Training state on disk: what continues a run, beside the weights."""

from pathlib import Path

import torch

from errors import InputError
from models.checkpoints import FORMAT, Checkpoint, load_strictly
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


def restore(checkpoint: Checkpoint, model, optimizer, scaler) -> None:
    """Fill model, optimiser and scaler, to go on where the checkpoint was written.

    Raises:
        InputError: another network, or a file without usable training state.
    """
    load_strictly(model, checkpoint.state, checkpoint.path)
    try:
        optimizer.load_state_dict(checkpoint.training["optimizer"])
        scaler.load_state_dict(checkpoint.training["scaler"])
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"{checkpoint.path} has no training state of these settings: it cannot be resumed"
        ) from error
