"""Which turn makes an image upright: a frozen encoder and one linear layer, made for this.

They come with the repository and have nothing to do with the network that completes the frame, so
frames are judged alike whichever that is. runs/fit_upright.py made the layer.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.files import read_array
from datasets.frames.turning import TURNS
from datasets.transforms import normalize
from models.encoder_weights import load_pretrained_encoder
from models.image_net import library_encoder

FOLDER = Path(__file__).resolve().parents[1] / "checkpoint"
ENCODER = "mobilenet_v2"
LONG_SIDE = 160  # pixels
ROWS = 3  # a layout from top to bottom is what is looked at


class UprightNet(nn.Module):
    """Features of an image at the four turns, and scores of them as in datasets/frames/upright.py.

    weight: (n,) of the features; None for features alone.
    """

    def __init__(self, weight: np.ndarray | None = None) -> None:
        super().__init__()
        self.encoder = library_encoder(ENCODER, weights=None)
        load_pretrained_encoder(self, ENCODER, str(FOLDER / "mobilenet_v2_nyu40.pth"))
        self.weight = None if weight is None else torch.from_numpy(weight.astype(np.float32))
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def features(self, rgb: np.ndarray) -> Tensor:
        """(4, n) float32, of an image (H, W, 3) uint8 at each of TURNS."""
        scale = LONG_SIDE / max(rgb.shape[:2])
        size = [max(32, round(n * scale)) for n in rgb.shape[1::-1]]
        small = torch.from_numpy(normalize(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)))
        turned = [torch.rot90(small, -turn // 90, (1, 2)) for turn in TURNS]
        found = [None] * len(TURNS)
        for first in range(2):  # lying and standing images
            levels = self.encoder(torch.stack(turned[first::2]))[-2:]
            rows = [F.adaptive_avg_pool2d(level, (ROWS, 1)).flatten(1) for level in levels]
            found[first::2] = torch.cat(rows, dim=1)
        return torch.stack(found)

    def forward(self, rgb: np.ndarray) -> np.ndarray:
        """Scores (4,) of an image (H, W, 3) uint8."""
        return (self.features(rgb) @ self.weight).double().numpy()


def upright_scores(rgb: np.ndarray) -> np.ndarray:
    """Scores (4,) of an image (H, W, 3) uint8, by the network that comes with the repository."""
    return _net()(rgb)


@cache
def _net() -> UprightNet:
    return UprightNet(read_array(FOLDER / "upright.npz", "weight", "f"))
