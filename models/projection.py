"""2D -> 3D: image features at the mapped pixels to the voxels that these pixels see.

No dense 480x640 feature map is built: a map of lower resolution is sampled, with the weights of
bilinear upsampling, at the few thousand pixels that have a voxel.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from constants import GRID, NO_VOXEL, NUM_VOXELS


class MappedPixels(NamedTuple):
    """The P pixels of a batch that have a voxel, by sample, then in raster order."""

    sample: Tensor  # (P,) int64: index in the batch
    row: Tensor  # (P,) int64
    column: Tensor  # (P,) int64
    voxel: Tensor  # (P,) int64: flat voxel index within the sample


def mapped_pixels(mapping2d: Tensor) -> MappedPixels:
    """mapping2d (B, H, W) int: voxel index of a pixel, -1 none."""
    sample, row, column = (mapping2d != NO_VOXEL).nonzero(as_tuple=True)
    return MappedPixels(sample, row, column, mapping2d[sample, row, column].long())


def _neighbours(
    position: Tensor, size: int, full_size: int, align_corners: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Of positions on the full-size axis: two neighbours on the small one, the second's weight."""
    if align_corners:
        source = position * ((size - 1) / (full_size - 1))
    else:
        source = ((position + 0.5) * (size / full_size) - 0.5).clamp(min=0)
    low = source.long().clamp(max=size - 1)
    return low, (low + 1).clamp(max=size - 1), source - low


def sample_bilinear(
    feature: Tensor, pixels: MappedPixels, full_size: tuple[int, int], align_corners: bool
) -> Tensor:
    """What `F.interpolate(feature, full_size, mode="bilinear")` has at the pixels.

    Args:
        feature: (B, C, h, w) float.
        full_size: (H, W) of the image in which the pixels are counted.

    Returns:
        (P, C) float.
    """
    _, channels, height, width = feature.shape
    top, bottom, v = _neighbours(pixels.row, height, full_size[0], align_corners)
    left, right, u = _neighbours(pixels.column, width, full_size[1], align_corners)
    top, bottom = ((pixels.sample * height + row) * width for row in (top, bottom))
    corners = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=1)
    weights = torch.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u], dim=1)
    rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    return F.embedding_bag(corners, rows, per_sample_weights=weights.to(rows.dtype), mode="sum")


def project(features: Tensor, pixels: MappedPixels, batch_size: int) -> Tensor:
    """Put each pixel's feature into its voxel; the others are 0.

    Where several pixels claim a voxel (an image that augmentation enlarged), the last in raster
    order wins, on every device.

    Args:
        features: (P, C) float.

    Returns:
        (B, C, 60, 36, 60) float.
    """
    target = pixels.sample * NUM_VOXELS + pixels.voxel
    order = torch.arange(len(target), device=target.device)
    last = torch.full((batch_size * NUM_VOXELS,), -1, device=target.device)
    last.scatter_reduce_(0, target, order, reduce="amax")
    keep = last[target] == order
    # Not channels last in memory: on the CPU, the batch norms behind it would sum the voxels in
    # single precision one by one, and get the variance wrong by 1e-4.
    volume = features.new_zeros(batch_size, features.shape[1], NUM_VOXELS)
    volume[pixels.sample[keep], :, pixels.voxel[keep]] = features[keep]
    return volume.unflatten(2, GRID)


def fill_holes(volume: Tensor) -> Tensor:
    """Replace zeros by the mean of their 3x3x3 neighbourhood (paper: 3D initialisation).

    The test for zero is per element: also a visible voxel's channel that a ReLU set to 0 is filled.
    The neighbourhood counts the zeros of the padding: its sum is always divided by 27.

    Shape: (B, C, X, Y, Z) -> the same.
    """
    mean = F.avg_pool3d(volume, 3, stride=1, padding=1)
    return torch.where(volume == 0, mean, volume)
