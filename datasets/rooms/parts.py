"""What generated rooms are made of: parts (box, cylinder, ellipsoid) of a class and a material.

A part is both a solid for the labels and a mesh for the camera, so that the two agree. Lengths are
metres; axes are those of datasets/geometry.py (Z up).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

_SIDES = 20  # of a cylinder, and around an ellipsoid
_RINGS = 9  # of an ellipsoid, from pole to pole


@dataclass(frozen=True)
class Material:
    """How a surface looks to the colour camera and to the depth camera."""

    texture: str  # a key of render.TEXTURES
    colors: tuple  # two RGB triples in 0..1 that the texture mixes
    scale: float  # metres: period of the texture
    axes: tuple  # the part's axes in the order in which the texture uses them
    gloss: float = 0.0  # 0 dull .. 1 mirror-like: highlights, and no infrared light comes back
    glow: float = 0.0  # light of its own, as a fraction of full white: windows, screens, lamps


@dataclass(frozen=True)
class Part:
    """A convex solid. In its own frame it is centred on 0 and reaches to +-half.

    A cylinder's axis is its own z; half[:2] are its radii.
    """

    shape: str  # "box", "cylinder" or "ellipsoid"
    raw_class: int  # of SSCNet, 1..36
    material: Material
    center: np.ndarray  # (3,) float64
    half: np.ndarray  # (3,) float64
    rotation: np.ndarray  # (3, 3) float64, its own frame to the world's

    def moved(self, yaw, position):
        """The part turned about the world's vertical (radians), then shifted."""
        turn = rotation_z(yaw)
        return replace(
            self,
            center=apply(turn, self.center) + position,
            rotation=np.stack([apply(turn, column) for column in self.rotation.T], axis=1),
        )


def rotation_z(angle):
    c, s = _cos_sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def rotation_x(angle):
    c, s = _cos_sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _cos_sin(angle):
    # Rounded, so that quarter turns are exact and no last digit depends on the machine.
    return round(math.cos(angle), 12), round(math.sin(angle), 12)


def apply(matrix, vectors):
    """matrix (3, 3) times each of vectors (..., 3), summed in a fixed order: no BLAS, whose last
    digit depends on the machine."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in matrix], axis=-1)


def bounds(part):
    """Lower and upper corner, (3,) each, of the part's axis-parallel box (that of its own box)."""
    reach = apply(np.abs(part.rotation), part.half)
    return part.center - reach, part.center + reach


def moved_bounds(parts, yaw, position):
    """bounds() of parts after Part.moved, without moving them: two arrays (n, 3)."""
    turn = rotation_z(yaw)
    centers = apply(turn, np.array([part.center for part in parts])) + position
    axes = apply(turn, np.array([part.rotation.T for part in parts]))  # (n, own axis, 3)
    half = np.array([part.half for part in parts])
    reach = sum(np.abs(axes[:, k]) * half[:, k, None] for k in range(3))
    return centers - reach, centers + reach


def contains(part, points, cube=0.0):
    """Whether points lie in the part, or the cubes around them reach its faces.

    points: three broadcastable arrays, x, y and z; cube: half the side of an axis-parallel cube.
    Returns bool of their common shape.
    """
    grown = part.half + cube * np.abs(part.rotation).sum(axis=0)
    offsets = [p - c for p, c in zip(points, part.center, strict=True)]
    x, y, z = (
        sum(r * o for r, o in zip(axis, offsets, strict=True)) / half
        for axis, half in zip(part.rotation.T, grown, strict=True)
    )
    if part.shape == "box":
        return (np.abs(x) <= 1) & (np.abs(y) <= 1) & (np.abs(z) <= 1)
    if part.shape == "cylinder":
        return (x * x + y * y <= 1) & (np.abs(z) <= 1)
    return x * x + y * y + z * z <= 1


def triangles(part):
    """Its surface: (n, 3, 3) float64 corners in the world. Round shapes are inscribed."""
    return apply(part.rotation, _MESHES[part.shape] * part.half) + part.center


def normals(part, own):
    """Outward unit normals, (n, 3) in the world, at surface points in the part's frame (n, 3)."""
    unit = own / part.half
    if part.shape == "ellipsoid":
        normal = unit / part.half
    else:
        side = np.abs(unit).argmax(axis=1)
        normal = np.zeros_like(own)
        normal[np.arange(len(own)), side] = np.sign(unit[np.arange(len(own)), side])
        if part.shape == "cylinder":
            # The sides of the mesh are inside the circle: whatever is not an end is the side.
            wall = np.abs(unit[:, 2]) < 1 - 1e-6
            normal[wall] = np.stack(
                [unit[wall, 0] / part.half[0], unit[wall, 1] / part.half[1], np.zeros(wall.sum())],
                axis=1,
            )
    normal = normal / np.sqrt((normal**2).sum(axis=1, keepdims=True))
    return apply(part.rotation, normal)


def overlap(first, second, tolerance=0.002):
    """Whether two parts' own boxes overlap by more than `tolerance` metres (separating axes)."""
    offset = second.center - first.center
    axes = [*first.rotation.T, *second.rotation.T]
    axes += [np.cross(a, b) for a in first.rotation.T for b in second.rotation.T]
    axes = np.array(axes)
    length = np.sqrt((axes**2).sum(axis=1))
    axes = axes[length > 1e-6] / length[length > 1e-6, None]
    reach = sum(
        np.abs(sum(axes[:, i] * part.rotation[i, k] for i in range(3))) * part.half[k]
        for part in (first, second)
        for k in range(3)
    )
    gap = np.abs(sum(axes[:, i] * offset[i] for i in range(3))) - reach
    return bool((gap < -tolerance).all())


def _box_mesh():
    quads = []
    for axis in range(3):
        for side in (-1.0, 1.0):
            corners = np.empty((4, 3))
            corners[:, axis] = side
            corners[:, [a for a in range(3) if a != axis]] = [[-1, -1], [1, -1], [1, 1], [-1, 1]]
            quads.append(corners)
    return _split(np.array(quads))


def _cylinder_mesh():
    angle = 2 * np.pi * np.arange(_SIDES + 1) / _SIDES
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    low, high = (np.pad(rim, ((0, 0), (0, 1)), constant_values=z) for z in (-1.0, 1.0))
    side = _split(np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1))
    ends = [
        np.stack([ring[:-1], ring[1:], np.tile([0, 0, ring[0, 2]], (_SIDES, 1))], axis=1)
        for ring in (low, high)
    ]
    return np.concatenate([side, *ends])


def _ellipsoid_mesh():
    around = 2 * np.pi * np.arange(_SIDES + 1) / _SIDES
    polar = np.pi * np.arange(_RINGS + 1) / _RINGS
    sphere = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(around),
            np.sin(polar)[:, None] * np.sin(around),
            np.broadcast_to(np.cos(polar)[:, None], (_RINGS + 1, _SIDES + 1)),
        ],
        axis=-1,
    )
    quads = np.stack([sphere[:-1, :-1], sphere[1:, :-1], sphere[1:, 1:], sphere[:-1, 1:]], axis=2)
    faces = _split(quads.reshape(-1, 4, 3))
    edges = faces[:, 1:] - faces[:, :1]
    area = np.abs(np.cross(edges[:, 0], edges[:, 1])).sum(axis=1)
    return faces[area > 1e-9]  # at the poles, one of two triangles is a point


def _split(quads):
    return quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)


_MESHES = {"box": _box_mesh(), "cylinder": _cylinder_mesh(), "ellipsoid": _ellipsoid_mesh()}
