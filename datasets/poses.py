"""Camera poses: read from a file, or recovered from Mapping where the raw .bin files are lost."""

import re
from pathlib import Path

import numpy as np

from constants import GRID, NO_PIXEL, VOXEL_SIZE
from datasets.files import read_array
from datasets.geometry import NYU_INTRINSICS, WORLD_OF_ARRAY, check_pose, grid_origin
from datasets.raycast import camera_rays
from errors import InputError, one_line

MAX_MISSES = 0.02  # of the mapped pixels; the published mappings stay below 0.01
Pair = tuple[np.ndarray, np.ndarray]

# The camera that looks level along world Y: columns are its axes (right, down, forward).
_LEVEL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
# Yaw, pitch, roll (radians) and height to start from: cameras look into the room and rather down.
_STARTS = [(0, np.radians(pitch), 0, 1.2) for pitch in (-45, -20, 0)]
_AIM = 0.98  # a little inside the voxels: a pose on the boundary of the possible is less likely


def scene_id(name: str) -> str:
    """The four digits of a scene name such as 0003 or NYU0003, fit to be part of a path."""
    match = re.fullmatch(r"(?:NYU)?([0-9]{4})", str(name))
    if not match:
        raise InputError(f"{str(name)[:40]!r} is not a scene: expected four digits, as in 0003")
    return match[1]


def read_poses(path: str | Path) -> dict[str, Pair]:
    """{"0003": (pose, origin)}, float32, of an .npz with ids, cam_pose and vox_origin.

    ids: (n,) scene names; cam_pose: (n, 4, 4) camera to world; vox_origin: (n, 3) world metres.
    """
    ids = read_array(path, "ids", "U")
    poses, origins = (read_array(path, key, "biuf") for key in ("cam_pose", "vox_origin"))
    shapes = ids.shape, poses.shape, origins.shape
    if shapes != ((ids.size,), (ids.size, 4, 4), (ids.size, 3)):
        raise InputError(
            f"{path}: ids, cam_pose and vox_origin must be (n,), (n, 4, 4) and (n, 3), not {shapes}"
        )
    with np.errstate(over="ignore"):
        poses, origins = poses.astype(np.float32), origins.astype(np.float32)
    if not np.isfinite(origins).all():
        raise InputError(f"{path}: vox_origin is not finite")
    try:
        scenes = [scene_id(name) for name in ids]
    except (InputError, ValueError) as error:  # ValueError: not even text
        raise InputError(f"{path}: {one_line(error)}") from None
    cameras = zip(scenes, poses, origins, strict=True)
    return {s: (check_pose(pose, f"{path}, scene {s}"), origin) for s, pose, origin in cameras}


def recover_pose(mapping: np.ndarray, K: np.ndarray = NYU_INTRINSICS) -> Pair:
    """The camera from which each pixel's ray crosses the voxel that Mapping gives it to.

    mapping: (60, 36, 60), pixel index of a voxel or 307200; K: (3, 3), what made the mapping.
    Returns (pose (4, 4) camera to world, origin (3,)) float32. Where many poses fit, one of them:
    the published mappings leave some 0.1 degrees and 5 mm open. Raises InputError if none fits.
    """
    from scipy.optimize import least_squares  # slow to import, and rarely needed

    rays, centres = _constraints(mapping, K)
    if len(rays) < 50:
        raise InputError(f"{len(rays)} mapped pixels are too few to recover the camera from")
    starts = [least_squares(_direction_error, x, args=(rays, centres)) for x in _STARTS]
    best = min(starts, key=lambda result: result.cost)
    pose = _pose(least_squares(_violation, best.x, args=(rays, centres)).x)
    misses = missed_voxels(mapping, pose, K)
    if misses > MAX_MISSES:
        raise InputError(
            f"no camera fits the Mapping: {misses:.1%} of its rays miss their voxel; was it made "
            "with other intrinsics?"
        )
    pose = pose.astype(np.float32)
    return pose, grid_origin(pose)


def missed_voxels(mapping: np.ndarray, pose: np.ndarray, K: np.ndarray = NYU_INTRINSICS) -> float:
    """Fraction of the mapped pixels whose ray does not cross the voxel that Mapping gives it to."""
    distance, limit = _separation(np.asarray(pose, np.float64), *_constraints(mapping, K))
    return float((distance > limit * 1.001).any(axis=1).mean()) if len(distance) else 0.0


def _constraints(mapping: np.ndarray, K: np.ndarray) -> Pair:
    """Unit rays in the camera's frame and voxel centres from the grid's origin, both (n, 3)."""
    mapping = np.asarray(mapping).reshape(GRID)
    mapped = mapping != NO_PIXEL
    rays = camera_rays(np.asarray(K, np.float64)).reshape(-1, 3)[mapping[mapped]]
    voxels = np.argwhere(mapped)[:, WORLD_OF_ARRAY]
    return rays / np.linalg.norm(rays, axis=1, keepdims=True), (voxels + 0.5) * VOXEL_SIZE


def _pose(parameters: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZXY", parameters[:3]).as_matrix() @ _LEVEL
    pose[2, 3] = parameters[3]
    return pose


def _in_world(pose: np.ndarray, rays: np.ndarray, centres: np.ndarray) -> Pair:
    """Rays and voxel centres, both (n, 3), in world axes as seen from the camera."""
    return rays @ pose[:3, :3].T, centres + grid_origin(pose) - pose[:3, 3]


def _direction_error(parameters: np.ndarray, rays: np.ndarray, centres: np.ndarray) -> np.ndarray:
    rays, centres = _in_world(_pose(parameters), rays, centres)
    return (centres / np.linalg.norm(centres, axis=1, keepdims=True) - rays).reshape(-1)


def _separation(pose: np.ndarray, rays: np.ndarray, centres: np.ndarray) -> Pair:
    """Separating axes of a line and a cube: it is crossed if distance <= limit on all three."""
    rays, centres = _in_world(pose, rays, centres)
    size = np.abs(rays)
    limit = VOXEL_SIZE / 2 * (size.sum(axis=1, keepdims=True) - size)
    return np.abs(np.cross(rays, centres)), limit


def _violation(parameters: np.ndarray, rays: np.ndarray, centres: np.ndarray) -> np.ndarray:
    distance, limit = _separation(_pose(parameters), rays, centres)
    return np.maximum(distance - _AIM * limit, 0).reshape(-1)
