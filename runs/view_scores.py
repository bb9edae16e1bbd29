"""What share of the scores over all voxels is only "outside the view is empty".

    python runs/view_scores.py --pretrained_path checkpoint/nyu_small_student.pth data.root=data/NYU

The data label everything outside the camera's view empty, which a network can learn from the TSDF
alone. Prints, for the test scenes, the scores of the network's classes over all labelled voxels,
over those in view, and over those that are not; and of the `known` labels in view.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import parse_settings
from constants import IGNORE_INDEX
from datasets.nyu import build_dataset
from errors import exit_on_input_error
from utils.checkpoint import read_network
from utils.evaluation import evaluate
from utils.loading import loader_processes
from utils.metrics import SSCMetrics, format_table, table_row


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Scores in the view of the camera, and outside.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint")
    args = parse_settings(parser)
    model, cfg, volume = read_network(args.pretrained_path, args.overrides)
    dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)
    parts = {"in view": SSCMetrics(), "outside": SSCMetrics()}

    def split(_name: str, labels: torch.Tensor, batch: dict) -> None:
        seen = batch["in_view"]
        for metrics, where in zip(parts.values(), (seen, ~seen), strict=True):
            part = {"label3d": torch.where(where, batch["label3d"], IGNORE_INDEX)}
            metrics.update(labels[None], batch | part, batch["known"])

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    how = cfg.train.precision, loader_processes(cfg), split
    whole, _ = evaluate(model.to(device), dataset, volume, device, *how, everywhere=True)
    scores = {name: metrics.compute() for name, metrics in {"all": whole, **parts}.items()}
    rows = {name: table_row(score["all_voxels"]) for name, score in scores.items()}
    rows["known, in view"] = table_row(scores["in view"]["known"])
    print(f"{args.pretrained_path} on {volume}, {len(dataset)} scenes\n{format_table(rows)}")


if __name__ == "__main__":
    main()
