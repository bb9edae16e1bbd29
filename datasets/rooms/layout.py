"""Floor plan, camera, walls and what stands where in a generated room. Axes: datasets/geometry.py.

The camera stands above (0, 0) and looks along +y, give or take 45 degrees, as in NYUv2, where rooms
are aligned with the world's axes. Nothing overlaps but rugs (and what a model is composed of).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator

from constants import GRID, VOXEL_SIZE
from datasets.geometry import grid_origin
from datasets.rooms.furniture import make
from datasets.rooms.parts import RAW, Model, Part, Spot, apply, bounds, paint, pick, rotation

WALL = 0.02  # metres, beyond the floor plan: with voxels of 2 cm, NYUv2's walls are two thick
_TRIES = 40
_OPENINGS = (RAW["window"], RAW["door"])
# NYUv2's cameras: mean, standard deviation and limits of heights and angles.
_HEIGHT = (1.34, 0.13), (0.85, 1.65)
_PITCH = (-12.6, 7.0), (-31.0, 6.0)  # degrees, upwards
_ROLL = (-0.3, 2.8), (-9.0, 9.0)
_YAW = 44.0  # at most
_OUTLINE = (0.05, 0.5)  # where label 255 begins behind NYUv2's walls
_OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])  # grows a rectangle

Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1; metres


class Layout:
    """A room: floor plan, parts and camera, and what is needed to put furniture in."""

    def __init__(self, rng: Generator) -> None:
        """Draw a room without furniture."""
        self.rng = rng
        self.pose, self.floor = _camera_and_plan(rng)  # (4, 4) float32, camera to world
        self.height = rng.uniform(2.2, 3.1)  # of the ceiling
        # The floor plan as an annotator would outline it: beyond it, labels are 255.
        self.annotated = np.array(self.floor) + rng.uniform(*_OUTLINE) * _OUTWARDS
        self.walls = list(_walls(self.floor))
        self.structure = _build(rng, self)  # parts of floor, walls and ceiling
        self.objects: list[list[Part]] = []  # the parts of one piece of furniture each
        self._low, self._high = np.zeros((0, 3)), np.zeros((0, 3))  # their bounds
        self.reserved: list[tuple[np.ndarray, float]] = []  # to be kept free, up to a height
        # A space around the camera, one before its lens, and the doorway.
        x, y = self.pose[:2, 2] / math.hypot(*self.pose[:2, 2])
        for far, reach in ((0.0, 0.3), (0.35, 0.3), (0.75, 0.35)):
            self._reserve((x * far, y * far, x * far, y * far), reach, 2.3)
        for doorway in self.floor[1:-1]:
            self._reserve(doorway, 0.3, 2.3)

    def _reserve(self, rectangle: Rectangle, margin: float, height: float) -> None:
        self.reserved.append((np.array(rectangle) + margin * _OUTWARDS, height))

    def parts(self) -> list[Part]:
        """All parts; where two claim a voxel, it belongs to the earlier one."""
        parts = self.structure + [part for group in self.objects for part in group]
        # Windows and doors reach through their wall, so they come before it.
        return sorted(parts, key=lambda part: part.raw_class not in _OPENINGS)

    def in_view(self, spots: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        """Which spots (n, 2) are in the voxel grid, about where the camera looks and behind no
        wall: (n,) bool."""
        spots = np.asarray(spots, dtype=np.float64).reshape(-1, 2)
        x, y = self.pose[:2, 2].astype(np.float64)
        along, across = spots[:, 0] * x + spots[:, 1] * y, spots[:, 0] * y - spots[:, 1] * x
        low = grid_origin(self.pose)[:2]
        seen = ((spots > low) & (spots < low + VOXEL_SIZE * GRID[0])).all(axis=1)
        seen &= (along > 0.9) & (np.abs(across) < 0.62 * along)
        # Where the line of sight leaves the floor plan, there is a wall.
        steps = np.linspace(0, 1, 25)[:, None, None, None] * spots[:, None]
        corners = np.array(self.floor)
        inside = ((steps >= corners[:, :2]) & (steps <= corners[:, 2:])).all(axis=3)
        return seen & inside.any(axis=2).all(axis=0)

    def taken(self) -> float:
        """Fraction of the floor in view that has something on it."""
        spots = [np.mgrid[a:c:0.2, b:d:0.2].reshape(2, -1).T for a, b, c, d in self.floor]
        spots = np.concatenate(spots)
        spots = spots[self.in_view(spots)][:, None]
        covered = ((spots > self._low[:, :2]) & (spots < self._high[:, :2])).all(axis=2)
        return covered.any(axis=1).mean() if len(spots) else 1.0

    def place(self, model: Model, spot: Spot, into_wall: float = 0.0) -> Model | None:
        """Put a model there unless it would overlap, or stick out by more than `into_wall`.

        Returns it, or None, as all that put things do.
        """
        lows, highs = bounds(model.parts, spot)
        low, high = lows.min(axis=0) + [into_wall, into_wall, 0], highs.max(axis=0)
        high[:2] -= into_wall
        corners = np.array(self.floor)
        inside = (low[:2] > corners[:, :2]) & (high[:2] < corners[:, 2:])
        if not inside.all(axis=1).any() or low[2] < -1e-9 or high[2] > self.height - 0.02:
            return None
        for (x0, y0, x1, y1), top in self.reserved:
            if low[0] < x1 and low[1] < y1 and high[0] > x0 and high[1] > y0 and low[2] < top:
                return None
        # Boxes that overlap by 2 mm touch; a rug is thinner.
        close = (lows[:, None] < self._high - 0.002) & (highs[:, None] > self._low + 0.002)
        if close.all(axis=2).any():
            return None
        self._low = np.concatenate([self._low, lows])
        self._high = np.concatenate([self._high, highs])
        self.objects.append([part.moved(spot) for part in model.parts])
        model.spot = spot
        return model

    def against_wall(
        self, model: Model, z: float = 0.0, gap: float = 0.03, seen: float = 0.75
    ) -> Model | None:
        """Put a model with its back to some wall, `gap` metres away."""
        (left, _, _), (right, back, _) = model.extent()
        long = [wall for wall in self.walls if wall[1] > right - left + 0.06]
        spots = []
        for _ in range(_TRIES if long else 0):
            wall, length = pick(self.rng, long)
            x = self.rng.uniform(0.03 - left, length - 0.03 - right)
            spots.append(wall.beside(x, -back - gap, z))
        return self._try(model, spots, seen, 0.05 if gap < 0 else 0.0)

    def anywhere(self, model: Model, aligned: bool = True, seen: float = 1.0) -> Model | None:
        """Put a model somewhere on the floor; aligned: parallel to the walls."""
        spots = []
        for _ in range(_TRIES):
            yaw = pick(self.rng, range(4)) * np.pi / 2
            yaw = yaw if aligned else self.rng.uniform(-np.pi, np.pi)
            x0, y0, x1, y1 = pick(self.rng, self.floor)
            spots.append(Spot(yaw, self.rng.uniform(x0, x1), self.rng.uniform(y0, y1)))
        return self._try(model, spots, seen, 0.0)

    def _try(self, model: Model, spots: list[Spot], seen: float, into_wall: float) -> Model | None:
        """Spots in view are tried first; one out of view is taken with probability 1 - seen."""
        take_hidden = self.rng.random() > seen
        visible = self.in_view([spot[1:3] for spot in spots])
        for i in np.argsort(~visible, kind="stable"):
            if (visible[i] or take_hidden) and self.place(model, spots[i], into_wall):
                return model
        return None

    def add_openings(self) -> None:
        """Windows and doors; they reach through the wall, so their back is WALL behind its face."""
        for _ in range(pick(self.rng, (0,) * 11 + (1,) * 7 + (2,) * 2)):
            window = make(self.rng, "window")
            low, high = window.extent()
            sill = max(self.rng.uniform(0.5, 1.15), 0.05 - low[2])
            if high[2] + sill < self.height - 0.05:
                self.against_wall(window, sill, gap=-WALL, seen=0.5)
        for _ in range(pick(self.rng, (0,) * 8 + (1,) * 9 + (2,) * 3)):
            if door := self.against_wall(make(self.rng, "door"), 0.001, gap=-WALL, seen=0.5):
                _, x, y, _ = door.spot.beside(0.0, -0.5)  # nothing may bar it
                self._reserve((x, y, x, y), 0.45, 1.5)

    def put_on(self, base: Model | None, *names: str, count: int = 1) -> None:
        """Put up to `count` things on a placed model's surface."""
        for _ in range(count if base and base.surface else 0):
            (x, y, z), size = base.surface
            thing = make(self.rng, *names)
            low, high = thing.extent()
            free = np.array(size) / 2 - np.maximum(-low[:2], high[:2])
            if (free >= 0).all():
                dx, dy = self.rng.uniform(-free, free)
                # A hair above: two parts that share a face would fight for its pixels.
                spot = base.spot.beside(x + dx, y + dy, z + 0.002, self.rng.normal(0, 0.08))
                self.place(thing, spot)


def camera_pose(yaw: float, pitch: float, roll: float, height: float) -> np.ndarray:
    """Camera to world, (4, 4) float32. Radians: yaw to the left, pitch up, roll to the right."""
    level = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # columns: the camera's x, y and z
    pose = np.eye(4)
    pose[:3, :3] = apply(rotation(yaw, pitch), apply(rotation(roll).T, level).T).T
    pose[2, 3] = height
    return pose.astype(np.float32)


def _camera_and_plan(rng: Generator) -> tuple[np.ndarray, list[Rectangle]]:
    while True:
        height, pitch, roll = (
            np.clip(rng.normal(*usual), *limits) for usual, limits in (_HEIGHT, _PITCH, _ROLL)
        )
        height -= 0.2 * math.radians(pitch - _PITCH[0][0])  # high cameras look down more
        yaw, pitch, roll = np.radians([rng.uniform(-_YAW, _YAW), pitch, roll])
        pose = camera_pose(yaw, pitch, roll, height)
        width, front, back = rng.uniform(2.4, 5.2), rng.uniform(1.6, 4.4), rng.uniform(0.4, 1.6)
        # It stands off-centre, so that it looks into the room.
        left = width * min(max(0.5 + 0.5 * math.sin(yaw) + rng.normal(0, 0.12), 0.1), 0.9)
        x, y = pose[:2, 2]
        reach = min((width - left if x > 0 else left) / abs(x), front / y)  # to the wall ahead
        # Where the grid reaches to the camera, SSCNet's data hold pixels without depth as points.
        if grid_origin(pose)[1] > 0.02 and min(left, width - left) > 0.4 and 1.6 < reach < 5.0:
            main = (-left, -back, width - left, front)
            return pose, [main, *_annex(rng, main)]


def _annex(rng: Generator, main: Rectangle) -> list[Rectangle]:
    """Most rooms go on: in an alcove, or behind a doorway."""
    x0, y0, x1, y1 = main
    kind = pick(rng, ("alcove",) * 3 + ("doorway",) * 4 + ("none",) * 3)
    side = pick(rng, ("front", "front", "left", "right"))
    low, high = (x0, x1) if side == "front" else (max(y0, 0.3), y1)  # along the wall
    if kind == "none" or high - low < 1.6:
        return []
    wide, deep = rng.uniform(1.2, high - low), rng.uniform(1.0, 3.5)
    thick = before = after = 0.0
    if kind == "doorway":  # a strip as thick as the wall, before the other room
        wide, thick = rng.uniform(0.8, 1.5), rng.uniform(0.08, 0.16)
        before, after = rng.uniform(0.4, 3.0, size=2)
    start = rng.uniform(low, high - wide)
    end = start + wide
    local = [(start, 0.0, end, thick)] if thick else []
    local.append((start - before, thick, end + after, thick + deep))
    if side == "front":
        return [(a, y1 + b, c, y1 + d) for a, b, c, d in local]
    if side == "right":
        return [(x1 + b, a, x1 + d, c) for a, b, c, d in local]
    return [(x0 - d, a, x0 - b, c) for a, b, c, d in local]


def _walls(floor: list[Rectangle]) -> Iterator[tuple[Spot, float]]:
    """Pieces of wall where no rectangle joins another: one end, and the length.

    A spot's x axis is along the wall, its y axis into it: as models with their back to it stand.
    """
    for x0, y0, x1, y1 in floor:
        corners = (x0, y0, math.pi / 2), (x0, y1, 0.0), (x1, y1, -math.pi / 2), (x1, y0, math.pi)
        for k, (x, y, yaw) in enumerate(corners):
            corner, length = Spot(yaw, x, y), (y1 - y0, x1 - x0)[k % 2]
            first = last = length  # of the gap where another rectangle touches
            for a0, b0, a1, b1 in floor:
                (u0, v0, _), (u1, v1, _) = corner.own(a0, b0), corner.own(a1, b1)
                if abs(min(v0, v1)) < 1e-9:
                    first, last = min(u0, u1), max(u0, u1)
            for start, end in ((0.0, first), (last, length)):
                if end - start > 1e-9:
                    yield corner.beside(start, 0.0), end - start


def _build(rng: Generator, room: Layout) -> list[Part]:
    """Floor, ceiling and walls."""
    shell, top = Model("wall"), room.height + WALL
    walls = paint(rng, "paint paint paint fabric wood tiles")
    ground = paint(rng, "wood wood fabric fabric tiles paint")
    above = paint(rng, "paint paint paint wood tiles")
    accent = paint(rng, "colour fabric wood paint")
    for x0, y0, x1, y1 in room.floor:
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        size = x1 - x0 + 2 * WALL, y1 - y0 + 2 * WALL, WALL
        shell.box(ground, size, (*middle, -WALL), name="floor")
        shell.box(above, size, (*middle, room.height), name="ceiling")
    for wall, length in room.walls:  # somewhat longer, so that corners are closed
        _, x, y, z = wall.beside(length / 2, WALL / 2, -WALL)
        size = length + 2 * WALL, WALL, top + WALL
        shell.box(accent if rng.random() < 0.12 else walls, size, (x, y, z), turn=wall.yaw)
    if len(room.floor) == 3:  # the wall over the doorway
        x0, y0, x1, y1 = room.floor[1]
        low = min(rng.uniform(1.98, 2.15), room.height - 0.1)
        at = (x0 + x1) / 2, (y0 + y1) / 2, low
        shell.box(walls, (x1 - x0, y1 - y0, room.height - low), at)
    return shell.parts
