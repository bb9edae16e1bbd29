"""The network's middle on whole volumes: for export, which wants fixed shapes, and as an oracle.

models/projection.py computes the same from the few thousand visible pixels alone.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from constants import GRID, IMAGE_SIZE, NO_PIXEL


def project(feature: Tensor, mapping: Tensor, align_corners: bool) -> Tensor:
    """Every voxel's feature: that of a map (B, C, h, w) at the voxel's pixel, 0 without one.

    mapping: (B, 60, 36, 60) int64, pixel v * 640 + u of a voxel, 307200 none. The map is sampled as
    if it were upsampled to the image's size. Returns (B, C, 60, 36, 60).
    """
    pixel = mapping.flatten(1)
    rows, columns = IMAGE_SIZE
    position = torch.stack([pixel % columns, pixel // columns], dim=-1).to(feature.dtype)
    size = torch.tensor([columns, rows], dtype=feature.dtype, device=feature.device)
    # From -1 to 1: between the centres of the outermost pixels, or between their outer borders.
    place = 2 * position / (size - 1) - 1 if align_corners else (2 * position + 1) / size - 1
    seen = F.grid_sample(
        feature, place[:, :, None], padding_mode="border", align_corners=align_corners
    )
    return torch.where((pixel != NO_PIXEL)[:, None], seen[..., 0], 0.0).unflatten(2, GRID)


def fill_holes(volume: Tensor) -> Tensor:
    """Zeros of (B, C, X, Y, Z) become the mean of their 3x3x3 neighbourhood, padding counted."""
    return volume + F.avg_pool3d(volume, 3, stride=1, padding=1) * (volume == 0)


def middle(feature: Tensor, mapping: Tensor, align_corners: bool, tsdf_feature: Tensor) -> Tensor:
    """What 3D-SSCNet is given: see project; tsdf_feature and result are (B, C, 60, 36, 60)."""
    return fill_holes(project(feature, mapping, align_corners)) + tsdf_feature
