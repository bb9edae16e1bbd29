"""From pixels to voxels: sampling, last pixel wins, hole filling, against dense formulations."""

import pytest
import torch
from torch import nn

from constants import GRID, NO_VOXEL, NUM_VOXELS
from models import dense
from models.projection import (
    add_rows,
    fill_holes,
    mapped_pixels,
    reach_of,
    sample_bilinear,
    visible_voxels,
)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(12, 16), (30, 40), (48, 64)])
def test_sampling_equals_dense_upsampling(align_corners, size):
    torch.manual_seed(0)
    feature = torch.randn(2, 5, *size, requires_grad=True)
    mapping2d = torch.full((2, 48, 64), NO_VOXEL)
    mapping2d[torch.rand(mapping2d.shape) < 0.2] = 7
    mapping2d[:, 0, 0] = mapping2d[:, -1, -1] = 7
    ours = sample_bilinear(feature, mapped_pixels(mapping2d), (48, 64), align_corners)
    upsampled = nn.functional.interpolate(
        feature, (48, 64), mode="bilinear", align_corners=align_corners
    )
    theirs = upsampled.permute(0, 2, 3, 1)[mapping2d != NO_VOXEL]
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), feature)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), feature)
    torch.testing.assert_close(gradient, expected, atol=2e-5, rtol=0)


def test_the_last_pixel_in_raster_order_wins_its_voxel():
    mapping2d = torch.full((2, 480, 640), NO_VOXEL)
    mapping2d[0, 3, [5, 9]] = 100
    mapping2d[0, 2, 600] = 100
    mapping2d[1, 4, 4] = 100
    winner, voxels = visible_voxels(mapped_pixels(mapping2d), 2)
    assert winner.tolist() == [2, 3]
    assert voxels.tolist() == [100, NUM_VOXELS + 100]


def surface(seed, channels=3):
    """Features of random visible voxels of two scenes, at the borders of the grid too: half are 0.

    Their flat indices in the batch, and the volumes that are 0 elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand(2, *GRID, generator=generator) < 0.02
    seen[1, :3, :3, :3] = True
    seen[0, 20:] = False
    voxels = seen.flatten().nonzero().squeeze(1)
    rows = torch.randn(len(voxels), channels, generator=generator, dtype=torch.float64).relu()
    volume = torch.zeros(2 * NUM_VOXELS, channels, dtype=torch.float64)
    volume[voxels] = rows
    return rows, voxels, volume.view(2, *GRID, channels).permute(0, 4, 1, 2, 3)


def test_filled_holes_equal_the_dense_formulation():
    rows, voxels, volume = surface(0)
    background = torch.randn(volume.shape, dtype=torch.float64)
    rows.requires_grad_()
    background.requires_grad_()
    reach = reach_of(voxels, 2)
    ours = add_rows(background, fill_holes(rows, reach), reach.near)
    weights = torch.randn_like(ours)
    gradients = torch.autograd.grad((ours * weights).sum(), [rows, background])

    volume.requires_grad_()
    theirs = dense.fill_holes(volume) + background
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    in_volume, of_background = torch.autograd.grad((theirs * weights).sum(), [volume, background])
    at_voxels = in_volume.permute(0, 2, 3, 4, 1).reshape(-1, 3)[voxels]
    torch.testing.assert_close(gradients[0], at_voxels, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients[1], of_background, atol=0, rtol=0)


def test_holes_are_filled_per_element_and_padding_counts():
    volume = torch.zeros(*GRID, 2)
    volume[:2, :2, :2, 0] = 27.0  # a full corner: 8 of 27 neighbours
    volume[0, 0, 0, 0] = 0  # a visible voxel's channel that is zero is filled too
    volume[30, 10, 30, 1] = 27.0
    voxels = volume.any(dim=3).flatten().nonzero().squeeze(1)
    voxels = torch.cat([torch.zeros(1, dtype=torch.int64), voxels])
    reach = reach_of(voxels, 1)
    rows = fill_holes(volume.flatten(0, 2)[voxels], reach)
    filled = add_rows(torch.zeros(1, 2, *GRID), rows, reach.near)[0]
    assert filled[0, 0, 0, 0] == pytest.approx(7) and filled[0, 1, 1, 1] == 27
    assert filled[0, 2, 0, 0] == pytest.approx(4)
    assert filled[1, 30, 10, 30] == 27
    assert filled[1, 29:32, 9:12, 29:32].sum() == pytest.approx(27 + 26)


def test_nothing_visible():
    reach = reach_of(torch.zeros(0, dtype=torch.int64), 1)
    rows = fill_holes(torch.zeros(0, 3), reach)
    volume = torch.randn(1, 3, *GRID)
    assert torch.equal(add_rows(volume, rows, reach.near), volume)
