"""What generated rooms are made of: parts (box, cylinder, ellipsoid) of a class and a material.

A part is both a solid for the labels and a mesh for the camera, so that the two agree. Lengths are
metres; axes are those of datasets/geometry.py (Z up). Sums are written out where labels depend on
them: the last digit of BLAS depends on the machine.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partialmethod
from typing import NamedTuple, TypeVar

import numpy as np
import trimesh

T = TypeVar("T")

RAW = {  # SSCNet's raw classes, by what NYUv2's annotators call such things
    "ceiling": 1, "floor": 2, "wall": 3, "window": 4, "door": 5, "chair": 6, "bed": 7, "sofa": 8,
    "table": 9, "side table": 10, "bookshelf": 11, "kitchen cabinet": 12, "cabinet": 13,
    "lamp": 14, "computer": 16, "desk": 17, "household appliance": 20, "kitchen appliance": 21,
    "pillow": 22, "plant": 24, "night stand": 27, "bathtub": 28, "toilet": 31, "trash can": 32,
    "tv": 33, "sink": 34, "mirror": 35, "other": 36,
}  # fmt: skip

# family: hue, saturation, value ranges; textures to choose from; gloss range. The families overlap
# in colour, and each class is painted from several of them.
FAMILIES = {
    "wood": ((0.04, 0.11), (0.25, 0.65), (0.22, 0.85), "wood wood flat", (0.0, 0.3)),
    "fabric": ((0, 1), (0.0, 0.6), (0.12, 0.9), "flat noise stripes checks speckle", (0, 0)),
    "paint": ((0, 1), (0.0, 0.25), (0.5, 0.97), "flat flat noise", (0.0, 0.3)),
    "colour": ((0, 1), (0.3, 0.9), (0.2, 0.9), "flat stripes noise", (0.0, 0.4)),
    "metal": ((0.5, 0.7), (0.0, 0.1), (0.25, 0.8), "flat", (0.5, 0.9)),
    "dark": ((0, 1), (0.0, 0.4), (0.03, 0.16), "flat flat noise", (0.1, 0.7)),
    "glass": ((0, 1), (0.0, 0.4), (0.03, 0.16), "flat flat noise", (0.8, 0.95)),
    "mirror": ((0, 1), (0.0, 0.4), (0.1, 0.97), "flat flat noise", (0.9, 1.0)),
    "tiles": ((0, 1), (0.0, 0.3), (0.4, 0.95), "checks grid grid", (0.1, 0.5)),
    "enamel": ((0, 1), (0.0, 0.25), (0.5, 0.97), "flat flat noise", (0.4, 0.6)),
    "daylight": ((0, 1), (0.0, 0.5), (0.1, 0.97), "flat flat noise", (1, 1)),
    "shade": ((0, 1), (0.0, 0.5), (0.4, 0.95), "flat flat noise", (0, 0)),
    "lit": ((0, 1), (0.0, 0.9), (0.1, 0.95), "noise stripes checks flat", (0.9, 0.9)),
    "leaf": ((0.2, 0.42), (0.3, 0.8), (0.15, 0.6), "noise speckle", (0.0, 0.1)),
    "paper": ((0, 1), (0.0, 0.8), (0.1, 0.95), "noise stripes checks flat", (0, 0)),
}
_SCALES = {"wood": (0.04, 0.12), "grid": (0.15, 0.5), "checks": (0.06, 0.35)}  # others: 0.03..0.25
_GLOW = {"daylight": (0.0, 0.9), "shade": (0.5, 0.5), "lit": (0.6, 0.6)}  # others: 0


@dataclass(frozen=True)
class Material:
    """How a surface looks to the colour camera and to the depth camera."""

    texture: str  # a key of render.TEXTURES
    colors: tuple  # two RGB triples in 0..1 that the texture mixes
    scale: float  # metres: period of the texture
    axes: tuple[int, ...]  # the part's axes in the order in which the texture uses them
    gloss: float  # 0 dull .. 1 mirror-like: highlights, and no infrared light comes back
    glow: float  # light of its own, as a fraction of full white: windows, screens, lamps


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def paint(rng: np.random.Generator, families: str) -> Material:
    """A material out of one of the families; a family named twice is twice as likely."""
    family = pick(rng, families.split())
    hues, saturations, values, textures, glosses = FAMILIES[family]
    hue, saturation, value = (rng.uniform(*span) for span in (hues, saturations, values))
    one = colorsys.hsv_to_rgb(hue, saturation, value)
    hue, saturation = (hue + rng.normal(0, 0.03)) % 1, min(saturation * rng.uniform(0.7, 1.4), 1)
    value *= rng.uniform(0.6, 0.92) if value > 0.3 else rng.uniform(1.1, 1.6)
    other = colorsys.hsv_to_rgb(hue, saturation, value)
    texture = pick(rng, textures.split())
    scale = rng.uniform(*_SCALES.get(texture, (0.03, 0.25)))
    axes = tuple(int(axis) for axis in rng.permutation(3))
    gloss, glow = rng.uniform(*glosses), rng.uniform(*_GLOW.get(family, (0, 0)))
    return Material(texture, (one, other), scale, axes, gloss, glow)


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

    def moved(self, spot: "Spot") -> "Part":
        turn = rotation(spot.yaw)
        center = apply(turn, self.center) + spot[1:]
        return replace(self, center=center, rotation=apply(turn, self.rotation.T).T)


def rotation(turn: float, tilt: float = 0.0) -> np.ndarray:
    """Tilted about x (radians; positive leans the top to the front), then turned about z."""
    # Rounded, so that quarter turns are exact and no last digit depends on the machine.
    c, s, up, out = (round(f(a), 12) for a in (turn, tilt) for f in (math.cos, math.sin))
    return np.array([[c, -s * up, s * out], [s, c * up, -c * out], [0, out, up]])


def apply(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """matrix (3, 3) times each of vectors (..., 3), summed in a fixed order."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in matrix], axis=-1)


def bounds(parts: list[Part], spot: "Spot | None" = None) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners, (n, 3) each, of the axis-parallel boxes of parts moved to a spot."""
    yaw, *position = spot or (0, 0, 0, 0)
    turn = rotation(yaw)
    centers = apply(turn, np.array([part.center for part in parts])) + position
    axes = apply(turn, np.array([part.rotation.T for part in parts]))  # (n, own axis, 3)
    half = np.array([part.half for part in parts])
    reach = sum(np.abs(axes[:, k]) * half[:, k, None] for k in range(3))
    return centers - reach, centers + reach


def contains(part: Part, points: Sequence[np.ndarray], cube: float = 0.0) -> np.ndarray:
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
    flat = np.maximum(np.abs(x), np.abs(y)) if part.shape == "box" else x * x + y * y
    return flat + z * z <= 1 if part.shape == "ellipsoid" else (flat <= 1) & (np.abs(z) <= 1)


_MESHES = {
    "box": trimesh.creation.box((2, 2, 2)),
    "cylinder": trimesh.creation.cylinder(radius=1, height=2, sections=24),
    "ellipsoid": trimesh.creation.icosphere(subdivisions=2),
}


def triangles(part: Part) -> np.ndarray:
    """Its surface: (n, 3, 3) float64 corners in the world. Round shapes are inscribed."""
    return apply(part.rotation, _MESHES[part.shape].triangles * part.half) + part.center


class Spot(NamedTuple):
    """Where something is: turned by yaw (radians) about the vertical, then shifted."""

    yaw: float
    x: float
    y: float
    z: float = 0.0

    def beside(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> "Spot":
        """The spot at (x, y, z), turned by yaw, in the frame of this one."""
        shift = apply(rotation(self.yaw), np.array([x, y, z]))
        return Spot(self.yaw + yaw, *(shift + self[1:]))

    def own(self, x: float, y: float) -> np.ndarray:
        """A point of the world in the frame of this spot: (3,), at height 0."""
        return apply(rotation(self.yaw).T, np.array([x - self.x, y - self.y, 0.0]))


@dataclass
class Model:
    """A piece of furniture, made of parts of class `name` where nothing else is said.

    It stands on z = 0, centred on x = y = 0; its back is towards +y and its front towards -y.
    """

    name: str
    parts: list[Part] = field(default_factory=list)
    # Where things can be put on it: a horizontal rectangle's middle (x, y, z), width and depth.
    surface: tuple[tuple[float, float, float], tuple[float, float]] | None = None
    spot: Spot | None = None  # where it was placed

    def add(
        self, shape: str, material: Material, size: Sequence[float],
        at: Sequence[float] = (0, 0, 0), turn: float = 0.0, tilt: float = 0.0,
        name: str | None = None,
    ) -> None:  # fmt: skip
        """A part of a size (x, y, z) with the middle of its underside `at` (x, y, z), then tilted
        and turned about its centre."""
        half = np.array(size, dtype=np.float64) / 2
        center = np.array(at, dtype=np.float64) + [0, 0, half[2]]
        raw_class = RAW[name or self.name]
        self.parts.append(Part(shape, raw_class, material, center, half, rotation(turn, tilt)))

    box = partialmethod(add, "box")
    cylinder = partialmethod(add, "cylinder")
    ellipsoid = partialmethod(add, "ellipsoid")

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper corner (3,) of all parts."""
        lows, highs = bounds(self.parts)
        return lows.min(axis=0), highs.max(axis=0)
