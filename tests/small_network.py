"""A network of the real one's interface and randomness that takes milliseconds, and its run."""

from pathlib import Path
from unittest import mock

import torch
from torch import nn

from config import load_config, parse_training
from models.network import SSCOutput
from models.projection import Surface
from models.tsdf_net import TSDFNet
from utils.checkpoint import find_checkpoint
from utils.step import Objective
from utils.training import Training

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


class SmallNetwork(nn.Module):
    """Batch norm, dropout and random flips, as the real network has them."""

    def __init__(self):
        super().__init__()
        # Not used: a checkpoint's shapes have to be those of its settings (configs/debug.yaml).
        self.tsdf_net = TSDFNet(width=8, stem=4).requires_grad_(False)
        self.pixels = nn.Linear(3, 12)
        self.feature = nn.Conv3d(1, 2, 1)
        self.voxels = nn.Sequential(nn.BatchNorm3d(2), nn.Dropout3d(0.3), nn.Conv3d(2, 12, 1))

    def forward(self, image, mapping2d, tsdf):
        feature = self.feature(tsdf)
        if self.training and torch.rand(()) > 0.5:
            logits = self.voxels(feature.flip(2)).flip(2)
        else:
            logits = self.voxels(feature)
        sample, row, column, _ = Surface.of(mapping2d).pixels
        seen = image[sample, :, row, column]
        return SSCOutput(logits, self.pixels(seen), feature)


def small_settings(root, *overrides):
    """Four training scenes a batch of one, so four steps an epoch."""
    common = [f"data.root={root}", "train.batch_size=1", "train.eval_every=0"]
    return load_config(ROOT / "configs/debug.yaml", [*common, *overrides])


def small_run(cfg, path="run.pth", objective=None, resume=False):
    """`Training` as the scripts call it, with the small network as student without teacher."""
    objective = objective or Objective(cfg.loss, "tsdf")
    checkpoint = find_checkpoint(path) if resume else None
    torch.manual_seed(cfg.seed)
    # It knows the parts of the real network.
    with mock.patch("utils.evaluation.prepare_for_inference", nn.Module.eval, create=True):
        Training(cfg, SmallNetwork(), objective, path, CPU, checkpoint).run()


def content(path):
    """What of a checkpoint a stop must not change: all but times and settings of saving."""
    file = torch.load(path, weights_only=True)
    meta = file["meta"]
    times = {"seconds", "seconds_per_step", "waiting_for_data", "peak_memory_gb"}
    history = [{k: v for k, v in row.items() if k not in times} for row in meta["history"]]
    return {
        "model": file["model"],
        "training": file["training"],
        "meta": {key: meta[key] for key in ("epoch", "best_miou", "best_epoch", "skipped")},
        "history": history,
    }


def assert_same(one, other, where=""):
    """Bit for bit, through dicts and lists."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    else:
        assert one == other, where


def main():
    """As a training script: small_network.py --config FILE [--resume] [key.sub=value ...]."""
    cfg, resume = parse_training("Train the small network.")
    small_run(cfg, cfg.train.student_path, resume=resume)
