"""Voxels as points and cubes for other programs, written with trimesh."""

import io
from pathlib import Path

import numpy as np
import trimesh

from constants import CLASS_COLORS
from datasets.geometry import WORLD_OF_ARRAY
from datasets.raycast import exposed_faces
from errors import InputError
from utils.files import atomic_file

_COLORS = np.array([(*color, 255) for color in CLASS_COLORS], np.uint8)
# glTF has Y up and looks along -Z.
_Y_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)


def cube_mesh(labels: np.ndarray, origin: np.ndarray, voxel_size: float) -> trimesh.Trimesh:
    """The outer faces of occupied voxels, in world metres, coloured by class.

    labels: (X, Y, Z) int, 0 empty, 1..11 classes; origin: (3,) corner of voxel (0, 0, 0). Faces
    between two occupied voxels are left out; corners are not shared, so that faces keep their
    colours and edges. Without voxels the mesh is empty.
    """
    faces = exposed_faces(labels > 0)
    corners = faces.corners.astype(np.float64)
    # Normals point outwards: world Y and Z are swapped in the array, which mirrors.
    corners[faces.side == 1] = corners[faces.side == 1, ::-1]
    corners = corners[..., WORLD_OF_ARRAY] * voxel_size + np.asarray(origin)
    quads = np.arange(4 * len(corners)).reshape(-1, 4)
    return trimesh.Trimesh(
        vertices=corners.reshape(-1, 3),
        faces=quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3),
        vertex_colors=np.repeat(_COLORS[labels[tuple(faces.voxels.T)]], 4, axis=0),
        process=False,
    )


def point_cloud(points: np.ndarray, classes: np.ndarray) -> trimesh.PointCloud:
    """Coloured points: (n, 3) metres and (n,) classes 1..11."""
    return trimesh.PointCloud(points, colors=_COLORS[classes])


def export(path: str | Path, geometry: trimesh.Trimesh | trimesh.PointCloud) -> None:
    """Write a mesh or points as .ply (binary, Z up), a mesh also as .glb (Y up).

    Raises InputError if there is nothing to write.
    """
    if not len(geometry.vertices):
        raise InputError(f"{path}: no voxel is occupied, there is nothing to write")
    kind = Path(path).suffix.removeprefix(".")
    if kind == "glb":
        geometry = geometry.copy().apply_transform(_Y_UP)
    content = io.BytesIO()
    geometry.export(content, file_type=kind)
    with atomic_file(path) as file:
        file.write(content.getvalue())
