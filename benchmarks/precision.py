"""Whether half precision changes what a trained network predicts.

    python benchmarks/precision.py --pretrained_path checkpoint/nyu_small_student.pth
        [--precision bf16] [data.root=data/NYU ...]

Runs every test scene in fp32 and in half precision, and prints the scores of both and the share of
evaluated voxels on which they agree.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import parse_settings
from datasets.nyu import build_dataset
from errors import exit_on_input_error
from models.losses import supervised_voxels
from utils.checkpoint import read_network
from utils.evaluation import evaluate
from utils.loading import loader_processes


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Half precision against fp32.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp16"))
    args = parse_settings(parser)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, cfg, volume = read_network(args.pretrained_path, args.overrides)
    dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)
    scenes = network.to(device), dataset, volume, device

    def predict(precision: str) -> Tensor:
        """Print the scores; return the classes of all evaluated voxels, scene by scene."""
        classes = []

        def keep(_name: str, labels: Tensor, batch: dict) -> None:
            evaluated = labels.flatten()[supervised_voxels(batch)[0]]
            classes.append(evaluated.to("cpu", torch.uint8))

        metrics, _ = evaluate(*scenes, precision, loader_processes(cfg), keep)
        scores = metrics.compute()
        sc, ssc = scores["sc"], scores["ssc"]
        print(f"{precision}: SC IoU {sc['iou']:.2f}, SSC mIoU {ssc['miou']:.2f}")
        return torch.cat(classes)

    same = predict("fp32") == predict(args.precision)
    print(f"the same class at {same.double().mean():.2%} of {len(same)} evaluated voxels")


if __name__ == "__main__":
    main()
