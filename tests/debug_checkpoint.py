"""A checkpoint of a random network, for tests that need a file rather than a good network."""

from pathlib import Path

import torch

from config import load_config, to_plain
from models import build_model
from utils.checkpoint import save_checkpoint

DEBUG = Path(__file__).parents[1] / "configs/debug.yaml"


def write_debug_checkpoint(path, volume="tsdf"):
    """Weights of the debug preset, with the metadata of a student, or of a teacher ("tsdf_cad")."""
    cfg = load_config(DEBUG)
    torch.manual_seed(0)
    meta = {"config": to_plain(cfg), "input": volume, "epoch": 1}
    save_checkpoint(path, build_model(cfg.model), meta)
    return path
