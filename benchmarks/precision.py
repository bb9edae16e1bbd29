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
from torch.utils.data import DataLoader
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import parse_settings
from datasets import build_dataset
from errors import exit_on_input_error
from models import prepare_for_inference
from models.losses import supervised_voxels
from utils.completion import read_network
from utils.evaluation import autocast, to_device
from utils.loading import loader_processes
from utils.metrics import SSCMetrics


@exit_on_input_error
@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description="Half precision against fp32.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp16"))
    args = parse_settings(parser)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, cfg, volume = read_network(args.pretrained_path, args.overrides)
    network = prepare_for_inference(network.to(device))
    dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)

    precisions = "fp32", args.precision
    metrics = {precision: SSCMetrics() for precision in precisions}
    same = voxels = 0
    for batch in tqdm(DataLoader(dataset, num_workers=loader_processes(cfg)), leave=False):
        batch = to_device(batch, device)
        labels = {}
        for precision in precisions:
            with autocast(device, precision):
                out = network(batch["image"], batch["mapping2d"], batch[volume])
            labels[precision] = out.logits.argmax(dim=1)
            metrics[precision].update(labels[precision], batch)
        evaluated = supervised_voxels(batch).view_as(batch["label3d"])
        voxels += evaluated.sum().item()
        same += (labels["fp32"] == labels[args.precision])[evaluated].sum().item()

    for precision, scores in metrics.items():
        sc, ssc = (scores.compute()[task] for task in ("sc", "ssc"))
        print(f"{precision}: SC IoU {sc['iou']:.2f}, SSC mIoU {ssc['miou']:.2f}")
    print(f"the same class at {same / voxels:.2%} of {voxels} evaluated voxels")


if __name__ == "__main__":
    main()
