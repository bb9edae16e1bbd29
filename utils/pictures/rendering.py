"""Pictures of voxels: shaded cubes, ray-cast from any viewpoint.

Axes, units and voxel order are defined in datasets/geometry.py.
"""

from typing import NamedTuple

import numpy as np

from constants import IMAGE_SIZE, VOXEL_SIZE
from datasets.geometry import WORLD_OF_ARRAY
from datasets.raycast import Faces, RayTarget, camera_rays, exposed_faces

# Light on faces that look along +-X, +-height, +-forward: three shades make cubes of squares.
_FACE_LIGHT = np.array([0.80, 1.0, 0.90])
_FROM_BELOW = 0.65
_CORNER_SHADOW = 0.12  # for each of the up to three voxels that stand around a corner of a face
_EDGE_WIDTH, _EDGE_LIGHT = 0.07, 0.82  # the rim of every face, which keeps voxels countable
_MARGIN = 0.03  # of the picture, on each side


class Viewpoint(NamedTuple):
    """From where a picture of voxels is taken."""

    K: np.ndarray  # (3, 3), for the picture's size
    pose: np.ndarray  # (4, 4) camera to world
    origin: np.ndarray  # (3,) corner of voxel (0, 0, 0), world metres
    size: tuple[int, int] = IMAGE_SIZE  # height, width


def look_at_voxels(
    solid: np.ndarray, azimuth: float, elevation: float, size: tuple[int, int] = IMAGE_SIZE
) -> Viewpoint:
    """A viewpoint from which all solid voxels fill the picture; its world starts at the grid.

    solid: (60, 36, 60) bool, one voxel at least; azimuth: of the viewing direction, radians from
    world Y towards X; elevation: of the camera above the voxels, radians; size: (height, width).
    """
    corners = np.argwhere(solid)[:, WORLD_OF_ARRAY]
    low, high = corners.min(axis=0), corners.max(axis=0) + 1
    distance = 2.2 * np.linalg.norm(high - low)
    level = np.array([np.sin(azimuth), np.cos(azimuth), 0])
    forward = level * np.cos(elevation) - [0, 0, np.sin(elevation)]
    right = np.array([np.cos(azimuth), -np.sin(azimuth), 0])
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    position = (low + high) / 2 - distance * forward

    around = np.concatenate([corners + np.array(c) for c in np.ndindex(2, 2, 2)])
    seen = (around - position) @ axes
    seen = seen[:, :2] / seen[:, 2:]
    left_top, right_bottom = seen.min(axis=0), seen.max(axis=0)
    shape = np.array(size[::-1])
    focal = ((1 - 2 * _MARGIN) * shape / (right_bottom - left_top)).min()
    centre = shape / 2 - focal * (left_top + right_bottom) / 2 - 0.5
    K = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, position * VOXEL_SIZE
    return Viewpoint(K, pose, np.zeros(3), size)


def render_voxels(
    solid: np.ndarray, colors: np.ndarray, viewpoint: Viewpoint, samples: int = 2
) -> np.ndarray:
    """Solid voxels, (60, 36, 60) bool, with transparent background: (height, width, 4) uint8 RGBA.

    colors: (60, 36, 60, 3) uint8 RGB; samples: rays a pixel along each axis.
    """
    sight = _cast(solid, viewpoint, samples)
    hit = np.flatnonzero(sight.first >= 0)
    shaded = np.zeros((len(sight.rays), 4), np.float32)
    shaded[hit, 3] = 255
    shaded[hit, :3] = _shade(solid, colors, sight, hit)

    height, width = viewpoint.size
    shaded = shaded.reshape(height, samples, width, samples, 4)
    mean = sum(shaded[:, i, :, j] for i, j in np.ndindex(samples, samples)) / samples**2
    mean[..., :3] *= 255 / np.maximum(mean[..., 3:], 1)
    return np.rint(mean).clip(0, 255).astype(np.uint8)


def seen_voxels(solid: np.ndarray, viewpoint: Viewpoint) -> np.ndarray:
    """The solid voxels that at least one pixel shows: (60, 36, 60) bool, as `solid`."""
    _, _, faces, first = _cast(solid, viewpoint, samples=1)
    seen = np.zeros(solid.shape, bool)
    seen[tuple(faces.voxels[first[first >= 0]].T)] = True
    return seen


class _Sight(NamedTuple):
    """What the pixels see, in voxels from the origin and in array axes."""

    camera: np.ndarray  # (3,) float32
    rays: np.ndarray  # (n, 3) float32
    faces: Faces  # those that look at the camera
    first: np.ndarray  # (n,) int, which of the faces each ray meets first, -1 none


def _cast(solid: np.ndarray, viewpoint: Viewpoint, samples: int) -> _Sight:
    K, pose, origin, size = viewpoint
    camera = ((pose[:3, 3] - origin) / VOXEL_SIZE)[WORLD_OF_ARRAY].astype(np.float32)
    axes = pose[WORLD_OF_ARRAY, :3]  # columns: right, down, forward
    rays = camera_rays(np.asarray(K, np.float64), size, samples)
    # A term a row plus a term a column: a third of the time of a product a ray.
    down = rays[:, :1, 1:2] * axes[:, 1]
    right = rays[:1, :, :1] * axes[:, 0]
    rays = (down.astype(np.float32) + (right + axes[:, 2]).astype(np.float32)).reshape(-1, 3)
    faces = exposed_faces(solid, camera)
    # Two triangles a face; -1 // 2 stays -1.
    return _Sight(camera, rays, faces, RayTarget(faces.triangles()).first(camera, rays) // 2)


def _shade(solid: np.ndarray, colors: np.ndarray, sight: _Sight, hit: np.ndarray) -> np.ndarray:
    """Colours (n, 3) in 0..255 where rays meet faces; hit: (n,) indices of these rays."""
    camera, rays = sight.camera, sight.rays[hit]
    met, inverse = np.unique(sight.first[hit], return_inverse=True)
    voxels, axis, side, corners = (of_faces[met] for of_faces in sight.faces)
    outward = 2 * side - 1
    light = _FACE_LIGHT[axis] * np.where((axis == 1) & (outward < 0), _FROM_BELOW, 1)
    base = (colors[tuple(voxels.T)] * light[:, None]).astype(np.float32)

    unit = np.eye(3, dtype=np.int64)
    first, second = np.array([[1, 2], [0, 2], [0, 1]])[axis].T  # the axes along the face
    free = voxels + outward[:, None] * unit[axis] + 2  # the cell that the face looks into
    padded = np.pad(solid, 2)
    corner_light = np.empty((2, 2, len(met)), np.float32)
    for i, j in np.ndindex(2, 2):
        a, b = (2 * i - 1) * unit[first], (2 * j - 1) * unit[second]
        beside, above, across = (padded[tuple((free + d).T)].astype(int) for d in (a, b, a + b))
        around = np.where(beside & above, 3, beside + above + across)
        corner_light[i, j] = 1 - _CORNER_SHADOW * around

    rows = np.arange(len(rays))
    plane = corners[np.arange(len(met)), 0, axis]
    distance = (plane - camera[axis])[inverse] / rays[rows, axis[inverse]]
    # Where the rays meet the faces, 0..1 from the voxel's lower corner.
    place = (camera - voxels).astype(np.float32)[inverse] + distance[:, None] * rays
    s, t = (place[rows, along[inverse]].clip(0, 1) for along in (first, second))
    corner_light = corner_light[:, :, inverse]
    low, high = corner_light[:, 0] + t * (corner_light[:, 1] - corner_light[:, 0])
    rim = np.minimum(np.minimum(s, 1 - s), np.minimum(t, 1 - t)) < _EDGE_WIDTH
    shadow = (low + s * (high - low)) * np.where(rim, np.float32(_EDGE_LIGHT), np.float32(1))
    return base[inverse] * shadow[:, None]
