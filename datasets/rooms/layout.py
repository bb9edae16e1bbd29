"""Floor plan, camera and furniture of a generated room. Axes: datasets/geometry.py.

The camera stands above (0, 0) and looks along +y, give or take 45 degrees, as in NYUv2, where rooms
are aligned with the world's axes. Nothing overlaps but rugs (and what a model is composed of).
"""

import math
from dataclasses import dataclass, field

import numpy as np

from constants import GRID, VOXEL_SIZE
from datasets.geometry import grid_origin
from datasets.rooms import furniture as models
from datasets.rooms.furniture import Model, paint
from datasets.rooms.parts import moved_bounds, overlap

WALL = 0.02  # metres, beyond the floor plan: with voxels of 2 cm, NYUv2's walls are two thick
_TRIES = 40
# Heights and angles of NYUv2's cameras: mean, standard deviation and limits.
_HEIGHT = (1.34, 0.13, 0.85, 1.65)
_PITCH = (-12.6, 7.0, -31.0, 6.0)  # degrees, upwards
_ROLL = (-0.3, 2.8, -9.0, 9.0)
_YAW = 44.0  # at most
_OUTLINE = (0.05, 0.5)  # where label 255 begins behind NYUv2's walls


@dataclass(frozen=True)
class WallRun:
    """A straight piece of wall: from `start` along `direction`, seen from the side of `normal`."""

    start: np.ndarray  # (2,)
    direction: np.ndarray  # (2,), unit
    normal: np.ndarray  # (2,), unit, into the room
    length: float

    @property
    def yaw(self):
        """Turns a model so that its back is to the wall."""
        return math.atan2(self.normal[0], -self.normal[1])


@dataclass
class Layout:
    """A room: floor plan, parts and camera, and what is needed to put furniture in."""

    pose: np.ndarray  # (4, 4) float32, camera to world
    floor: list  # rectangles (x0, y0, x1, y1) inside the room, metres
    height: float  # of the ceiling
    outline: float = 0.0  # metres by which the annotated floor plan reaches beyond the walls
    structure: list = field(default_factory=list)  # parts: floor, walls, ceiling, rugs
    objects: list = field(default_factory=list)  # lists of parts, one per piece of furniture
    runs: list = field(default_factory=list)  # WallRun
    reserved: list = field(default_factory=list)  # (low, high) boxes to be kept free

    def __post_init__(self):
        self.origin = grid_origin(self.pose)
        self._parts, self._low, self._high = [], np.zeros((0, 3)), np.zeros((0, 3))

    def parts(self):
        """All parts; where two claim a voxel, it belongs to the earlier one."""
        placed = [part for group in self.objects for part in group]
        # Windows and doors reach through their wall, so they come before it.
        mounted = [part for part in placed if part.raw_class in _THROUGH_WALLS]
        others = [part for part in placed if part.raw_class not in _THROUGH_WALLS]
        return mounted + self.structure + others

    def annotated(self):
        """The floor plan as an annotator would outline it: beyond it, labels are 255."""
        m = self.outline
        return [(x0 - m, y0 - m, x1 + m, y1 + m) for x0, y0, x1, y1 in self.floor]

    def in_view(self, spots):
        """Which spots (n, 2) are in the voxel grid, about where the camera looks and behind no
        wall: (n,) bool."""
        spots = np.asarray(spots, dtype=np.float64).reshape(-1, 2)
        forward = self.pose[:2, 2].astype(np.float64)
        along = spots[:, 0] * forward[0] + spots[:, 1] * forward[1]
        across = np.abs(spots[:, 0] * forward[1] - spots[:, 1] * forward[0])
        low, high = self.origin[:2], self.origin[:2] + VOXEL_SIZE * GRID[0]
        seen = ((spots > low) & (spots < high)).all(axis=1) & (along > 0.9)
        seen &= across < 0.62 * along
        # Where the line of sight leaves the floor plan, there is a wall.
        steps = np.linspace(0, 1, 25)[:, None, None] * spots
        corners = np.array(self.floor)
        inside = (steps[:, :, None] >= corners[:, :2]) & (steps[:, :, None] <= corners[:, 2:])
        return seen & inside.all(axis=3).any(axis=2).all(axis=0)

    def place(self, model, yaw, x, y, z=0.0, mounted=False):
        """Put a model there unless it would stick out or overlap. Returns its parts or None.

        mounted: it may reach into a wall.
        """
        position = np.array([x, y, z])
        lows, highs = moved_bounds(model.parts, yaw, position)
        low, high = lows.min(axis=0), highs.max(axis=0)
        margin = 0.05 if mounted else 0.0
        inside = any(
            low[0] > x0 - margin and low[1] > y0 - margin
            and high[0] < x1 + margin and high[1] < y1 + margin
            for x0, y0, x1, y1 in self.floor
        )  # fmt: skip
        if not inside or low[2] < -1e-9 or high[2] > self.height - 0.02:
            return None
        if any((low < top).all() and (high > bottom).all() for bottom, top in self.reserved):
            return None
        close = ((lows[:, None] < self._high) & (highs[:, None] > self._low)).all(axis=2)
        for i in np.flatnonzero(close.any(axis=1)):
            part = model.parts[i].moved(yaw, position)
            if any(overlap(part, self._parts[k]) for k in np.flatnonzero(close[i])):
                return None
        parts = [part.moved(yaw, position) for part in model.parts]
        self._parts += parts
        self._low = np.concatenate([self._low, lows])
        self._high = np.concatenate([self._high, highs])
        self.objects.append(parts)
        return parts

    def taken(self):
        """Fraction of the floor in view that has something on it."""
        spots = np.concatenate(
            [np.mgrid[a:c:0.2, b:d:0.2].reshape(2, -1).T for a, b, c, d in self.floor]
        )
        spots = spots[self.in_view(spots)][:, None]
        covered = (spots > self._low[:, :2]) & (spots < self._high[:, :2])
        return covered.all(axis=2).any(axis=1).mean() if len(spots) else 1.0

    def against_wall(self, rng, model, z=0.0, gap=(0.012, 0.04), mounted=False, seen=0.75):
        """Put a model with its back to some wall. Returns (model, yaw, x, y, z) or None.

        Spots in view are tried first; one out of view is taken with probability 1 - seen.
        """
        low, high = model.extent()
        spots = []
        for _ in range(_TRIES):
            run = self.runs[int(rng.integers(len(self.runs)))]
            along, distance = rng.uniform(0, 1), high[1] + rng.uniform(*gap)
            first, last = -low[0] + 0.01, run.length - high[0] - 0.01
            if last <= first:
                continue
            position = run.start + run.direction * (first + along * (last - first))
            spots.append((run.yaw, *(position + run.normal * distance)))
        return self._first_free(rng, model, spots, z, mounted, seen)

    def anywhere(self, rng, model, yaw=None, seen=0.85):
        """Put a model somewhere on the floor. Returns (model, yaw, x, y, z) or None."""
        spots = []
        for _ in range(_TRIES):
            x0, y0, x1, y1 = self.floor[int(rng.integers(len(self.floor)))]
            angle = rng.uniform(-np.pi, np.pi) if yaw is None else yaw
            spots.append((angle, rng.uniform(x0, x1), rng.uniform(y0, y1)))
        return self._first_free(rng, model, spots, 0.0, False, seen)

    def _first_free(self, rng, model, spots, z, mounted, seen):
        take_hidden = rng.random() > seen
        seen_spots = self.in_view([spot[1:] for spot in spots])
        for i in np.argsort(~seen_spots, kind="stable"):
            if not take_hidden and not seen_spots[i]:
                return None
            yaw, x, y = spots[i]
            if self.place(model, yaw, x, y, z, mounted) is not None:
                return model, yaw, x, y, z
        return None

    def beside(self, placed, model, x, y, yaw=0.0, z=0.0):
        """Put a model at (x, y, z), turned by yaw, in the frame of a placed one."""
        _, base_yaw, base_x, base_y, base_z = placed
        c, s = math.cos(base_yaw), math.sin(base_yaw)
        spot = base_yaw + yaw, base_x + c * x - s * y, base_y + s * x + c * y, base_z + z
        return None if self.place(model, *spot) is None else (model, *spot)

    def put_on(self, rng, placed, make, count=1):
        """Put up to `count` models, each made by `make(rng)`, on the surfaces of a placed one."""
        done = []
        surfaces = placed[0].surfaces if placed else []
        for _ in range(count if surfaces else 0):
            surface = surfaces[int(rng.integers(len(surfaces)))]
            model = make(rng)
            low, high = model.extent()
            room = np.array(surface.half) - np.maximum(-low[:2], high[:2])
            if (room < 0).any() or high[2] > surface.clearance:
                continue
            x, y = np.array(surface.center[:2]) + rng.uniform(-room, room)
            # A hair above: two parts that share a face would fight for its pixels.
            on_top = self.beside(
                placed, model, x, y, rng.normal(0, 0.08), surface.center[2] + 0.002
            )
            done += [on_top] if on_top else []
        return done


_THROUGH_WALLS = (models.RAW["window"], models.RAW["door"])


def make_layout(rng):
    """Draw a whole room."""
    pose, floor = _camera_and_plan(rng)
    layout = Layout(pose, floor, rng.uniform(2.2, 3.1), outline=rng.uniform(*_OUTLINE))
    _build(rng, layout)
    _reserve_view(layout)
    _openings(rng, layout)
    names = list(_ROOMS)
    weights = np.array([_ROOMS[name][0] for name in names])
    name = names[int(np.searchsorted(np.cumsum(weights / weights.sum()), rng.random()))]
    _ROOMS[name][1](rng, layout)
    _fill_up(rng, layout)
    _clutter(rng, layout)
    return layout


# ---- camera and floor plan ------------------------------------------------------------------


def camera_pose(yaw, pitch, roll, height):
    """Camera to world, (4, 4) float32. Radians: yaw to the left, pitch up, roll to the right."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    forward = np.array([-sy * cp, cy * cp, sp])
    level = np.array([cy, sy, 0.0])
    down = np.cross(forward, level)
    pose = np.eye(4)
    pose[:3, 0] = cr * level + sr * down
    pose[:3, 1] = cr * down - sr * level
    pose[:3, 2] = forward
    pose[2, 3] = height
    return pose.astype(np.float32)


def _clipped(rng, mean, deviation, low, high):
    return min(max(rng.normal(mean, deviation), low), high)


def _camera_and_plan(rng):
    while True:
        yaw = math.radians(rng.uniform(-_YAW, _YAW))
        pitch, roll = (math.radians(_clipped(rng, *spread)) for spread in (_PITCH, _ROLL))
        # High cameras look down more.
        height = _clipped(rng, *_HEIGHT) - 0.2 * (pitch - math.radians(_PITCH[0]))
        pose = camera_pose(yaw, pitch, roll, height)
        width, front, back = rng.uniform(2.4, 5.2), rng.uniform(1.6, 4.4), rng.uniform(0.4, 1.6)
        # It stands off-centre, so that it looks into the room.
        left = width * min(max(0.5 + 0.5 * math.sin(yaw) + rng.normal(0, 0.12), 0.1), 0.9)
        main = (-left, -back, width - left, front)
        reach = _distance_to_border(main, pose[:2, 2])
        # Where the grid reaches to the camera, SSCNet's data hold pixels without depth as points.
        if grid_origin(pose)[1] > 0.02 and min(left, width - left) > 0.4 and 1.6 < reach < 5.0:
            return pose, _with_annex(rng, main)


def _distance_to_border(rectangle, direction):
    x0, y0, x1, y1 = rectangle
    sides = [(x0, direction[0]), (x1, direction[0]), (y0, direction[1]), (y1, direction[1])]
    return min(side / d for side, d in sides if side * d > 1e-9)


def _with_annex(rng, main):
    """Most rooms go on: in an alcove, or behind a doorway."""
    x0, y0, x1, y1 = main
    kind = rng.random()
    if kind > 0.7:
        return [main]
    side = ("front", "front", "left", "right")[int(rng.integers(4))]
    # Along the wall: [low, high]; the annex is first drawn in front of y = 0.
    low, high = (x0, x1) if side == "front" else (max(y0, 0.3), y1)
    if high - low < 1.6:
        return [main]
    deep = rng.uniform(1.0, 3.5)
    if kind < 0.3:  # an alcove
        wide = rng.uniform(1.2, high - low)
        start = rng.uniform(low, high - wide)
        local = [(start, 0.0, start + wide, deep)]
    else:  # a doorway to another room
        wide, thick = rng.uniform(0.8, 1.5), rng.uniform(0.08, 0.16)
        start = rng.uniform(low + 0.05, high - wide - 0.05)
        before, after = rng.uniform(0.4, 3.0, size=2)
        local = [
            (start, 0.0, start + wide, thick),
            (start - before, thick, start + wide + after, thick + deep),
        ]
    if side == "front":
        return [main, *((a, y1 + b, c, y1 + d) for a, b, c, d in local)]
    if side == "right":
        return [main, *((x1 + b, a, x1 + d, c) for a, b, c, d in local)]
    return [main, *((x0 - d, a, x0 - b, c) for a, b, c, d in local)]


def _build(rng, layout):
    """Floor, ceiling and walls around the floor plan."""
    shell = Model()
    walls = paint(rng, "paint", "paint", "paint", "fabric", "wood", "tiles")
    ground = paint(rng, "wood", "wood", "fabric", "fabric", "tiles", "paint")
    above = paint(rng, "paint", "paint", "paint", "wood", "tiles")
    accent = paint(rng, "colour", "fabric", "wood", "paint")
    for x0, y0, x1, y1 in layout.floor:
        x, y = (x0 - WALL, x1 + WALL), (y0 - WALL, y1 + WALL)
        shell.box("floor", ground, x, y, (-WALL, 0))
        shell.box("ceiling", above, x, y, (layout.height, layout.height + WALL))
    for rectangle in layout.floor:
        for run, corners in _wall_runs(rectangle, layout.floor):
            ends = [run.start, run.start + run.direction * run.length]
            ends[0] = ends[0] - run.direction * WALL * corners[0]
            ends[1] = ends[1] + run.direction * WALL * corners[1] - run.normal * WALL
            x, y = (sorted(pair) for pair in zip(*ends, strict=True))
            chosen = accent if rng.random() < 0.12 else walls
            shell.box("wall", chosen, x, y, (-WALL, layout.height + WALL))
            if run.length > 0.3:
                layout.runs.append(run)
    if len(layout.floor) == 3:  # the wall over the doorway
        x0, y0, x1, y1 = layout.floor[1]
        low = min(rng.uniform(1.98, 2.15), layout.height - 0.1)
        shell.box("wall", walls, (x0, x1), (y0, y1), (low, layout.height))
    if rng.random() < 0.35:  # a rug; NYUv2 calls it floor
        x0, y0, x1, y1 = layout.floor[0]
        half = rng.uniform(0.5, 1.0, size=2)
        middle = np.array([x0 + x1, y0 + y1]) / 2 + rng.normal(0, 0.3, size=2)
        low = np.maximum(middle - half, [x0, y0])
        high = np.minimum(middle + half, [x1, y1])
        rug = paint(rng, "fabric", "fabric", "colour", "paper")
        shell.box("floor", rug, *zip(low, high, strict=True), (0.0, 0.006))
    layout.structure = shell.parts


def _wall_runs(rectangle, floor):
    """(WallRun, which of its ends are outer corners) of a rectangle's sides where none joins."""
    x0, y0, x1, y1 = rectangle
    sides = [  # fixed axis, its value, inward sign
        (1, y0, 1.0), (1, y1, -1.0), (0, x0, 1.0), (0, x1, -1.0),
    ]  # fmt: skip
    for axis, value, sign in sides:
        low, high = (x0, x1) if axis == 1 else (y0, y1)
        cuts = []
        for other in floor:
            touching = other[axis] if sign < 0 else other[axis + 2]
            if other is not rectangle and abs(touching - value) < 1e-9:
                cuts.append((other[1 - axis], other[3 - axis]))
        pieces, start = [], low
        for first, last in sorted(cuts):
            if first > start:
                pieces.append((start, min(first, high)))
            start = max(start, last)
        if start < high:
            pieces.append((start, high))
        direction, normal = np.zeros(2), np.zeros(2)
        direction[1 - axis], normal[axis] = 1.0, sign
        for first, last in pieces:
            point = np.zeros(2)
            point[axis], point[1 - axis] = value, first
            yield WallRun(point, direction, normal, last - first), (first == low, last == high)


def _reserve_view(layout):
    """Keep a space around the camera free, and one before its lens."""
    forward = layout.pose[:2, 2] / math.hypot(*layout.pose[:2, 2])
    for distance, reach in ((0.0, 0.3), (0.35, 0.3), (0.75, 0.35)):
        x, y = forward * distance
        layout.reserved.append(
            (np.array([x - reach, y - reach, 0.0]), np.array([x + reach, y + reach, 2.3]))
        )
    if len(layout.floor) == 3:  # and the doorway
        x0, y0, x1, y1 = layout.floor[1]
        layout.reserved.append((np.array([x0, y0, 0]) - 0.3, np.array([x1, y1, 2.0]) + 0.3))


def _openings(rng, layout):
    """Windows and doors; they reach through the wall, so their back is WALL behind its face."""
    for _ in range(int(rng.choice(3, p=[0.55, 0.35, 0.1]))):
        model = models.window(rng, WALL)
        low, high = model.extent()
        sill = max(rng.uniform(0.5, 1.15), 0.05 - low[2])
        if high[2] + sill < layout.height - 0.05:
            layout.against_wall(rng, model, sill, gap=(-WALL, -WALL), mounted=True, seen=0.5)
    for _ in range(int(rng.choice(3, p=[0.4, 0.45, 0.15]))):
        model = models.door(rng, WALL)
        placed = layout.against_wall(rng, model, 0.001, gap=(-WALL, -WALL), mounted=True, seen=0.5)
        if placed:  # nothing may bar it
            _, yaw, x, y, _ = placed
            half = np.array([0.45, 0.45])
            middle = np.array([x, y]) + 0.5 * np.array([math.sin(yaw), -math.cos(yaw)])
            layout.reserved.append((np.append(middle - half, 0.0), np.append(middle + half, 1.5)))


# ---- furniture ------------------------------------------------------------------------------


def _bedroom(rng, room):
    bed = None
    for _ in range(8):
        if bed:
            break
        make = models.bunk_bed if rng.random() < 0.12 else models.bed
        bed = room.against_wall(rng, make(rng), seen=1.0)
    if bed:
        low, high = bed[0].extent()
        for side in (-1, 1):
            if rng.random() < 0.65:
                stand = models.night_stand(rng)
                reach = stand.extent()[1]
                x = (high[0] + reach[0] + 0.05) if side > 0 else (low[0] - reach[0] - 0.05)
                placed = room.beside(bed, stand, x, high[1] - reach[1])
                if placed and rng.random() < 0.7:
                    room.put_on(rng, placed, models.table_lamp)
        room.put_on(
            rng, bed, _pick(rng, (models.bag, models.books, models.carton)), rng.integers(2)
        )
    for make, chance in ((models.wardrobe, 0.6), (models.dresser, 0.6), (models.bookshelf, 0.25)):
        if rng.random() < chance:
            placed = room.against_wall(rng, make(rng))
            _decorate(rng, room, placed, 0.2)
    if rng.random() < 0.35:
        _workplace(rng, room)
    if rng.random() < 0.3:
        room.against_wall(rng, _pick(rng, (models.tub_chair, models.ottoman))(rng))


def _living_room(rng, room):
    couch = room.against_wall(rng, models.sofa(rng), seen=1.0)
    if couch is None or rng.random() < 0.25:  # or one that divides the room
        couch = room.anywhere(rng, models.sofa(rng), yaw=_quarter(rng), seen=1.0) or couch
    if couch and rng.random() < 0.75:
        table = models.coffee_table(rng)
        front = couch[0].extent()[0][1] if rng.random() < 0.5 else -0.5
        placed = room.beside(
            couch,
            table,
            rng.normal(0, 0.15),
            front - table.extent()[1][1] - rng.uniform(0.25, 0.45),
        )
        room.put_on(rng, placed, _pick(rng, _SMALL), int(rng.integers(0, 4)))
    if couch and rng.random() < 0.4:
        table = models.side_table(rng)
        x = couch[0].extent()[1][0] + table.extent()[1][0] + 0.05
        placed = room.beside(couch, table, _pick(rng, (-1, 1)) * x, 0.1)
        room.put_on(rng, placed, models.table_lamp)
    if rng.random() < 0.7:
        _television(rng, room)
    for make, chance in (
        (models.sofa, 0.2), (models.tub_chair, 0.5), (models.bookshelf, 0.45),
        (models.dresser, 0.4), (models.wardrobe, 0.15), (models.ottoman, 0.2),
    ):  # fmt: skip
        if rng.random() < chance:
            placed = room.against_wall(rng, make(rng))
            _decorate(rng, room, placed, 0.3)


def _office(rng, room):
    for _ in range(int(rng.integers(1, 4))):
        _workplace(rng, room)
    if rng.random() < 0.3:
        _dining(rng, room, models.office_chair)
    for make, chance in (
        (models.bookshelf, 0.7), (models.bookshelf, 0.4), (models.filing_cabinet, 0.6),
        (models.wardrobe, 0.35), (models.tub_chair, 0.2), (models.carton, 0.5),
    ):  # fmt: skip
        if rng.random() < chance:
            placed = room.against_wall(rng, make(rng))
            _decorate(rng, room, placed, 0.3)


def _kitchen(rng, room):
    for _ in range(int(rng.integers(2, 5))):
        run = room.against_wall(rng, models.counter(rng), gap=(0.011, 0.012))
        if not run:
            continue
        room.put_on(rng, run, models.appliance, int(rng.integers(0, 3)))
        room.put_on(rng, run, _pick(rng, _SMALL), int(rng.integers(0, 4)))
        if rng.random() < 0.7:
            cabinet = models.wall_cabinet(rng)
            y = run[0].extent()[1][1] - cabinet.extent()[1][1]
            room.beside(run, cabinet, rng.normal(0, 0.1), y, z=rng.uniform(1.38, 1.5))
    for make, chance in ((models.fridge, 0.75), (models.stove, 0.6), (models.wardrobe, 0.25)):
        if rng.random() < chance:
            room.against_wall(rng, make(rng))
    if rng.random() < 0.3:  # an island
        island = room.anywhere(rng, models.counter(rng), yaw=_quarter(rng), seen=1.0)
        room.put_on(rng, island, _pick(rng, _SMALL), 2)
    elif rng.random() < 0.6:
        _dining(rng, room, models.dining_chair)
    for _ in range(int(rng.integers(0, 3))):
        room.anywhere(rng, models.stool(rng))


def _dining_room(rng, room):
    _dining(rng, room, models.dining_chair)
    for make, chance in ((models.dresser, 0.7), (models.bookshelf, 0.3), (models.wardrobe, 0.3)):
        if rng.random() < chance:
            placed = room.against_wall(rng, make(rng))
            _decorate(rng, room, placed, 0.5)
    if rng.random() < 0.3:
        room.against_wall(rng, models.sofa(rng))


def _bathroom(rng, room):
    for make, chance in (
        (models.bathtub, 0.7), (models.toilet, 0.9), (models.washbasin, 0.9),
        (models.wardrobe, 0.3),
    ):  # fmt: skip
        if rng.random() < chance:
            room.against_wall(rng, make(rng), gap=(0.011, 0.012), seen=0.9)
    for _ in range(int(rng.integers(0, 3))):
        room.against_wall(rng, models.carton(rng))


def _store(rng, room):
    """A library or shop: rows of shelves, back to back or along the walls, and boxes."""
    yaw = _quarter(rng)
    for _ in range(int(rng.integers(2, 6))):
        placed = room.anywhere(rng, models.bookshelf(rng), yaw=yaw)
        if placed:
            back = models.bookshelf(rng)
            distance = placed[0].extent()[1][1] + back.extent()[1][1] + 0.01
            room.beside(placed, back, 0.0, distance, yaw=math.pi)
    for make in (models.bookshelf, models.wardrobe, models.counter, models.filing_cabinet):
        if rng.random() < 0.6:
            placed = room.against_wall(rng, make(rng))
            _decorate(rng, room, placed, 0.4)
    for _ in range(int(rng.integers(1, 5))):
        room.anywhere(rng, models.carton(rng))


# name: how often, who furnishes it
_ROOMS = {
    "bedroom": (0.26, _bedroom), "living room": (0.22, _living_room), "office": (0.17, _office),
    "kitchen": (0.14, _kitchen), "dining room": (0.1, _dining_room), "bathroom": (0.07, _bathroom),
    "store": (0.07, _store),
}  # fmt: skip

# What fills rooms up, and how often.
_ANY = [
    make
    for make, often in (
        (models.wardrobe, 4), (models.dresser, 3), (models.bookshelf, 2), (models.counter, 2),
        (models.sofa, 2), (models.dining_table, 2), (models.filing_cabinet, 1), (models.bed, 2),
        (models.tub_chair, 1), (models.fridge, 1), (models.desk, 1), (models.carton, 1),
        (models.office_chair, 1),
    )
    for _ in range(often)
]  # fmt: skip
_SMALL = (models.books, models.vase, models.small_plant, models.carton, models.table_lamp)


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def _quarter(rng):
    return float(rng.integers(4)) * math.pi / 2


def _workplace(rng, room):
    """A desk at the wall with a computer, and its chair."""
    desk = room.against_wall(rng, models.desk(rng))
    if desk is None:
        return
    if rng.random() < 0.75:
        make = models.monitor if rng.random() < 0.7 else models.laptop
        room.put_on(rng, desk, make, int(rng.integers(1, 3)))
    room.put_on(rng, desk, _pick(rng, _SMALL), int(rng.integers(0, 4)))
    room.put_on(rng, desk, _pick(rng, (models.appliance, models.books)), int(rng.integers(0, 2)))
    if rng.random() < 0.85:
        chair = (models.office_chair if rng.random() < 0.65 else models.dining_chair)(rng)
        front = desk[0].extent()[0][1]
        for distance in (0.15, 0.35, 0.6):
            yaw = math.pi + rng.normal(0, 0.35)
            if room.beside(desk, chair, rng.normal(0, 0.1), front - distance, yaw):
                break


def _dining(rng, room, make_chair):
    """A table with chairs around it."""
    table = room.anywhere(rng, models.dining_table(rng), yaw=_quarter(rng), seen=1.0)
    if table is None:
        table = room.against_wall(rng, models.dining_table(rng))
    if table is None:
        return
    room.put_on(rng, table, _pick(rng, _SMALL), int(rng.integers(0, 4)))
    low, high = table[0].extent()
    seats = [(x * high[0] / 2, side) for x in (-1, 1) for side in ("front", "back")]
    seats += [(0.0, "left"), (0.0, "right")]
    style = rng.integers(1 << 30)
    for offset, side in seats:
        if rng.random() < 0.25:
            continue
        # The chairs of a table are alike.
        chair = make_chair(np.random.Generator(np.random.PCG64(style)))
        away, turn = rng.uniform(0.08, 0.3), rng.normal(0, 0.12)
        spot = {
            "front": (offset, low[1] - away, math.pi),
            "back": (offset, high[1] + away, 0.0),
            "left": (low[0] - away, offset, math.pi / 2),
            "right": (high[0] + away, offset, -math.pi / 2),
        }[side]
        room.beside(table, chair, *spot[:2], spot[2] + turn)


def _television(rng, room):
    if rng.random() < 0.3:
        room.against_wall(
            rng, models.wall_tv(rng), rng.uniform(0.9, 1.3), gap=(0.02, 0.06), seen=0.9
        )
        return
    make = models.tv_bench if rng.random() < 0.7 else models.dresser
    bench = room.against_wall(rng, make(rng), seen=0.9)
    room.put_on(rng, bench, models.flat_tv if rng.random() < 0.75 else models.tube_tv)
    room.put_on(rng, bench, models.appliance)


def _decorate(rng, room, placed, chance):
    """Small things on top of furniture."""
    for _ in range(4):
        if rng.random() < chance:
            room.put_on(rng, placed, _pick(rng, (*_SMALL, models.appliance)))


def _fill_up(rng, room):
    """Add furniture of any kind until a part of the floor in view, drawn at random, is taken."""
    target = rng.uniform(0.2, 0.75)
    for _ in range(10):
        if room.taken() >= target:
            return
        make = _pick(rng, _ANY)
        if make is models.desk:
            _workplace(rng, room)
            continue
        model = make(rng)
        if model.extent()[1][2] > 1.3 or rng.random() < 0.75:
            placed = room.against_wall(rng, model, seen=1.0)
        else:
            placed = room.anywhere(rng, model, yaw=_quarter(rng), seen=1.0)
        _decorate(rng, room, placed, 0.35)


def _clutter(rng, room):
    """What every room has: things on the floor and on the walls."""
    if rng.random() < 0.2:
        _television(rng, room)
    if rng.random() < 0.25:
        room.anywhere(rng, _pick(rng, (models.dining_chair, models.office_chair))(rng))
    for make, chance in (
        (models.floor_lamp, 0.3), (models.plant, 0.35), (models.heater, 0.3), (models.dresser, 0.2),
        (models.trash_can, 0.45), (models.carton, 0.4), (models.bag, 0.3),
    ):  # fmt: skip
        if rng.random() < chance:
            room.against_wall(rng, make(rng))
    for make in (models.carton, models.bag, models.trash_can, models.carton):
        if rng.random() < 0.25:
            room.anywhere(rng, make(rng))
    for _ in range(int(rng.integers(0, 5))):
        shelf = rng.random() < 0.2
        model = (models.wall_shelf if shelf else models.picture)(rng)
        room.against_wall(rng, model, rng.uniform(1.1, 1.6), gap=(0.0, 0.005))
