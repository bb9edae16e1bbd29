"""A walk through a generated room: the same room seen from several places.

The walk begins at the room's own camera (rooms.py) and goes from place to place, where the camera
looks at one piece of furniture after the other.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from constants import GRID, IGNORE_INDEX, VOXEL_SIZE
from datasets.geometry import BOX_FLOOR
from datasets.rooms.furnishing import make_layout
from datasets.rooms.layout import Layout, camera_pose
from datasets.rooms.parts import Part, bounds
from datasets.rooms.rooms import generators, photograph, voxelize
from datasets.voxels import downsample_labels

_STEP = (0.3, 1.0)  # metres between two views
_TURN = (15.0, 75.0)  # degrees, to either side
_AIM = (1.2, 4.5)  # metres to what is looked at
_MARGIN = 0.25  # metres that a person keeps from everything
_NEAR, _CLEAR = 0.6, 1.7  # metres before the camera: without furniture, without a wall
_PITCH, _ROLL = (-15.0, 5.0), (0.0, 2.0)  # degrees: mean, standard deviation
_TRIES = 200


class View(NamedTuple):
    """One frame of a walk; the camera is NYU_INTRINSICS."""

    pose: np.ndarray  # (4, 4) float32, camera to the room's world
    rgb: np.ndarray  # (480, 640, 3) uint8
    depth: np.ndarray  # (480, 640) float32 metres, as measured, 0 = not


class Walk(NamedTuple):
    views: list[View]
    parts: list[Part]
    floor: np.ndarray  # rectangles (x0, y0, x1, y1), metres: beyond them there is no truth

    def labels_at(self, voxels: np.ndarray) -> np.ndarray:
        """The truth, also of what no view shows: (n,) uint8, classes 0..11, 255 outside the room.

        voxels: (n, 3) int, world order: cubes of 8 cm, (0, 0, 0) from (0, 0, BOX_FLOOR).
        """
        labels = np.full(len(voxels), IGNORE_INDEX, np.uint8)
        tiles, cells = np.divmod(voxels, [GRID[0], GRID[2], GRID[1]])
        for tile in np.unique(tiles[tiles[:, 2] == 0], axis=0):
            x, y, _ = VOXEL_SIZE * GRID[0] * tile
            origin = np.array([x, y, BOX_FLOOR])
            truth = downsample_labels(voxelize(self.parts, self.floor, None, origin))
            here = (tiles == tile).all(axis=1)
            x, y, z = cells[here].T
            labels[here] = truth[x, z, y]
        return labels


def make_walk(seed: int, split: str, index: int, count: int) -> Walk:
    """The room number `index` of a split, as make_room's, from `count` places.

    Lamps and textures are the same in each view, and so are the errors of the sensor in its image:
    a camera keeps its distortion. Raises InputError as make_room.
    """
    layout_rng, *_, walk_rng = generators(seed, split, index)
    layout = make_layout(layout_rng)
    parts = layout.parts()
    views = []
    for pose in walk_poses(layout, parts, count, walk_rng):
        _, color_rng, sensor_rng, _ = generators(seed, split, index)
        rgb, depth, _ = photograph(parts, pose, layout.height, color_rng, sensor_rng)
        views.append(View(pose, rgb, depth.astype(np.float32)))
    return Walk(views, parts, layout.annotated)


def walk_poses(layout: Layout, parts: list[Part], count: int, rng: Generator) -> list[np.ndarray]:
    """Poses of a camera, (4, 4) float32, that is carried through a room at about one height."""
    position, yaw = np.zeros(2), math.atan2(-layout.pose[0, 2], layout.pose[1, 2])
    height = float(layout.pose[2, 3])
    floor, blocked = np.array(layout.floor), _obstacles(parts, height)
    aims = [np.mean([part.center[:2] for part in group], axis=0) for group in layout.objects]
    poses, part_of_way = [layout.pose], np.linspace(0.1, 1, 10)[:, None]
    for _ in range(count - 1):
        turned = yaw + rng.choice([-1, 1]) * math.radians(rng.uniform(*_TURN))
        for _ in range(_TRIES if aims else 0):  # without success it turns where it is
            direction, length = rng.uniform(0, 2 * math.pi), rng.uniform(*_STEP)
            way = position + part_of_way * length * _unit(direction)
            away = aims[rng.integers(len(aims))] - way[-1]
            ahead = math.atan2(-away[0], away[1]) + rng.normal(0, 0.15)
            turn = abs((ahead - yaw + math.pi) % (2 * math.pi) - math.pi)
            if not (
                _AIM[0] < math.hypot(*away) < _AIM[1]
                and math.radians(_TURN[0]) < turn < math.radians(_TURN[1])
            ):
                continue
            sight = part_of_way * _unit(ahead)
            if (
                _within(np.concatenate([way, way[-1] + _CLEAR * sight]), floor).all()
                and not _within(way, blocked, _MARGIN).any()
                and not _within(way[-1] + _NEAR * sight, blocked).any()
            ):
                position, turned = way[-1], ahead
                break
        yaw = turned
        pitch, roll = np.radians([rng.normal(*_PITCH), rng.normal(*_ROLL)])
        pose = camera_pose(yaw, pitch, roll, height + rng.normal(0, 0.03))
        pose[:2, 3] = position
        poses.append(pose)
    return poses


def _unit(yaw: float) -> np.ndarray:
    """The direction of a camera that is turned to the left of world Y, radians."""
    return np.array([-math.sin(yaw), math.cos(yaw)])


def _obstacles(parts: list[Part], height: float) -> np.ndarray:
    """What a person at most so tall cannot walk through: (n, 4) rectangles (x0, y0, x1, y1)."""
    low, high = bounds(parts)
    barring = (low[:, 2] < height + 0.2) & (high[:, 2] > 0.1)
    return np.concatenate([low[barring, :2], high[barring, :2]], axis=1)


def _within(points: np.ndarray, rectangles: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Which of (n, 2) points are in one of the rectangles, or not further from it: (n,) bool."""
    low, high = rectangles[:, :2] - margin, rectangles[:, 2:] + margin
    return ((points[:, None] > low) & (points[:, None] < high)).all(axis=2).any(axis=1)
