"""TSDF of a depth image or of ground-truth voxels (TSDF-CAD); axes as in datasets/geometry.py.

In PyTorch, so that it runs where the network does: of a frame, only the depth is copied to a GPU.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from constants import FINE_FACTOR, FINE_GRID, GRID
from datasets.geometry import FINE_VOXEL_SIZE, NYUCAD_INTRINSICS, WORLD_OF_ARRAY, Frame
from datasets.raycast import raycast_labels

TRUNCATION = 12  # fine voxels: 24 cm
DEPTH_RANGE = (0.5, 8.0)  # metres in which the sensor is trusted; other pixels say nothing
SIGN_TOLERANCE = 1e-4  # metres: a corner this close behind the surface still counts as in front
CPU_SLAB = 24  # fine voxels of X that a CPU computes at once: they fit its cache


def tsdf_from_depth(
    depth: np.ndarray,
    K: np.ndarray,
    pose: np.ndarray,
    origin: np.ndarray,
    keep_unmeasured: bool = True,
) -> np.ndarray:
    """frame_tsdf of these arguments of Frame, as (60, 36, 60) float32."""
    return frame_tsdf(Frame(depth, K, pose, origin, keep_unmeasured)).numpy()


def frame_tsdf(frame: Frame) -> Tensor:
    """TSDF at 8 cm: the mean of fine_tsdf over 4x4x4 blocks, neither flipped nor sampled.

    Returns (60, 36, 60) float32 in [-1, 1], on the frame's device: -1 hidden, +1 free, 0 surface or
    unknown.
    """
    f = FINE_FACTOR
    blocks = (slab.view(-1, f, GRID[1], f, GRID[2], f) for slab in _fine_slabs(frame))
    return torch.cat([b.sum(dim=1).sum(dim=2).sum(dim=3) for b in blocks]) / f**3


def tsdf_from_labels(
    labels: np.ndarray, pose: np.ndarray, origin: np.ndarray, K: np.ndarray = NYUCAD_INTRINSICS
) -> np.ndarray:
    """TSDF-CAD: the TSDF of the perfect depth of the ground-truth voxels.

    labels: (60, 36, 60) or (240, 144, 240), 0 and 255 are free for the ray, all else is solid; the
    others as in Frame. Returns (60, 36, 60) float32 in [-1, 1].
    """
    depth = raycast_labels(labels, K, pose, origin)
    return tsdf_from_depth(depth, K, pose, origin, keep_unmeasured=False)


def fine_tsdf(frame: Frame) -> Tensor:
    """TSDF at 2 cm: (240, 144, 240) float32 in [-1, 1], on the frame's device.

    0 on voxels with a measured point, else the Euclidean distance in voxels to the nearest such
    voxel over TRUNCATION, at most 1; negative behind the surface. Also 0 where nothing is
    known: outside the image, behind the camera, no depth or depth outside DEPTH_RANGE. A voxel is
    projected, and compared with the depth there, by its lower corner: the published arrays are made
    so.
    """
    return torch.cat(list(_fine_slabs(frame)))


def _fine_slabs(frame: Frame) -> Iterator[Tensor]:
    """fine_tsdf in parts along X."""
    depth, device = frame.metres, frame.metres.device
    usable = (depth >= DEPTH_RANGE[0]) & (depth <= DEPTH_RANGE[1])
    # Around the image a border of pixels without depth, for all that is projected beside it.
    depth = F.pad(torch.where(usable, depth, 0), (1, 1, 1, 1))
    rows, columns = depth.shape
    (fx, _, cx), (_, fy, cy), _ = frame.K.tolist()

    # Corners relative to the camera: R^T (q - t) is a sum of one term per axis of the grid.
    offset = (frame.origin - frame.pose[:3, 3])[WORLD_OF_ARRAY].tolist()
    side = float(np.float32(FINE_VOXEL_SIZE))
    corners = [torch.arange(n, device=device) * side for n in FINE_GRID]
    x, up, forward = (c + o for c, o in zip(corners, offset, strict=True))
    axes = frame.pose[:3, :3].T.tolist()
    ground = [r[0] * x[:, None, None] + r[1] * forward for r in axes]
    height = [r[2] * up[:, None] for r in axes]

    size = CPU_SLAB if device.type == "cpu" else FINE_GRID[0]
    squared = _squared_within_slices(frame, size)
    for start in range(0, FINE_GRID[0], size):
        stop = start + size
        low, high = max(start - TRUNCATION, 0), min(stop + TRUNCATION, FINE_GRID[0])
        nearest = _spread(squared[low:high], axis=0)[start - low : stop - low]
        cam_x, cam_y, cam_z = (g[start:stop] + h for g, h in zip(ground, height, strict=True))
        # Column and row in the bordered image, rounded half up.
        u = cam_x.mul_(fx).div_(cam_z).add_(cx).add_(0.5).floor_().add_(1).clamp_(0, columns - 1)
        v = cam_y.mul_(fy).div_(cam_z).add_(cy).add_(0.5).floor_().add_(1).clamp_(0, rows - 1)
        pixel = v.int().mul_(columns).add_(u.int())
        pixel.clamp_(0, rows * columns - 1)  # the camera's own corner is projected to no number
        measured = depth.flatten().index_select(0, pixel.flatten()).view_as(cam_z)
        value = nearest.float().sqrt_().div_(TRUNCATION)
        value.copysign_((measured - cam_z).add_(SIGN_TOLERANCE))
        yield value.mul_(measured.sign_()).mul_(cam_z > 0)


def _squared_within_slices(frame: Frame, size: int) -> Tensor:
    """Squared distance to the nearest measured voxel of the same slice of X, at most TRUNCATION's.

    Returns (240, 144, 240) uint8; size: slices that are computed at once.
    """
    i, j, k = frame.fine_voxels
    last = math.prod(FINE_GRID)  # one behind the grid, for pixels without a voxel
    index = torch.where(i < 0, last, (i * FINE_GRID[1] + j) * FINE_GRID[2] + k)
    squared = torch.full((last + 1,), TRUNCATION**2, dtype=torch.uint8, device=index.device)
    squared = squared.index_fill_(0, index, 0)[:last].view(FINE_GRID)
    for slab in squared.split(size):
        slab.copy_(_spread(_spread(slab, axis=2), axis=1))
    return squared


def _spread(squared: Tensor, axis: int) -> Tensor:
    """Squared distances within one more axis, by the definition: least over shifts along it.

    squared: (a, b, c) uint8, at most TRUNCATION squared, which is far.
    """
    least, n, far = squared.clone(), squared.shape[axis], TRUNCATION**2
    for shift in range(1, TRUNCATION):
        # What is far after the shift stays far, and within a byte.
        moved = squared.clone().clamp_max_(far - shift**2).add_(shift**2)
        for to, start in ((shift, 0), (0, shift)):
            part = least.narrow(axis, to, n - shift)
            torch.minimum(part, moved.narrow(axis, start, n - shift), out=part)
    return least
