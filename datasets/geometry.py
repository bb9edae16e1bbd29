"""Cameras, the voxel grid and how a pixel finds its voxel. Axes are defined here and nowhere else.

World: metres, Z up, floor at z = 0, camera above (0, 0). Camera: x right, y down, z forward; a pose
is the 4x4 camera-to-world matrix. Arrays over the grid are (X, height, forward), so array axes 0,
1, 2 are world X, Z, Y; flattened, the index is (i0 * 36 + i1) * 60 + i2 at 8 cm.

      world Z = array axis 1 (height, up; 36 voxels, 2.88 m)
        ^
        |    camera            world Y = array axis 2 (forward; 60 voxels, 4.8 m)
        |      o--> z         ^
        |      |\\            /      +-----------+
        |      v x right    /      /           /|
        |      y down      /      +-----------+ |     the box is centred on the point 3.4 m
        |                 /       |           | +     in front of the camera and starts 5 cm
        +----------------+        |           |/      below the floor
        |  floor z = 0            o-----------+
        +------------------------------------------> world X = array axis 0 (right; 60, 4.8 m)
                                  ^ origin: the corner of voxel (0, 0, 0)

Voxel (i0, i1, i2) at size s holds the points in [origin + i * s, origin + (i + 1) * s), with i in
the order (world X, Y, Z) = (i0, i2, i1). Origins and poses are in world order.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from constants import FINE_FACTOR, FINE_GRID, GRID, NUM_VOXELS, VOXEL_SIZE
from constants import NYU_INTRINSICS as NYU_INTRINSICS  # with the other cameras, for who looks here
from constants import NYUCAD_INTRINSICS as NYUCAD_INTRINSICS
from errors import InputError

FINE_VOXEL_SIZE = VOXEL_SIZE / FINE_FACTOR  # 2 cm

BOX_DISTANCE = 3.4  # metres from the camera to the centre of the box, along the view's ground track
BOX_FLOOR = -0.05  # height of the box's lower face
WORLD_OF_ARRAY = [0, 2, 1]  # array axis -> world axis, and back


def grid_origin(pose: np.ndarray) -> np.ndarray:
    """Corner of voxel (0, 0, 0) for a camera-to-world pose, as the SSCNet data place it.

    pose: (4, 4) floats. Returns (3,) of the same type, world metres.
    """
    x, y = BOX_DISTANCE * pose[:2, 2] - VOXEL_SIZE * GRID[0] / 2
    return np.array([x, y, BOX_FLOOR], dtype=pose.dtype)


def voxels_in_view(
    pose: np.ndarray, origin: np.ndarray, K: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Voxels whose centre a camera has in its image, seen or hidden: (60, 36, 60) bool.

    pose: (4, 4) camera to world; origin: (3,) of the grid; K: (3, 3); size: (height, width).
    """
    voxels = np.indices(GRID).reshape(3, -1)[WORLD_OF_ARRAY]
    centres = np.asarray(origin, np.float64)[:, None] + (voxels + 0.5) * VOXEL_SIZE
    rotation, position = np.asarray(pose, np.float64)[:3, :3], np.asarray(pose, np.float64)[:3, 3:]
    x, y, z = np.asarray(K, np.float64) @ rotation.T @ (centres - position)
    height, width = size
    # Pixel (u, v) is what lies within half a pixel of it.
    inside = (x >= -0.5 * z) & (x < (width - 0.5) * z) & (y >= -0.5 * z) & (y < (height - 0.5) * z)
    return (inside & (z > 0)).reshape(GRID)


def check_pose(pose: np.ndarray, name: str = "pose") -> np.ndarray:
    """Return pose as (4, 4) float32; InputError unless it is finite and a rigid transform."""
    pose = np.asarray(pose, dtype=np.float32)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError(f"{name}: a camera pose must be a finite 4x4 matrix")
    rotation = pose[:3, :3].astype(np.float64)
    if not (
        np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
        and np.linalg.det(rotation) > 0
        and np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6)
    ):
        raise InputError(
            f"{name}: the camera pose is not a rigid transform (rotation and translation, "
            "row-major 4x4, camera to world)"
        )
    return pose


def check_depth(depth: np.ndarray, name: str = "depth") -> np.ndarray:
    """Return depth as (H, W) float32 metres; InputError unless finite and not negative."""
    depth = np.asarray(depth, dtype=np.float32)
    if depth.ndim != 2:
        raise InputError(f"{name}: depth must be (height, width), not of shape {depth.shape}")
    if not np.isfinite(depth).all() or depth.min(initial=0) < 0:
        raise InputError(f"{name}: depth must be finite and >= 0 metres (0 = not measured)")
    return depth


@dataclass(eq=False)
class Frame:
    """A depth image and its camera, checked once; the voxels of its pixels are computed once.

    device: where they are computed, and what is made of them; only the depth is copied there.
    keep_unmeasured: a pixel without depth lies at the camera's centre, and the published arrays
    keep it there. That matters only for a camera inside the grid; False for frames of one's own.
    Raises InputError for an unusable depth or pose.
    """

    depth: np.ndarray  # (H, W) metres along the camera's z axis, 0 = not measured
    K: np.ndarray  # (3, 3)
    pose: np.ndarray  # (4, 4) camera to world
    origin: np.ndarray  # (3,) world metres, of the grid
    keep_unmeasured: bool = True
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.depth, self.pose = check_depth(self.depth), check_pose(self.pose)
        self.K, self.origin = (np.asarray(a, np.float32) for a in (self.K, self.origin))

    @cached_property
    def metres(self) -> Tensor:
        """The depth on the device: (H, W) float32."""
        return torch.from_numpy(self.depth).to(self.device)

    def points(self) -> Tensor:
        """Every pixel's world point, in raster order: (3, H*W) float32.

        Single precision, in this order of operations: it decides the voxel of points on a boundary.
        """
        depth, ((fx, _, cx), (_, fy, cy), _) = self.metres, self.K.tolist()
        v, u = (torch.arange(n, device=depth.device) for n in depth.shape)
        x = (u - cx) * depth / fx
        y = (v[:, None] - cy) * depth / fy
        rows = self.pose[:3].tolist()
        return torch.stack([r[0] * x + r[1] * y + r[2] * depth + r[3] for r in rows]).flatten(1)

    @cached_property
    def fine_voxels(self) -> Tensor:
        """The 2 cm voxel of every pixel's point: (3, H*W) int64 in (240, 144, 240), -1 if none."""
        side = float(np.float32(FINE_VOXEL_SIZE))
        origin = torch.from_numpy(self.origin).to(self.device)
        cells = ((self.points() - origin[:, None]) / side).floor_()[WORLD_OF_ARRAY]
        sizes = torch.tensor(FINE_GRID, device=cells.device)[:, None]
        inside = ((cells >= 0) & (cells < sizes)).all(dim=0)
        if not self.keep_unmeasured:
            inside &= self.metres.flatten() > 0
        return torch.where(inside, cells, -1).long()

    @cached_property
    def coarse_voxels(self) -> Tensor:
        """The 8 cm voxel of every pixel's point: (H*W,) int64, flat, 129600 if none."""
        i, j, k = self.fine_voxels // FINE_FACTOR
        return torch.where(i < 0, NUM_VOXELS, (i * GRID[1] + j) * GRID[2] + k)

    @cached_property
    def pixel_voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """The pixels whose point is in the grid, and the 2 cm voxel that it falls in.

        (n,) linear pixel indices v * W + u, ascending, and (n, 3) array indices into
        (240, 144, 240).
        """
        voxels = self.fine_voxels.cpu().numpy()
        pixels = np.flatnonzero(voxels[0] >= 0)
        return pixels, voxels[:, pixels].T
