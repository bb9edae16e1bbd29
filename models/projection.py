"""2D -> 3D: image features at the mapped pixels to the voxels that these pixels see.

No dense 480x640 feature map is built: a map of lower resolution is sampled, with the weights of
bilinear upsampling, at the few thousand pixels that have a voxel. Nor is a dense volume: of 129,600
voxels, pixels see some 10,000, and the hole filling changes these and their neighbours.

Rows (N, C) lie at flat voxel indices (N,) of the batch: sample * 129600 + voxel.
"""

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


def _two_nearest(
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
    top, bottom, v = _two_nearest(pixels.row, height, full_size[0], align_corners)
    left, right, u = _two_nearest(pixels.column, width, full_size[1], align_corners)
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


class Neighbours(NamedTuple):
    """Which of some rows lie in the 3x3x3 neighbourhood of each of some voxels."""

    rows: Tensor  # their indices, one voxel's after the other's
    starts: Tensor  # where each voxel's begin

    def sum(self, rows: Tensor) -> Tensor:
        """Their sum for each voxel; rows: (N, C) float. Returns (M, C)."""
        return F.embedding_bag(self.rows, rows, self.starts, mode="sum")


class Reach(NamedTuple):
    """The N voxels that V visible ones and the hole filling around them change."""

    near: Tensor  # (N,) int64: flat indices in the batch, ascending
    place: Tensor  # (V,) int64: where the visible voxels are among them
    visible: Neighbours  # visible voxels around those near
    around: Neighbours  # voxels near around the visible ones


def _in_padded(voxels: Tensor) -> Tensor:
    """Flat indices of the batch where each side of the grid has one voxel more at both ends."""
    x, y, z = GRID
    sample_and_x, rest = voxels // (y * z), voxels % (y * z)
    planes = sample_and_x + 2 * (sample_and_x // x) + 1
    return (planes * (y + 2) + rest // z + 1) * (z + 2) + rest % z + 1


def _neighbours(at: Tensor, wanted: Tensor, batch_size: int) -> Neighbours:
    """The rows at voxels `at` (N,) around the voxels `wanted` (M,), flat indices of the batch."""
    x, y, z = (size + 2 for size in GRID)
    row_at = torch.full((batch_size * x * y * z,), -1, device=at.device)
    row_at[_in_padded(at)] = torch.arange(len(at), device=at.device)
    step = torch.arange(-1, 2, device=at.device)
    steps = ((step[:, None, None] * y + step[:, None]) * z + step).flatten()
    rows = row_at[_in_padded(wanted)[:, None] + steps]
    exists = rows >= 0
    count = exists.sum(dim=1)
    return Neighbours(rows[exists], count.cumsum(0) - count)


def reach_of(voxels: Tensor, batch_size: int) -> Reach:
    """voxels: (V,) int64 flat indices of the visible voxels in the batch, each once."""
    seen = torch.zeros(batch_size * NUM_VOXELS, device=voxels.device).index_fill_(0, voxels, 1)
    reach = F.max_pool3d(seen.view(batch_size, 1, *GRID), 3, stride=1, padding=1)
    near = reach.flatten().nonzero().squeeze(1)
    return Reach(
        near,
        torch.searchsorted(near, voxels),
        _neighbours(voxels, near, batch_size),
        _neighbours(near, voxels, batch_size),
    )


class _FillHoles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, reach: Reach) -> Tensor:
        filled = reach.visible.sum(rows) / 27
        hole = rows == 0
        filled.index_copy_(0, reach.place, rows + filled.index_select(0, reach.place) * hole)
        ctx.save_for_backward(hole)
        ctx.reach = reach
        return filled

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (hole,), reach = ctx.saved_tensors, ctx.reach
        direct = grad.index_select(0, reach.place)
        of_means = grad.index_copy(0, reach.place, direct * hole)
        return reach.around.sum(of_means) / 27 + direct, None


def fill_holes(rows: Tensor, reach: Reach) -> Tensor:
    """Replace zeros by the mean of their 3x3x3 neighbourhood (paper: 3D initialisation).

    The test for zero is per element: also a visible voxel's channel that a ReLU set to 0 is filled.
    The neighbourhood counts the zeros of the padding: its sum is always divided by 27.

    rows: (V, C) float features of the visible voxels, the others are 0. Returns (N, C) float: what
    the voxels within reach hold. Elsewhere the filled volume is 0.
    """
    return _FillHoles.apply(rows, reach)


class Surface(NamedTuple):
    """What a batch of images sees: everything of the projection that depends on no feature.

    Made once a step for teacher, student and losses: finding indices makes the host wait for a GPU.
    """

    size: tuple[int, int, int]  # B, H, W
    pixels: MappedPixels
    winner: Tensor  # (V,) int64: which of the P pixels gives each visible voxel its feature
    reach: Reach

    @classmethod
    def of(cls, mapping2d: "Tensor | Surface") -> "Surface":
        """Of mapping2d (B, H, W) int, the voxel of a pixel or -1; or itself."""
        if isinstance(mapping2d, cls):
            return mapping2d
        pixels = mapped_pixels(mapping2d)
        winner, voxels = visible_voxels(pixels, len(mapping2d))
        return cls(tuple(mapping2d.shape), pixels, winner, reach_of(voxels, len(mapping2d)))


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
