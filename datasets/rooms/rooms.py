"""Generated rooms in the form of SSCNet's raw files: what a person without any data trains on.

A room depends on (seed, split, index) alone. docs/ROOMS.md says what is in it and how its figures
compare with NYUv2's.
"""

from typing import NamedTuple

import numpy as np

from constants import FINE_GRID, IGNORE_INDEX, IMAGE_SIZE
from datasets.geometry import (
    FINE_VOXEL_SIZE,
    NYU_INTRINSICS,
    NYUCAD_INTRINSICS,
    WORLD_OF_ARRAY,
    grid_origin,
)
from datasets.nyu import SPLITS
from datasets.rooms.layout import make_layout
from datasets.rooms.parts import bounds, contains
from datasets.rooms.render import cast, shade
from datasets.rooms.sensor import kinect_depth
from errors import InputError

VERSION = 1  # to be raised whenever the rooms of a seed change


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


def make_room(seed, split, index):
    """The room number `index` (from 0) of a split ("train" or "test"). Returns Room.

    Raises InputError for a seed or index that is no whole number >= 0, and an unknown split.
    """
    layout_rng, color_rng, sensor_rng = _generators(seed, split, index)
    layout = make_layout(layout_rng)
    parts, pose, origin = layout.parts(), layout.pose, grid_origin(layout.pose)
    view = cast(parts, NYU_INTRINSICS, pose)
    rgb, albedo, gloss = shade(parts, view, layout.height, color_rng)
    depth = kinect_depth(view.depth, view.slope, albedo, gloss, sensor_rng)
    return Room(
        labels=voxelize(parts, layout.annotated(), pose, origin),
        pose=pose,
        origin=origin,
        K=NYU_INTRINSICS,
        rgb=rgb,
        depth=depth.astype(np.float32),
        perfect_depth=view.depth.astype(np.float32),
        cad_depth=cast(parts, NYUCAD_INTRINSICS, pose).depth.astype(np.float32),
    )


def _generators(seed, split, index):
    """Random numbers for the layout, for colours and for the sensor."""
    if split not in SPLITS:
        raise InputError(f"split {split!r}: use {' or '.join(SPLITS)}")
    for name, value in (("seed", seed), ("index", index)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise InputError(f"{name} {value!r}: use a whole number >= 0")
    return [
        np.random.Generator(np.random.PCG64([seed, SPLITS.index(split), index, stream]))
        for stream in range(3)
    ]


def voxelize(parts, floor, pose, origin):
    """Labels at 2 cm: (240, 144, 240) uint8, raw classes.

    A voxel belongs to the first part that it touches: so what is thinner than a voxel is not lost,
    and a point on a surface is in a labelled voxel. As in SSCNet's data,
    objects are solid, what is occupied outside the field of view of the virtual camera becomes 0,
    and what is neither occupied nor above the floor plan, 255.

    floor: rectangles (x0, y0, x1, y1), metres.
    """
    size = FINE_VOXEL_SIZE
    origin = origin.astype(np.float64)
    centers = [
        origin[axis] + (np.arange(n) + 0.5) * size
        for axis, n in zip(WORLD_OF_ARRAY, FINE_GRID, strict=True)
    ]
    labels = np.zeros(FINE_GRID, dtype=np.uint8)
    for part in parts:
        low, high = (corner[WORLD_OF_ARRAY] for corner in bounds(part))
        window = tuple(
            slice(*np.searchsorted(center, [a - size, b + size]))
            for center, a, b in zip(centers, low, high, strict=True)
        )
        x, up, forward = (
            center[piece] for center, piece in zip(centers, window, strict=True)
        )  # fmt: skip
        if not (len(x) and len(up) and len(forward)):
            continue
        points = x[:, None, None], forward[None, None, :], up[None, :, None]
        block = labels[window]
        block[contains(part, points, cube=size / 2) & (block == 0)] = part.raw_class

    _forget_unseen(labels, centers, pose)
    above_floor = np.zeros((FINE_GRID[0], FINE_GRID[2]), dtype=bool)
    for x0, y0, x1, y1 in floor:
        inside_x = (centers[0] >= x0) & (centers[0] <= x1)
        above_floor |= inside_x[:, None] & (centers[2] >= y0) & (centers[2] <= y1)
    labels[(labels == 0) & ~above_floor[:, None, :]] = IGNORE_INDEX
    return labels


def _forget_unseen(labels, centers, pose):
    """Empty the occupied voxels outside the virtual camera's field of view."""
    voxels = np.flatnonzero(labels > 0)
    indices = np.unravel_index(voxels, labels.shape)
    x, up, forward = (center[index] for center, index in zip(centers, indices, strict=True))
    pose = pose.astype(np.float64)
    offsets = [p - t for p, t in zip((x, forward, up), pose[:3, 3], strict=True)]
    cam_x, cam_y, cam_z = (
        sum(r * o for r, o in zip(axis, offsets, strict=True)) for axis in pose[:3, :3].T
    )
    (fx, _, cx), (_, fy, cy), _ = NYUCAD_INTRINSICS.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = fx * cam_x / cam_z + cx, fy * cam_y / cam_z + cy
    rows, columns = IMAGE_SIZE
    seen = (cam_z > 0) & (u > -0.5) & (u < columns - 0.5) & (v > -0.5) & (v < rows - 0.5)
    labels.reshape(-1)[voxels[~seen]] = 0
