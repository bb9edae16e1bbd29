"""Pictures of voxels: shaded cubes, ray-cast from any camera.

Axes, units and voxel order are defined in datasets/geometry.py.
"""

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


def render_voxels(
    solid: np.ndarray,
    colors: np.ndarray,
    K: np.ndarray,
    pose: np.ndarray,
    origin: np.ndarray,
    size: tuple[int, int] = IMAGE_SIZE,
    samples: int = 2,
) -> np.ndarray:
    """Solid voxels as a camera sees them, with transparent background.

    solid: (60, 36, 60) bool; colors: (60, 36, 60, 3) uint8 RGB; K: (3, 3) for the picture's size;
    pose: (4, 4) camera to world; origin: (3,) metres; size: (height, width); samples: rays a pixel
    along each axis. Returns (height, width, 4) uint8 RGBA.
    """
    camera, rays = _rays(K, pose, origin, size, samples)
    faces, first = _first_faces(solid, camera, rays)
    hit = np.flatnonzero(first >= 0)
    shaded = np.zeros((len(rays), 4), np.float32)
    shaded[hit, 3] = 255
    shaded[hit, :3] = _shade(solid, colors, faces, camera, first[hit], rays[hit])

    shaded = shaded.reshape(size[0], samples, size[1], samples, 4)
    mean = sum(shaded[:, i, :, j] for i, j in np.ndindex(samples, samples)) / samples**2
    mean[..., :3] *= 255 / np.maximum(mean[..., 3:], 1)
    return np.rint(mean).clip(0, 255).astype(np.uint8)


def look_at_voxels(solid, origin, azimuth, elevation, size=IMAGE_SIZE):
    """A camera from which all solid voxels fill the picture.

    solid: (60, 36, 60) bool, one voxel at least; origin: (3,) metres; azimuth: of the viewing
    direction, radians from world Y towards X; elevation: of the camera above the voxels, radians;
    size: (height, width).
    Returns K (3, 3), pose (4, 4) camera to world.
    """
    corners = np.argwhere(solid)[:, WORLD_OF_ARRAY]
    low, high = corners.min(axis=0), corners.max(axis=0) + 1
    distance = 2.2 * np.linalg.norm(high - low)
    forward = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.cos(azimuth) * np.cos(elevation),
            -np.sin(elevation),
        ]
    )
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
    pose[:3, :3], pose[:3, 3] = axes, position * VOXEL_SIZE + origin
    return K, pose


def seen_voxels(
    solid: np.ndarray, K: np.ndarray, pose: np.ndarray, origin: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The voxels that at least one pixel shows: (60, 36, 60) bool. Arguments as render_voxels."""
    camera, rays = _rays(K, pose, origin, size, samples=1)
    faces, first = _first_faces(solid, camera, rays)
    seen = np.zeros(solid.shape, bool)
    seen[tuple(faces.voxels[first[first >= 0]].T)] = True
    return seen


def _rays(
    K: np.ndarray, pose: np.ndarray, origin: np.ndarray, size: tuple[int, int], samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Camera (3,) and rays (n, 3), float32, in voxels from the origin, in array axes."""
    camera = ((pose[:3, 3] - origin) / VOXEL_SIZE)[WORLD_OF_ARRAY]
    axes = pose[WORLD_OF_ARRAY, :3]  # columns: right, down, forward
    rays = camera_rays(np.asarray(K, np.float64), size, samples)
    # The sum of a term a row and a term a column: a third of the time of a product a ray.
    down = rays[:, :1, 1:2] * axes[:, 1]
    right = rays[:1, :, :1] * axes[:, 0]
    rays = down.astype(np.float32) + (right + axes[:, 2]).astype(np.float32)
    return camera.astype(np.float32), rays.reshape(-1, 3)


def _first_faces(
    solid: np.ndarray, camera: np.ndarray, rays: np.ndarray
) -> tuple[Faces, np.ndarray]:
    """The faces turned to the camera, and which of them each ray meets first: (n,) int, -1 none."""
    faces = exposed_faces(solid, camera)
    if not len(faces.axis):
        return faces, np.full(len(rays), -1)
    # Two triangles a face; -1 // 2 stays -1.
    return faces, RayTarget(faces.triangles()).first(camera, rays) // 2


def _shade(
    solid: np.ndarray,
    colors: np.ndarray,
    faces: Faces,
    camera: np.ndarray,
    met: np.ndarray,
    rays: np.ndarray,
) -> np.ndarray:
    """Colours (n, 3) in 0..255 where rays (n, 3) meet faces, met: (n,) their numbers."""
    met, inverse = np.unique(met, return_inverse=True)
    voxels, axis, side, corners = (of_faces[met] for of_faces in faces)
    plane = corners[np.arange(len(met)), 0, axis]
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

    def along(axes: np.ndarray) -> np.ndarray:
        """Where the ray meets the face, 0..1 from the voxel's lower corner along these axes."""
        start = (camera[axes] - voxels[np.arange(len(met)), axes]).astype(np.float32)
        return (start[inverse] + distance * rays[rows, axes[inverse]]).clip(0, 1)

    rows = np.arange(len(rays))
    distance = (plane - camera[axis])[inverse] / rays[rows, axis[inverse]]
    s, t = along(first), along(second)
    corner_light = corner_light[:, :, inverse]
    low, high = corner_light[:, 0] + t * (corner_light[:, 1] - corner_light[:, 0])
    rim = np.minimum(np.minimum(s, 1 - s), np.minimum(t, 1 - t)) < _EDGE_WIDTH
    shadow = (low + s * (high - low)) * np.where(rim, np.float32(_EDGE_LIGHT), np.float32(1))
    return base[inverse] * shadow[:, None]
