"""How much of scene completion the evaluation mask gives away to a network that sees the TSDF.

    python runs/mask_rule.py [--pretrained_path X] ... [data.root=data/NYU ...]

An empty voxel is scored only where the noisy TSDF is below -0.5 (label_weight), an occupied one
everywhere: a scored voxel whose TSDF is at least -0.5 is occupied. Prints SC precision, recall and
IoU (paper's protocol, test scenes)
- of the rules "everything is occupied" and "occupied where the TSDF is at least -0.5, else empty",
  with the noisy TSDF and with TSDF-CAD: no image, no network;
- of each checkpoint, on all scored voxels and on those with a noisy TSDF below -0.5, where the mask
  gives nothing away.
"""

import argparse
import sys
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import load_config, parse_settings
from constants import NO_PIXEL
from datasets.nyu import build_dataset
from errors import exit_on_input_error
from models.losses import supervised_voxels
from utils.checkpoint import read_network
from utils.evaluation import evaluate
from utils.loading import loader_processes
from utils.metrics import class_ratios, confusion_matrix

HIDDEN = -0.5  # of the mean TSDF: below it, label_weight takes empty voxels in


class SplitCompletion:
    """SC confusion counts over all scored voxels, and over those whose noisy TSDF says hidden."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2, 2, dtype=torch.int64)

    def update(self, occupied: torch.Tensor, batch: dict) -> None:
        """occupied: (1, 60, 36, 60) bool, predicted; batch: of one scene."""
        scored = supervised_voxels(batch)[0] & (batch["mapping"].flatten() == NO_PIXEL)
        hidden = batch["tsdf"].flatten() < HIDDEN
        truth = (batch["label3d"].flatten() > 0).long()
        for count, where in zip(self.counts, (scored, scored & hidden), strict=True):
            count += confusion_matrix(truth, occupied.flatten().long(), where, 2).cpu()

    def __str__(self) -> str:
        parts = []
        for name, count in zip(("all", "hidden"), self.counts, strict=True):
            scores = {key: value[1].item() for key, value in class_ratios(count).items()}
            parts.append(f"{name}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
        return "; ".join(parts)


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="What the evaluation mask gives away.")
    parser.add_argument(
        "--pretrained_path", action="append", default=[], help="checkpoint; may be repeated"
    )
    parser.add_argument("--config", default="configs/nyu_small.yaml", help="preset")
    args = parse_settings(parser)
    cfg = load_config(args.config, args.overrides)
    rules = {"tsdf": SplitCompletion(), "tsdf_cad": SplitCompletion()}
    everything = SplitCompletion()
    dataset = build_dataset(cfg.data, "test", with_cad=True, augment=False)
    for sample in tqdm(dataset, leave=False):
        batch = {k: v[None] for k, v in sample.items() if k != "name"}
        everything.update(torch.ones_like(batch["tsdf"], dtype=torch.bool), batch)
        for volume, rule in rules.items():
            rule.update(batch[volume] >= HIDDEN, batch)
    print(f"everything occupied: {everything}")
    for volume, rule in rules.items():
        print(f"occupied where {volume} >= {HIDDEN}: {rule}")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for path in args.pretrained_path:
        network, own, volume = read_network(path, args.overrides)
        dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)
        result = SplitCompletion()
        evaluate(
            network.to(device), dataset, volume, device, own.train.precision, loader_processes(cfg),
            lambda _name, labels, batch, result=result: result.update(labels > 0, batch),
        )  # fmt: skip
        print(f"{path} on {volume}: {result}")


if __name__ == "__main__":
    main()
