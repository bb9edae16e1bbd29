"""TSDF of a depth image or of ground-truth voxels (TSDF-CAD); axes as in datasets/geometry.py."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from constants import FINE_FACTOR, FINE_GRID, GRID
from datasets.geometry import FINE_VOXEL_SIZE, NYUCAD_INTRINSICS, WORLD_OF_ARRAY, Frame
from datasets.raycast import raycast_labels

TRUNCATION = 12  # fine voxels: 24 cm
DEPTH_RANGE = (0.5, 8.0)  # metres in which the sensor is trusted; other pixels say nothing
SIGN_TOLERANCE = 1e-4  # metres: a corner this close behind the surface still counts as in front


def tsdf_from_depth(
    depth: np.ndarray,
    K: np.ndarray,
    pose: np.ndarray,
    origin: np.ndarray,
    keep_unmeasured: bool = True,
) -> np.ndarray:
    """frame_tsdf of these arguments of Frame."""
    return frame_tsdf(Frame(depth, K, pose, origin, keep_unmeasured))


def frame_tsdf(frame: Frame) -> np.ndarray:
    """TSDF at 8 cm: the mean of fine_tsdf over 4x4x4 blocks, neither flipped nor sampled.

    Returns (60, 36, 60) float32 in [-1, 1]: -1 hidden, +1 free, 0 surface or unknown.
    """
    f = FINE_FACTOR
    fine = fine_tsdf(frame).reshape(GRID[0], f, GRID[1], f, GRID[2], f)
    return fine.mean(axis=(1, 3, 5))


def tsdf_from_labels(
    labels: np.ndarray, pose: np.ndarray, origin: np.ndarray, K: np.ndarray = NYUCAD_INTRINSICS
) -> np.ndarray:
    """TSDF-CAD: the TSDF of the perfect depth of the ground-truth voxels.

    labels: (60, 36, 60) or (240, 144, 240), 0 and 255 are free for the ray, all else is solid; the
    others as in Frame. Returns (60, 36, 60) float32 in [-1, 1].
    """
    depth = raycast_labels(labels, K, pose, origin)
    return frame_tsdf(Frame(depth, K, pose, origin, keep_unmeasured=False))


def fine_tsdf(frame: Frame) -> np.ndarray:
    """TSDF at 2 cm: (240, 144, 240) float32 in [-1, 1].

    0 on voxels with a measured point, else the Euclidean distance in voxels to the nearest such
    voxel over TRUNCATION, at most 1; negative behind the surface. Also 0 where nothing is
    known: outside the image, behind the camera, no depth or depth outside DEPTH_RANGE. A voxel is
    projected, and compared with the depth there, by its lower corner: the published arrays are made
    so.
    """
    depth, K, pose = frame.depth, frame.K, frame.pose
    _, occupied = frame.pixel_voxels
    tsdf = np.zeros(FINE_GRID, dtype=np.float32)
    nearest, low, high = _nearest_occupied(occupied)

    # Corners relative to the camera: R^T (q - t) is a sum of one term per axis of the grid.
    corners = [np.arange(n, dtype=np.float32) * np.float32(FINE_VOXEL_SIZE) for n in FINE_GRID]
    offset = (frame.origin - pose[:3, 3])[WORLD_OF_ARRAY]
    x, up, forward = (c + o for c, o in zip(corners, offset, strict=True))
    ground = [r[0] * x[:, None, None] + r[1] * forward for r in pose[:3, :3].T]
    height = [r[2] * up[:, None] for r in pose[:3, :3].T]

    rows, columns = depth.shape
    for start in range(0, FINE_GRID[0], FINE_FACTOR):  # slabs that fit the cache
        slab = slice(start, start + FINE_FACTOR)
        cam_x, cam_y, cam_z = (g[slab] + h for g, h in zip(ground, height, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            u = K[0, 0] * cam_x / cam_z + K[0, 2]
            v = K[1, 1] * cam_y / cam_z + K[1, 2]
        # Rounding is half away from zero: -0.5 and the last half belong to pixels outside.
        inside = (u > -0.5) & (u < columns - 0.5) & (v > -0.5) & (v < rows - 0.5)
        seen = np.flatnonzero(inside & (cam_z > 0))
        u = (u.reshape(-1)[seen] + np.float32(0.5)).astype(np.int32)
        v = (v.reshape(-1)[seen] + np.float32(0.5)).astype(np.int32)
        measured = depth[v, u]
        usable = (measured >= DEPTH_RANGE[0]) & (measured <= DEPTH_RANGE[1])
        seen, measured = seen[usable], measured[usable]
        in_front = measured - cam_z.reshape(-1)[seen] > -SIGN_TOLERANCE
        value = np.where(in_front, np.float32(1), np.float32(-1))

        voxel = np.stack(np.unravel_index(seen, (FINE_FACTOR, *FINE_GRID[1:])))
        voxel[0] += start
        near = np.flatnonzero(((voxel >= low) & (voxel < high)).all(axis=0))
        voxel = voxel[:, near] - low
        squared = ((nearest[(slice(None), *voxel)] - voxel) ** 2).sum(axis=0)
        value[near] *= np.minimum(np.sqrt(squared.astype(np.float32)) / TRUNCATION, 1)
        tsdf[slab].reshape(-1)[seen] = value
    tsdf[tuple(occupied.T)] = 0
    return tsdf


def _nearest_occupied(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest occupied voxel of each voxel of a box [low, high) beyond which all is truncated.

    occupied: (n, 3). Returns (3, a, b, c) indices relative to low, low (3, 1), high (3, 1).
    """
    if not len(occupied):
        return np.zeros((3, 0, 0, 0), dtype=np.int32), np.zeros((3, 1), int), np.zeros((3, 1), int)
    low = np.maximum(occupied.min(axis=0) - TRUNCATION, 0)
    high = np.minimum(occupied.max(axis=0) + TRUNCATION + 1, FINE_GRID)
    free = np.ones(high - low, dtype=bool)
    free[tuple((occupied - low).T)] = False
    nearest = distance_transform_edt(free, return_distances=False, return_indices=True)
    return nearest, low[:, None], high[:, None]
