"""2D -> 3D: image features at the mapped pixels to the voxels that these pixels see.

No dense 480x640 feature map is built: a map of lower resolution is sampled, with the weights of
bilinear upsampling, at the few thousand pixels that have a voxel. Nor is a dense volume: of 129,600
voxels, pixels see some 10,000, and the hole filling changes these and their neighbours.

Rows (N, C) lie at flat voxel indices (N,) of the batch: sample * 129600 + voxel.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
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

    feature: (B, C, h, w) float; full_size: (H, W) of the image in which the pixels are counted.
    Returns (P, C) float.
    """
    _, channels, height, width = feature.shape
    top, bottom, v = _neighbours(pixels.row, height, full_size[0], align_corners)
    left, right, u = _neighbours(pixels.column, width, full_size[1], align_corners)
    top, bottom = ((pixels.sample * height + row) * width for row in (top, bottom))
    corners = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=1)
    weights = torch.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u], dim=1)
    rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    return F.embedding_bag(corners, rows, per_sample_weights=weights.to(rows.dtype), mode="sum")


def visible_voxels(pixels: MappedPixels, batch_size: int) -> tuple[Tensor, Tensor]:
    """The V voxels that pixels see, and which pixel gives a voxel its feature.

    Where several pixels claim a voxel (an image that augmentation enlarged), the last in raster
    order wins, on every device. Returns (V,) int64 indices into the P pixels, ascending; (V,) int64
    voxel indices of the batch.
    """
    target = pixels.sample * NUM_VOXELS + pixels.voxel
    order = torch.arange(len(target), device=target.device)
    last = torch.full((batch_size * NUM_VOXELS,), -1, device=target.device)
    last.scatter_reduce_(0, target, order, reduce="amax")
    winner = (last[target] == order).nonzero().squeeze(1)
    return winner, target[winner]


def _neighbourhood_sum(rows: Tensor, at: Tensor, wanted: Tensor, batch_size: int) -> Tensor:
    """Sum of the rows in the 3x3x3 neighbourhood of each wanted voxel.

    rows: (N, C) float, at the voxels `at` (N,); all others count as 0. wanted: (M,) int64 voxel
    indices. Returns (M, C) float.
    """
    padded = [batch_size, *(size + 2 for size in GRID)]

    def in_padded(voxels: Tensor) -> Tensor:
        sample, x, y, z = torch.unravel_index(voxels, (batch_size, *GRID))
        return ((sample * padded[1] + x + 1) * padded[2] + y + 1) * padded[3] + z + 1

    row_at = torch.full(padded, -1, device=at.device).flatten()
    row_at[in_padded(at)] = torch.arange(len(at), device=at.device)
    steps = [
        (x * padded[2] + y) * padded[3] + z for x, y, z in itertools.product((-1, 0, 1), repeat=3)
    ]
    neighbours = row_at[in_padded(wanted)[:, None] + torch.tensor(steps, device=at.device)]
    exists = neighbours >= 0
    count = exists.sum(dim=1)
    return F.embedding_bag(neighbours[exists], rows, count.cumsum(0) - count, mode="sum")


class _FillHoles(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, rows: Tensor, voxels: Tensor, near: Tensor, batch_size: int
    ) -> Tensor:
        place = torch.searchsorted(near, voxels)
        filled = _neighbourhood_sum(rows, voxels, near, batch_size) / 27
        hole = rows == 0
        filled.index_copy_(0, place, rows + filled.index_select(0, place) * hole)
        ctx.save_for_backward(voxels, near, place, hole)
        ctx.batch_size = batch_size
        return filled

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        voxels, near, place, hole = ctx.saved_tensors
        direct = grad.index_select(0, place)
        of_means = grad.index_copy(0, place, direct * hole)
        grad_rows = _neighbourhood_sum(of_means, near, voxels, ctx.batch_size) / 27
        return grad_rows + direct, None, None, None


def fill_holes(rows: Tensor, voxels: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Replace zeros by the mean of their 3x3x3 neighbourhood (paper: 3D initialisation).

    The test for zero is per element: also a visible voxel's channel that a ReLU set to 0 is filled.
    The neighbourhood counts the zeros of the padding: its sum is always divided by 27.

    rows: (V, C) float features of the visible voxels, the others are 0; voxels: (V,) int64 voxel
    indices, each once. Returns (N, C) float, (N,) int64: what the voxels within reach hold, and
    their indices, ascending. Elsewhere the filled volume is 0.
    """
    seen = torch.zeros(batch_size * NUM_VOXELS, device=rows.device)
    seen[voxels] = 1
    reach = F.max_pool3d(seen.view(batch_size, 1, *GRID), 3, stride=1, padding=1)
    near = reach.flatten().nonzero().squeeze(1)
    return _FillHoles.apply(rows, voxels, near, batch_size), near


def by_voxel(volume: Tensor) -> Tensor:
    """(B, C, X, Y, Z) -> (B * X * Y * Z, C); a view of a channels-last volume."""
    return volume.permute(0, 2, 3, 4, 1).reshape(-1, volume.shape[1])


def add_rows(volume: Tensor, rows: Tensor, voxels: Tensor) -> Tensor:
    """Add rows (N, C) to a volume (B, C, X, Y, Z) at voxels (N,), each given once.

    The sum is in the channels-last layout.
    """
    total = by_voxel(volume).index_add(0, voxels, rows.to(volume.dtype))
    batch_size, channels, *grid = volume.shape
    return total.view(batch_size, *grid, channels).permute(0, 4, 1, 2, 3)
