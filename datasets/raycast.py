"""Ray casting: the rays of a camera, the faces of voxels, and where the ones meet the others."""

from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from constants import FINE_GRID, GRID, IMAGE_SIZE, VOXEL_SIZE
from datasets.geometry import WORLD_OF_ARRAY, check_pose
from datasets.voxels import is_occupied
from errors import InputError

# Ray-cast depth lies this far (metres along z) behind the face that the ray enters, so that its
# point is in the occupied voxel and not, by rounding, in the free one before it.
FACE_NUDGE = 1e-4


class Faces(NamedTuple):
    """Faces of cubes, in voxels."""

    voxels: np.ndarray  # (n, 3) int, the cubes
    axis: np.ndarray  # (n,) int, along which the face looks,
    side: np.ndarray  # (n,) int, down (0) or up (1)
    corners: np.ndarray  # (n, 4, 3) float32, around the axis

    def triangles(self) -> np.ndarray:
        """Two triangles a face: (2 n, 3, 3) float32."""
        return self.corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)


class RayTarget:
    """Triangles, (n, 3, 3) corners, prepared for rays by Embree, in single precision."""

    def __init__(self, triangles: np.ndarray) -> None:
        self._scene = EmbreeScene(robust=True)
        TriangleMesh(self._scene, triangles.astype(np.float32))

    def first(self, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Number of the triangle that each of the rays (n, 3) meets first: (n,) int, -1 none."""
        return self._run(start, rays, "INTERSECT")

    def distance(self, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """How far the first triangle is, in lengths of the ray: (n,) float32, 1e4 or more none."""
        return self._run(start, rays, "DISTANCE")

    def _run(self, start: np.ndarray, rays: np.ndarray, query: str) -> np.ndarray:
        starts = np.broadcast_to(start, rays.shape).astype(np.float32)
        return self._scene.run(starts, rays.astype(np.float32), query=query)


def camera_rays(K: np.ndarray, size: tuple[int, int] = IMAGE_SIZE, samples: int = 1) -> np.ndarray:
    """The rays of a picture's pixels, with z = 1 in the camera's frame: distances are depths.

    K: (3, 3), of the picture's size, in the wanted precision; samples: rays a pixel along each
    axis. Returns (height * samples, width * samples, 3) of K's type.
    """
    # Pixel centres are whole numbers; samples lie evenly around them.
    v, u = ((np.arange(n * samples, dtype=K.dtype) + 0.5) / samples - 0.5 for n in size)
    x, y = np.meshgrid((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def exposed_faces(solid: np.ndarray, camera: np.ndarray | None = None) -> Faces:
    """The faces between solid and free voxels, (a, b, c) bool; with a camera, (3,) in voxels, those
    that look at it."""
    padded = np.pad(solid, 1)
    found = []
    for axis, side in np.ndindex(3, 2):
        neighbour = np.roll(padded, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
        voxels = np.argwhere(solid & ~neighbour)
        if camera is not None:
            plane = voxels[:, axis] + side
            voxels = voxels[plane < camera[axis] if side else plane > camera[axis]]
        square = np.float32([[side, 0, 0], [side, 1, 0], [side, 1, 1], [side, 0, 1]])
        square = np.roll(square, axis, axis=1)
        directions = (np.full(len(voxels), value) for value in (axis, side))
        found.append((voxels, *directions, voxels[:, None].astype(np.float32) + square))
    return Faces(*map(np.concatenate, zip(*found, strict=True)))


def raycast_labels(
    labels: np.ndarray, K: np.ndarray, pose: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Perfect depth of a label volume: (480, 640) float32 metres along z, 0 for rays that miss.

    labels: (60, 36, 60) or (240, 144, 240); 0 and 255 are free, all else is solid. A camera inside
    a solid voxel sees out of it. pose: (4, 4) camera to world; origin: (3,) world metres. Depths
    are FACE_NUDGE behind the face. Raises InputError for an unusable pose or volume.
    """
    labels, pose = np.asarray(labels), check_pose(pose)
    if labels.shape not in (GRID, FINE_GRID):
        raise InputError(f"labels must be {GRID} or {FINE_GRID}, not {labels.shape}")
    size = VOXEL_SIZE * GRID[0] / labels.shape[0]
    # Coordinates are metres from the origin, in the order of the array's axes.
    camera = (pose[:3, 3] - np.asarray(origin, dtype=np.float32))[WORLD_OF_ARRAY]
    triangles = exposed_faces(is_occupied(labels), camera / size).triangles() * np.float32(size)
    rays = (camera_rays(K).reshape(-1, 3) @ pose[:3, :3].T)[:, WORLD_OF_ARRAY]
    depth = RayTarget(triangles).distance(camera, rays)
    return np.where(depth < 1e4, depth + np.float32(FACE_NUDGE), 0).reshape(IMAGE_SIZE).astype("f4")
