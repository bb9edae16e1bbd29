"""Count the floating-point operations of a training step, and estimate from them a training.

    python benchmarks/flops.py [--config configs/nyu_segformer_b2.yaml] [key.sub=value ...]

PyTorch's FlopCounterMode counts those of convolutions and matrix products; an addition and a
multiplication are two. (For the backward pass of grouped convolutions it counts too many; only a 2D
encoder in training has them.) Nothing is computed: the tensors have no data. Which part of its peak
a GPU reaches is an assumption: measure it before you book machines.
"""

import argparse
import sys
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import load_config, parse_settings
from constants import GRID, IMAGE_SIZE
from errors import exit_on_input_error
from models import build_model

TRAINING_SCENES = 795  # of NYUv2
PEAK = {"tf32": 495e12, "bf16": 989e12}  # of an NVIDIA H100 SXM, dense, operations a second
UTILISATION = 0.07  # assumed, by memory: 80 ms a student's step of four scenes in bf16


def operations(network: nn.Module, *inputs: Tensor, backward: bool) -> int:
    """Of a forward pass, and of the backward pass to what is trained."""
    with FlopCounterMode(display=False) as counter:
        out = network(*inputs)
        if backward:
            out = out if isinstance(out, tuple) else (out,)
            torch.autograd.backward(out, [torch.empty_like(value) for value in out])
    return counter.get_total_flops()


def step_operations(cfg: EasyDict) -> dict[str, tuple[int, int]]:
    """Of one scene, by part of the network: (forward, forward and backward)."""
    model = build_model(cfg).to("meta").train()
    volume = torch.empty(1, cfg.width, *GRID, device="meta")
    parts = {
        "2DNet": (model.net_2d, torch.empty(1, 3, *IMAGE_SIZE, device="meta")),
        "3D-TSDFNet": (model.tsdf_net, torch.empty(1, 1, *GRID, device="meta")),
        "3D-SSCNet": (model.ssc_net, volume.requires_grad_()),
    }
    return {
        name: tuple(operations(part, x, backward=backward) for backward in (False, True))
        for name, (part, x) in parts.items()
    }


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Operations and estimated cost of a training.")
    parser.add_argument("--config", default="configs/nyu_segformer_b2.yaml", help="preset")
    args = parse_settings(parser)
    cfg = load_config(args.config, args.overrides)

    counts = step_operations(cfg.model)
    forward, both = (sum(count[i] for count in counts.values()) for i in range(2))
    print("GFLOP a scene         forward   forward and backward")
    for name, (one, two) in {**counts, "network": (forward, both)}.items():
        print(f"{name:20} {one / 1e9:8.1f} {two / 1e9:22.1f}")
    print(f"{'teacher, a step':20} {both / 1e9:31.1f}")
    print(f"{'student, a step':20} {(both + forward) / 1e9:31.1f}   (with the teacher's forward)")

    epochs = cfg.train.epochs
    print(f"\nH100 hours, estimated, for {epochs} epochs at {UTILISATION:.0%} of the peak")
    for scenes in (TRAINING_SCENES, 100 * TRAINING_SCENES):
        for name, work in (("teacher", both), ("student", both + forward)):
            total = work * scenes * epochs
            hours = [
                f"{key} {total / (peak * UTILISATION) / 3600:.1f}" for key, peak in PEAK.items()
            ]
            print(f"{scenes:6} scenes, {name}: {total / 1e15:8.1f} PFLOP: {', '.join(hours)}")


if __name__ == "__main__":
    main()
