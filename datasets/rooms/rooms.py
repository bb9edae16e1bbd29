"""A room, seen and measured, in the form of SSCNet's raw files.

It depends on (seed, split, index) alone; docs/ROOMS.md says what is in it and how its
figures compare with NYUv2's.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import PCG64, Generator

from constants import FINE_GRID, IGNORE_INDEX, IMAGE_SIZE
from datasets.geometry import FINE_VOXEL_SIZE as SIZE
from datasets.geometry import NYU_INTRINSICS, NYUCAD_INTRINSICS, WORLD_OF_ARRAY, grid_origin
from datasets.nyu import SPLITS
from datasets.rooms.furnishing import make_layout
from datasets.rooms.parts import Part, bounds, contains
from datasets.rooms.render import cast, shade
from datasets.rooms.sensor import kinect_depth
from errors import InputError

VERSION = 2  # to be raised whenever the rooms of a seed change


class Room(NamedTuple):
    """A raw frame and its ground truth."""

    labels: np.ndarray  # (240, 144, 240) uint8: 0 empty, 1..36 raw classes, 255 outside the room
    pose: np.ndarray  # (4, 4) float32, camera to world
    origin: np.ndarray  # (3,) float32, world metres, of the voxel grid
    K: np.ndarray  # (3, 3) float32, of rgb, depth and perfect_depth: NYU_INTRINSICS
    rgb: np.ndarray  # (480, 640, 3) uint8
    depth: np.ndarray  # (480, 640) float32 metres, whole millimetres: as measured, 0 = not
    perfect_depth: np.ndarray  # (480, 640) float32 metres: of the same camera
    cad_depth: np.ndarray  # (480, 640) float32 metres: perfect, of NYUCAD's virtual camera


def make_room(seed: int, split: str, index: int) -> Room:
    """The room number `index` (from 0) of a split ("train" or "test").

    Raises InputError for a seed or index that is no whole number >= 0, and an unknown split.
    """
    layout_rng, color_rng, sensor_rng, _ = generators(seed, split, index)
    layout = make_layout(layout_rng)
    parts, pose, origin = layout.parts(), layout.pose, grid_origin(layout.pose)
    rgb, *depths = photograph(parts, pose, layout.height, color_rng, sensor_rng)
    depths.append(cast(parts, NYUCAD_INTRINSICS, pose).depth)
    labels = voxelize(parts, layout.annotated, pose, origin)
    return Room(labels, pose, origin, NYU_INTRINSICS, rgb, *(d.astype(np.float32) for d in depths))


def generators(seed: int, split: str, index: int) -> list[Generator]:
    """Of the layout, the colours, the sensor and a walk of a room; InputError as make_room."""
    if split not in SPLITS:
        raise InputError(f"split {split!r}: use {' or '.join(SPLITS)}")
    for name, value in (("seed", seed), ("index", index)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise InputError(f"{name} {value!r}: use a whole number >= 0")
    return [Generator(PCG64([seed, SPLITS.index(split), index, stream])) for stream in range(4)]


def photograph(
    parts: list[Part],
    pose: np.ndarray,
    room_height: float,
    color_rng: Generator,
    sensor_rng: Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What NYUv2's camera sees from a pose: rgb, depth as measured and perfect depth, as in Room
    but in double precision."""
    view = cast(parts, NYU_INTRINSICS, pose)
    rgb, albedo, gloss = shade(parts, view, room_height, color_rng)
    depth = kinect_depth(view.depth, view.slope, albedo, gloss, sensor_rng)
    return rgb, depth, view.depth


def voxelize(
    parts: list[Part], floor: np.ndarray, pose: np.ndarray | None, origin: np.ndarray
) -> np.ndarray:
    """Labels at 2 cm: (240, 144, 240) uint8, raw classes.

    A voxel belongs to the first part that it touches: so what is thinner than a voxel is not lost,
    and a point on a surface is in a labelled voxel. As in SSCNet's data, objects are solid, what is
    occupied outside the virtual camera's view becomes 0, and what is neither occupied nor above the
    floor plan, 255.

    floor: rectangles (x0, y0, x1, y1), metres; pose: None keeps what is outside any view.
    """
    centers = [
        start + (np.arange(n) + 0.5) * SIZE
        for start, n in zip(origin.astype(np.float64)[WORLD_OF_ARRAY], FINE_GRID, strict=True)
    ]
    labels = np.zeros(FINE_GRID, dtype=np.uint8)
    lows, highs = (corners[:, WORLD_OF_ARRAY] for corners in bounds(parts))
    for part, low, high in zip(parts, lows - SIZE, highs + SIZE, strict=True):
        ends = zip(centers, low, high, strict=True)
        window = tuple(slice(*np.searchsorted(axis, (start, end))) for axis, start, end in ends)
        x, up, forward = np.ix_(*(axis[piece] for axis, piece in zip(centers, window, strict=True)))
        if x.size and up.size and forward.size:
            block = labels[window]
            touched = contains(part, (x, forward, up), cube=SIZE / 2)
            block[touched & (block == 0)] = part.raw_class

    if pose is not None:
        _clear_unseen(labels, centers, pose)
    x, _, forward = np.ix_(*centers)
    inside = [(x >= x0) & (x <= x1) & (forward >= y0) & (forward <= y1) for x0, y0, x1, y1 in floor]
    labels[(labels == 0) & ~np.any(inside, axis=0)] = IGNORE_INDEX
    return labels


def _clear_unseen(labels: np.ndarray, centers: list[np.ndarray], pose: np.ndarray) -> None:
    """Set what is occupied outside the virtual camera's view to 0."""
    voxels = np.flatnonzero(labels)
    indices = np.unravel_index(voxels, FINE_GRID)
    x, up, forward = (center[index] for center, index in zip(centers, indices, strict=True))
    pose = pose.astype(np.float64)
    offsets = [p - t for p, t in zip((x, forward, up), pose[:3, 3], strict=True)]
    x, y, z = (sum(r * o for r, o in zip(axis, offsets, strict=True)) for axis in pose[:3, :3].T)
    (fx, _, cx), (_, fy, cy), _ = NYUCAD_INTRINSICS.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = fx * x / z + cx, fy * y / z + cy
    rows, columns = IMAGE_SIZE
    seen = (z > 0) & (u > -0.5) & (u < columns - 0.5) & (v > -0.5) & (v < rows - 0.5)
    labels.reshape(-1)[voxels[~seen]] = 0
