"""Parametric furniture: each model draws its sizes and materials and returns parts.

A model stands on z = 0, centred on x = y = 0; its back is towards +y and its front towards -y.
Classes are SSCNet's raw values (RAW below), by what NYUv2's annotators call such things.
"""

import colorsys
from dataclasses import dataclass, field, replace

import numpy as np

from datasets.rooms.parts import Material, Part, bounds, rotation_x

RAW = {
    "ceiling": 1, "floor": 2, "wall": 3, "window": 4, "door": 5, "chair": 6, "bed": 7, "sofa": 8,
    "table": 9, "side table": 10, "bookshelf": 11, "kitchen cabinet": 12, "cabinet": 13,
    "lamp": 14, "computer": 16, "desk": 17, "household appliance": 20, "kitchen appliance": 21,
    "pillow": 22, "plant": 24, "night stand": 27, "bathtub": 28, "toilet": 31, "trash can": 32,
    "tv": 33, "sink": 34, "mirror": 35, "other": 36,
}  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """A horizontal rectangle on which things can be put, in its model's frame."""

    center: tuple  # x, y, z; metres
    half: tuple  # half its width (x) and depth (y)
    clearance: float = 0.8  # free height above it


@dataclass
class Model:
    """Parts and free surfaces of one piece of furniture."""

    parts: list = field(default_factory=list)
    surfaces: list = field(default_factory=list)

    def box(self, name, material, x, y, z, turn=0.0, tilt=0.0):
        """A box over the intervals x, y, z, then turned about its centre: `tilt` about its x axis
        (radians; positive leans its top to the front), `turn` about the vertical."""
        return self._add("box", name, material, x, y, z, turn, tilt)

    def cylinder(self, name, material, center, radius, z):
        x, y = ((c - radius, c + radius) for c in center)
        return self._add("cylinder", name, material, x, y, z)

    def ellipsoid(self, name, material, x, y, z, turn=0.0, tilt=0.0):
        return self._add("ellipsoid", name, material, x, y, z, turn, tilt)

    def _add(self, shape, name, material, x, y, z, turn=0.0, tilt=0.0):
        low, high = (np.array(corner, dtype=np.float64) for corner in zip(x, y, z, strict=True))
        part = Part(
            shape, RAW[name], material, (low + high) / 2, (high - low) / 2, rotation_x(tilt)
        )
        self.parts.append(replace(part, rotation=part.moved(turn, 0.0).rotation))
        return self

    def legs(self, name, material, width, depth, height, thick, round_legs=False):
        """Four legs at the corners of width x depth."""
        for x in (-1, 1):
            for y in (-1, 1):
                cx, cy, h = x * (width - thick) / 2, y * (depth - thick) / 2, thick / 2
                if round_legs:
                    self.cylinder(name, material, (cx, cy), h, (0, height))
                else:
                    self.box(name, material, (cx - h, cx + h), (cy - h, cy + h), (0, height))
        return self

    def surface(self, x, y, z, clearance=0.8):
        center = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, z)
        self.surfaces.append(Surface(center, ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2), clearance))
        return self

    def extent(self):
        """Lower and upper corner (3,) of all parts."""
        corners = np.array([bounds(part) for part in self.parts])
        return corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)


# ---- materials ------------------------------------------------------------------------------

# family: hue, saturation, value ranges; textures to choose from; gloss range. The families overlap
# in colour, and each class is painted from several of them.
_FAMILIES = {
    "wood": ((0.04, 0.11), (0.25, 0.65), (0.22, 0.85), ("wood", "wood", "flat"), (0.0, 0.3)),
    "fabric": (
        (0.0, 1.0), (0.0, 0.6), (0.12, 0.9), ("flat", "noise", "stripes", "checks", "speckle"),
        (0.0, 0.0),
    ),
    "paint": ((0.0, 1.0), (0.0, 0.25), (0.5, 0.97), ("flat", "flat", "noise"), (0.0, 0.3)),
    "colour": ((0.0, 1.0), (0.3, 0.9), (0.2, 0.9), ("flat", "stripes", "noise"), (0.0, 0.4)),
    "metal": ((0.5, 0.7), (0.0, 0.1), (0.25, 0.8), ("flat",), (0.5, 0.9)),
    "dark": ((0.0, 1.0), (0.0, 0.4), (0.03, 0.16), ("flat", "flat", "noise"), (0.1, 0.7)),
    "tiles": ((0.0, 1.0), (0.0, 0.3), (0.4, 0.95), ("checks", "grid", "grid"), (0.1, 0.5)),
    "leaf": ((0.2, 0.42), (0.3, 0.8), (0.15, 0.6), ("noise", "speckle"), (0.0, 0.1)),
    "paper": ((0.0, 1.0), (0.0, 0.8), (0.1, 0.95), ("noise", "stripes", "checks", "flat"), (0, 0)),
}  # fmt: skip


def paint(rng, *families, glow=0.0, gloss=None):
    """A material out of one of the families."""
    hues, saturations, values, textures, glosses = _FAMILIES[_pick(rng, families)]
    hue, saturation, value = (rng.uniform(*span) for span in (hues, saturations, values))
    first = colorsys.hsv_to_rgb(hue, saturation, value)
    contrast = rng.uniform(0.6, 0.92) if value > 0.3 else rng.uniform(1.1, 1.6)
    second = colorsys.hsv_to_rgb(
        (hue + rng.normal(0, 0.03)) % 1, min(saturation * rng.uniform(0.7, 1.4), 1),
        min(value * contrast, 1),
    )  # fmt: skip
    texture = _pick(rng, textures)
    spans = {"wood": (0.04, 0.12), "grid": (0.15, 0.5), "checks": (0.06, 0.35)}
    scale = rng.uniform(*spans.get(texture, (0.03, 0.25)))
    axes = tuple(int(axis) for axis in rng.permutation(3))
    gloss = rng.uniform(*glosses) if gloss is None else gloss
    return Material(texture, (first, second), scale, axes, gloss, glow)


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def _centred(size):
    return -size / 2, size / 2


# ---- chairs ---------------------------------------------------------------------------------


def dining_chair(rng):
    model, frame = Model(), paint(rng, "wood", "paint", "dark", "metal")
    seat = paint(rng, "fabric", "wood", "dark") if rng.random() < 0.6 else frame
    width, depth = rng.uniform(0.4, 0.48), rng.uniform(0.4, 0.5)
    height, top, thick = rng.uniform(0.43, 0.48), rng.uniform(0.82, 1.05), rng.uniform(0.03, 0.05)
    model.legs("chair", frame, width, depth, height - 0.04, thick, rng.random() < 0.3)
    model.box("chair", seat, _centred(width), _centred(depth), (height - 0.04, height + 0.02))
    back = (depth / 2 - 0.035, depth / 2)
    style = rng.integers(3)
    if style == 0:  # one panel
        model.box("chair", seat, _centred(width), back, (height + 0.02, top), tilt=-0.08)
    else:
        for side in (-1, 1):
            x = side * (width / 2 - 0.02)
            model.box("chair", frame, (x - 0.02, x + 0.02), back, (height + 0.02, top))
        if style == 1:  # bars across
            for z in np.linspace(height + 0.16, top - 0.06, 3):
                model.box("chair", frame, _centred(width - 0.08), back, (z, z + 0.06))
        else:  # slats upright under a rail
            model.box("chair", frame, _centred(width - 0.08), back, (top - 0.07, top))
            for x in np.linspace(-width / 2 + 0.1, width / 2 - 0.1, 3):
                model.box("chair", frame, (x - 0.015, x + 0.015), back, (height + 0.02, top - 0.07))
    if rng.random() < 0.25:
        _arms(model, "chair", frame, width, depth, height)
    return model


def office_chair(rng):
    model, cover = Model(), paint(rng, "fabric", "dark", "dark", "colour")
    frame = paint(rng, "dark", "metal")
    width, height = rng.uniform(0.46, 0.54), rng.uniform(0.44, 0.54)
    for angle in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 1):
        x, y = 0.15 * np.cos(angle), 0.15 * np.sin(angle)
        model.box(
            "chair", frame, (x - 0.15, x + 0.15), (y - 0.025, y + 0.025), (0.03, 0.09), turn=angle
        )
    model.cylinder("chair", frame, (0, 0), 0.03, (0.09, height - 0.05))
    model.box("chair", cover, _centred(width), (-0.24, 0.22), (height - 0.05, height + 0.04))
    top = height + rng.uniform(0.4, 0.7)
    model.box("chair", cover, _centred(width - 0.06), (0.2, 0.28), (height + 0.1, top), tilt=-0.1)
    model.box("chair", frame, _centred(0.08), (0.22, 0.27), (height - 0.05, height + 0.12))
    if rng.random() < 0.7:
        _arms(model, "chair", frame, width + 0.08, 0.4, height)
    return model


def stool(rng):
    model, seat = Model(), paint(rng, "wood", "fabric", "colour", "metal")
    height, radius = rng.uniform(0.42, 0.75), rng.uniform(0.16, 0.21)
    model.cylinder("chair", seat, (0, 0), radius, (height - 0.05, height))
    if rng.random() < 0.5:
        model.legs("chair", paint(rng, "wood", "metal"), 0.28, 0.28, height - 0.05, 0.035, True)
    else:
        model.cylinder("chair", paint(rng, "metal", "dark"), (0, 0), 0.03, (0.03, height - 0.05))
        model.cylinder("chair", paint(rng, "metal", "dark"), (0, 0), radius, (0, 0.03))
    return model


def tub_chair(rng):
    """An upholstered armchair, which NYUv2 calls a chair."""
    model, cover = Model(), paint(rng, "fabric", "dark", "colour")
    width, depth, arm = rng.uniform(0.7, 0.85), rng.uniform(0.7, 0.8), rng.uniform(0.1, 0.16)
    seat, top = rng.uniform(0.38, 0.45), rng.uniform(0.72, 0.95)
    return _upholstered(model, "chair", cover, cover, width, depth, seat, top, arm, 1)


def _arms(model, name, material, width, depth, seat):
    for side in (-1, 1):
        x = side * (width / 2 - 0.02)
        y = _centred(depth - 0.06)
        model.box(name, material, (x - 0.025, x + 0.025), y, (seat + 0.2, seat + 0.24))
        model.box(name, material, (x - 0.02, x + 0.02), (y[0], y[0] + 0.04), (seat, seat + 0.2))


# ---- beds -----------------------------------------------------------------------------------


def bed(rng):
    """Single or double, with or without a headboard."""
    model, frame = Model(), paint(rng, "wood", "dark", "paint", "fabric")
    width = _pick(rng, (0.95, 1.2, 1.45, 1.6, 1.8)) + rng.uniform(-0.05, 0.05)
    length, base, top = rng.uniform(1.95, 2.1), rng.uniform(0.2, 0.35), rng.uniform(0.45, 0.65)
    y = _centred(length)
    sheet = paint(rng, "fabric", "paint")
    model.box("bed", frame, _centred(width), y, (0.0, base))
    model.box("bed", sheet, _centred(width - 0.02), (y[0] + 0.02, y[1]), (base, top))
    if rng.random() < 0.8:  # a blanket over the foot
        model.box(
            "bed", paint(rng, "fabric", "colour"), _centred(width + 0.03),
            (y[0] - 0.01, y[1] - rng.uniform(0.5, 0.8)), (base - 0.05, top + 0.04),
        )  # fmt: skip
    if rng.random() < 0.75:
        high = rng.uniform(0.85, 1.25)
        model.box(
            "bed", frame, _centred(width + rng.uniform(0, 0.1)), (y[1], y[1] + 0.07), (0, high)
        )
    if rng.random() < 0.25:
        model.box("bed", frame, _centred(width), (y[0] - 0.06, y[0] - 0.01), (0, top + 0.15))
    count = 1 if width < 1.3 else 2
    for i in range(count):
        x = width * ((i + 0.5) / count - 0.5)
        _pillow(model, rng, (x, y[1] - 0.22), top, 0.28, 0.18, tilt=0.0)
    model.surface(_centred(width - 0.3), (y[0] + 0.2, y[1] - 0.9), top + 0.04)
    return model


def bunk_bed(rng):
    model, frame = Model(), paint(rng, "wood", "metal", "paint")
    width, length, upper = rng.uniform(0.9, 1.05), rng.uniform(1.95, 2.1), rng.uniform(1.2, 1.4)
    model.legs("bed", frame, width + 0.06, length, upper + 0.45, 0.07)
    for z in (0.3, upper):
        model.box("bed", frame, _centred(width), _centred(length - 0.14), (z - 0.08, z))
        cover = paint(rng, "fabric", "colour")
        model.box("bed", cover, _centred(width - 0.04), _centred(length - 0.16), (z, z + 0.16))
    model.box(
        "bed", frame, (-width / 2, -width / 2 + 0.03), _centred(length - 0.14),
        (upper + 0.2, upper + 0.32),
    )  # fmt: skip
    _pillow(model, rng, (0, length / 2 - 0.3), 0.46, 0.28, 0.18, 0.0)
    return model


def _pillow(model, rng, center, z, half_x, half_y, tilt):
    x, y = center
    model.ellipsoid(
        "pillow", paint(rng, "fabric", "paint", "colour"), (x - half_x, x + half_x),
        (y - half_y, y + half_y), (z, z + rng.uniform(0.12, 0.18)), tilt=tilt,
    )  # fmt: skip


# ---- sofas ----------------------------------------------------------------------------------


def sofa(rng):
    """Two or three seats; a third of them with a chaise, which makes a corner sofa."""
    model, cover = Model(), paint(rng, "fabric", "fabric", "dark", "colour", "wood")
    seats = int(rng.integers(2, 4))
    width, depth = seats * rng.uniform(0.58, 0.72) + 0.3, rng.uniform(0.82, 0.98)
    seat, top, arm = rng.uniform(0.38, 0.46), rng.uniform(0.72, 0.95), rng.uniform(0.12, 0.24)
    cushions = cover if rng.random() < 0.7 else paint(rng, "fabric", "colour")
    _upholstered(model, "sofa", cover, cushions, width, depth, seat, top, arm, seats)
    if rng.random() < 0.33:
        side, wide = _pick(rng, (-1, 1)), rng.uniform(0.65, 0.8)
        x = sorted((side * (width / 2 - wide), side * width / 2))
        model.box("sofa", cover, x, (-depth / 2 - rng.uniform(0.5, 0.8), -depth / 2), (0, seat))
    if rng.integers(3):
        x = rng.uniform(-width / 2 + arm + 0.25, width / 2 - arm - 0.25)
        model.ellipsoid(
            "pillow", paint(rng, "fabric", "colour", "paper"), (x - 0.22, x + 0.22),
            (depth / 2 - 0.48, depth / 2 - 0.34), (seat + 0.06, seat + 0.42), tilt=-0.35,
        )  # fmt: skip
    model.surface(_centred(width - 2 * arm - 0.1), (-depth / 2 + 0.1, 0.0), seat + 0.06)
    return model


def ottoman(rng):
    model, cover = Model(), paint(rng, "fabric", "dark", "colour")
    width, depth, top = rng.uniform(0.5, 0.95), rng.uniform(0.45, 0.65), rng.uniform(0.36, 0.45)
    model.legs("sofa", paint(rng, "wood", "dark"), width, depth, 0.08, 0.06)
    return model.box("sofa", cover, _centred(width), _centred(depth), (0.08, top))


def _upholstered(model, name, cover, cushions, width, depth, seat, top, arm, seats):
    y = _centred(depth)
    model.box(name, cover, _centred(width), y, (0.04, seat - 0.1))
    model.box(name, cover, _centred(width), (y[1] - 0.2, y[1]), (seat - 0.1, top))
    for side in (-1, 1):
        x = sorted((side * width / 2, side * (width / 2 - arm)))
        model.box(name, cover, x, (y[0], y[1] - 0.2), (seat - 0.1, seat + 0.2))
    inner = width - 2 * arm
    for i in range(seats):
        x = (inner * (i / seats - 0.5) + 0.01, inner * ((i + 1) / seats - 0.5) - 0.01)
        model.box(name, cushions, x, (y[0] - 0.02, y[1] - 0.2), (seat - 0.1, seat + 0.06))
    return model


# ---- tables ---------------------------------------------------------------------------------


def dining_table(rng):
    """Rectangular on legs or panels, or round on a pedestal."""
    model, wood = Model(), paint(rng, "wood", "wood", "paint", "dark", "metal")
    height, thick = rng.uniform(0.71, 0.78), rng.uniform(0.03, 0.06)
    if rng.random() < 0.3:
        radius = rng.uniform(0.45, 0.65)
        model.cylinder("table", wood, (0, 0), radius, (height - thick, height))
        model.cylinder("table", wood, (0, 0), rng.uniform(0.05, 0.1), (0.04, height - thick))
        model.cylinder("table", wood, (0, 0), radius * 0.6, (0, 0.04))
        width = depth = radius * 1.4
    else:
        width, depth = rng.uniform(1.1, 1.9), rng.uniform(0.75, 1.0)
        model.box("table", wood, _centred(width), _centred(depth), (height - thick, height))
        if rng.random() < 0.7:
            model.legs("table", wood, width - 0.06, depth - 0.06, height - thick, 0.07)
            for y in _centred(depth - 0.12):
                model.box(
                    "table", wood, _centred(width - 0.2), (y - 0.012, y + 0.012),
                    (height - thick - 0.09, height - thick),
                )  # fmt: skip
        else:
            for x in _centred(width - 0.3):
                model.box(
                    "table", wood, (x - 0.03, x + 0.03), _centred(depth - 0.1), (0, height - thick)
                )
    return model.surface(_centred(width - 0.1), _centred(depth - 0.1), height)


def desk(rng):
    """With drawers on one side and, often, a closed front."""
    model, wood = Model(), paint(rng, "wood", "wood", "paint", "dark", "metal")
    width, depth, height = rng.uniform(1.1, 1.8), rng.uniform(0.6, 0.8), rng.uniform(0.7, 0.77)
    model.box("desk", wood, _centred(width), _centred(depth), (height - 0.04, height))
    side = _pick(rng, (-1, 1))
    drawers = sorted((side * width / 2, side * (width / 2 - rng.uniform(0.38, 0.5))))
    model.box("desk", wood, drawers, _centred(depth - 0.04), (0, height - 0.04))
    x = -side * (width / 2 - 0.02)
    model.box("desk", wood, (x - 0.02, x + 0.02), _centred(depth - 0.04), (0, height - 0.04))
    if rng.random() < 0.6:
        model.box(
            "desk", wood, _centred(width - 0.1), (depth / 2 - 0.06, depth / 2 - 0.03),
            (rng.uniform(0.1, 0.4), height - 0.04),
        )  # fmt: skip
    handle = paint(rng, "metal", "dark")
    for z in np.linspace(0.15, height - 0.16, 3):
        model.box(
            "desk", handle, (drawers[0] + 0.1, drawers[1] - 0.1), (-depth / 2, -depth / 2 + 0.02),
            (z, z + 0.025),
        )  # fmt: skip
    return model.surface(_centred(width - 0.1), _centred(depth - 0.08), height)


def coffee_table(rng):
    model, wood = Model(), paint(rng, "wood", "dark", "metal", "paint")
    width, depth, height = rng.uniform(0.8, 1.2), rng.uniform(0.45, 0.65), rng.uniform(0.36, 0.48)
    if rng.random() < 0.25:
        model.box("table", wood, _centred(width), _centred(depth), (0, height))  # a chest
    else:
        model.box("table", wood, _centred(width), _centred(depth), (height - 0.05, height))
        model.legs("table", wood, width, depth, height - 0.05, 0.06)
        if rng.random() < 0.6:
            model.box("table", wood, _centred(width - 0.06), _centred(depth - 0.06), (0.1, 0.13))
    return model.surface(_centred(width - 0.1), _centred(depth - 0.1), height)


def side_table(rng):
    model, wood = Model(), paint(rng, "wood", "metal", "paint", "colour")
    height, radius = rng.uniform(0.45, 0.65), rng.uniform(0.2, 0.3)
    if rng.random() < 0.5:
        model.cylinder("side table", wood, (0, 0), radius, (height - 0.03, height))
        model.cylinder("side table", wood, (0, 0), 0.03, (0.02, height - 0.03))
        model.cylinder("side table", wood, (0, 0), radius * 0.7, (0, 0.02))
    else:
        model.box(
            "side table", wood, _centred(2 * radius), _centred(2 * radius), (height - 0.03, height)
        )
        model.legs("side table", wood, 2 * radius, 2 * radius, height - 0.03, 0.04)
    return model.surface(_centred(radius * 1.3), _centred(radius * 1.3), height)


# ---- furniture ------------------------------------------------------------------------------


def bookshelf(rng):
    """Open boards with books (objs) on them."""
    model, wood = Model(), paint(rng, "wood", "wood", "paint", "dark", "metal")
    width, depth, height = rng.uniform(0.7, 1.3), rng.uniform(0.26, 0.36), rng.uniform(1.1, 2.1)
    t = 0.025
    for x in _centred(width - t):
        model.box(
            "bookshelf", wood, (x - t / 2, x + t / 2), _centred(depth), (0, height)
        )  # fmt: skip
    model.box(
        "bookshelf", wood, _centred(width - 2 * t), (depth / 2 - 0.02, depth / 2), (0.03, height)
    )
    levels = np.linspace(0.05, height - t, int(height / 0.34) + 1)
    inside = (-depth / 2, depth / 2 - 0.02)
    for z in levels:
        model.box("bookshelf", wood, _centred(width - 2 * t), inside, (z, z + t))
    gap = levels[1] - levels[0] - t
    for z in levels[:-1]:
        if rng.random() < 0.8:  # a row of books; NYUv2 labels most of them with their shelf
            name = "bookshelf" if rng.random() < 0.6 else "other"
            start = -width / 2 + t + 0.01
            stop = start + (width - 2 * t - 0.02) * rng.uniform(0.3, 1.0)
            books = (start, stop), (inside[0] + rng.uniform(0.02, 0.1), inside[1] - 0.01)
            model.box(
                name, paint(rng, "paper"), *books, (z + t, z + t + gap * rng.uniform(0.6, 0.9))
            )
    return model.surface(_centred(width - 0.1), _centred(depth - 0.06), height)


def wardrobe(rng):
    model, wood = Model(), paint(rng, "wood", "paint", "paint", "dark")
    doors = int(rng.integers(2, 5))
    width, depth, height = (
        doors * rng.uniform(0.42, 0.55),
        rng.uniform(0.5, 0.65),
        rng.uniform(1.8, 2.3),
    )
    return _cabinet(model, rng, "cabinet", wood, width, depth, height, columns=doors, rows=1)


def dresser(rng):
    """Chest of drawers or sideboard."""
    model, wood = Model(), paint(rng, "wood", "wood", "paint", "dark", "colour")
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    width, depth = columns * rng.uniform(0.45, 0.6), rng.uniform(0.42, 0.52)
    height = rows * rng.uniform(0.2, 0.26) + 0.1
    return _cabinet(model, rng, "cabinet", wood, width, depth, height, columns, rows)


def filing_cabinet(rng):
    model, steel = Model(), paint(rng, "metal", "paint", "dark", "wood")
    rows = int(rng.integers(2, 5))
    return _cabinet(
        model, rng, "cabinet", steel, rng.uniform(0.4, 0.5), rng.uniform(0.5, 0.65),
        rows * 0.33 + 0.03, 1, rows,
    )  # fmt: skip


def night_stand(rng):
    model, wood = Model(), paint(rng, "wood", "wood", "paint", "dark")
    size, height = rng.uniform(0.38, 0.52), rng.uniform(0.45, 0.65)
    rows = int(rng.integers(1, 4))
    return _cabinet(model, rng, "night stand", wood, size, size * 0.9, height, 1, rows)


def tv_bench(rng):
    """A low cabinet, the television is put on it."""
    model, wood = Model(), paint(rng, "wood", "dark", "paint")
    width, height = rng.uniform(1.0, 1.7), rng.uniform(0.4, 0.65)
    return _cabinet(model, rng, "cabinet", wood, width, rng.uniform(0.4, 0.5), height, 3, 1)


def counter(rng):
    """A run of kitchen cabinets with a worktop and, at times, a sink (objs)."""
    model, front = Model(), paint(rng, "wood", "wood", "paint", "colour")
    columns = int(rng.integers(2, 6))
    width = columns * rng.uniform(0.5, 0.6)
    top = paint(rng, "tiles", "dark", "paint", "wood")
    _cabinet(model, rng, "kitchen cabinet", front, width, 0.6, 0.86, columns, 1)
    model.surfaces.clear()
    model.box("kitchen cabinet", top, _centred(width + 0.02), (-0.33, 0.3), (0.86, 0.9))
    if rng.random() < 0.5:
        x = rng.uniform(-width / 2 + 0.4, width / 2 - 0.4)
        steel = paint(rng, "metal", "paint")
        model.box("sink", steel, (x - 0.27, x + 0.27), (-0.22, 0.22), (0.9, 0.915))
        model.cylinder("sink", steel, (x, 0.24), 0.02, (0.9, 1.2))
    return model.surface(_centred(width - 0.1), (-0.26, 0.26), 0.92, 0.4)


def wall_cabinet(rng):
    """Hangs on the wall; its underside is z = 0."""
    model, front = Model(), paint(rng, "wood", "wood", "paint", "colour")
    columns = int(rng.integers(1, 5))
    width, height = columns * rng.uniform(0.45, 0.6), rng.uniform(0.5, 0.8)
    return _cabinet(model, rng, "kitchen cabinet", front, width, 0.34, height, columns, 1)


def bathtub(rng):
    model, enamel = Model(), paint(rng, "paint", "paint", "tiles", gloss=0.5)
    width, depth, height = rng.uniform(1.5, 1.75), rng.uniform(0.7, 0.8), rng.uniform(0.5, 0.6)
    model.box("bathtub", enamel, _centred(width), _centred(depth), (0, 0.2))
    for y in (-1, 1):
        edge = sorted((y * depth / 2, y * (depth / 2 - 0.08)))
        model.box("bathtub", enamel, _centred(width), edge, (0.2, height))
    for x in (-1, 1):
        edge = sorted((x * width / 2, x * (width / 2 - 0.1)))
        model.box("bathtub", enamel, edge, _centred(depth - 0.16), (0.2, height))
    return model


def toilet(rng):
    model, enamel = Model(), paint(rng, "paint", gloss=0.5)
    model.box("toilet", enamel, _centred(0.22), (-0.2, 0.15), (0, 0.36))
    model.ellipsoid("toilet", enamel, _centred(0.38), (-0.36, 0.14), (0.28, 0.46))
    model.box("toilet", enamel, _centred(0.38), (0.15, 0.33), (0.36, rng.uniform(0.75, 0.85)))
    return model


def _cabinet(model, rng, name, material, width, depth, height, columns, rows):
    """A closed body with a grid of doors or drawers, and handles."""
    front = -depth / 2 + 0.02
    model.box(name, material, _centred(width), (front, depth / 2), (0, height))
    panel = material if rng.random() < 0.7 else paint(rng, "wood", "paint", "colour", "dark")
    handle = paint(rng, "metal", "dark", "wood")
    for i in range(columns):
        x = width * (np.array([i, i + 1]) / columns - 0.5) + [0.008, -0.008]
        for k in range(rows):
            z = 0.05 + (height - 0.07) * np.array([k, k + 1]) / rows + [0.008, -0.008]
            model.box(name, panel, x, (front - 0.015, front), z)
            if rows > 1:
                knob = (x.mean() - 0.06, x.mean() + 0.06), z.mean() + np.array([-0.01, 0.01])
            else:
                knob = (x[1] - 0.05, x[1] - 0.03), z.mean() + np.array([-0.08, 0.08])
            model.box(name, handle, knob[0], (front - 0.04, front - 0.015), knob[1])
    return model.surface(_centred(width - 0.08), (front + 0.04, depth / 2 - 0.04), height)


# ---- televisions and computers --------------------------------------------------------------


def flat_tv(rng):
    """On its foot, to be put on something."""
    model, case = Model(), paint(rng, "dark", "dark", "metal")
    width = rng.uniform(0.75, 1.25)
    high = width * 0.58
    model.box("tv", case, _centred(width * 0.4), (-0.11, 0.11), (0, 0.02))
    model.box("tv", case, _centred(0.1), (0.0, 0.04), (0.02, 0.08))
    _screen(model, rng, "tv", case, width, (-0.025, 0.04), (0.07, 0.07 + high))
    return model


def wall_tv(rng):
    model, case = Model(), paint(rng, "dark", "dark", "metal")
    width = rng.uniform(0.8, 1.35)
    _screen(model, rng, "tv", case, width, (-0.04, 0.04), (0, width * 0.58))
    return model


def tube_tv(rng):
    model, case = Model(), paint(rng, "dark", "metal", "paint")
    size = rng.uniform(0.45, 0.75)
    _screen(model, rng, "tv", case, size, (-size * 0.35, 0.0), (0, size * 0.82))
    model.box("tv", case, _centred(size * 0.7), (0.0, size * 0.4), (0.02, size * 0.65))
    return model


def monitor(rng):
    """A computer's screen with its keyboard, at times with a tower."""
    model, case = Model(), paint(rng, "dark", "dark", "metal", "paint")
    width = rng.uniform(0.4, 0.6)
    model.box("computer", case, _centred(0.22), (0.0, 0.18), (0, 0.02))
    model.box("computer", case, _centred(0.06), (0.08, 0.12), (0.02, 0.16))
    _screen(model, rng, "computer", case, width, (0.04, 0.08), (0.12, 0.12 + width * 0.65))
    keyboard = paint(rng, "dark", "paint")
    return model.box("computer", keyboard, _centred(0.44), (-0.24, -0.09), (0, 0.025))


def laptop(rng):
    model, case = Model(), paint(rng, "dark", "metal", "paint")
    model.box("computer", case, _centred(0.36), (-0.14, 0.1), (0, 0.025))
    model.box("computer", case, _centred(0.36), (0.1, 0.12), (0.01, 0.25), tilt=-0.25)
    return model


def _screen(model, rng, name, case, width, y, z):
    on = rng.random() < 0.3
    glass = (
        paint(rng, "paper", "colour", gloss=0.9, glow=0.6) if on else paint(rng, "dark", gloss=0.9)
    )
    model.box(name, case, _centred(width), y, z)
    inner = (y[0] - 0.006, y[0])
    return model.box(name, glass, _centred(width - 0.05), inner, (z[0] + 0.03, z[1] - 0.03))


# ---- objects --------------------------------------------------------------------------------


def floor_lamp(rng):
    model, stem = Model(), paint(rng, "metal", "dark", "wood")
    height, radius = rng.uniform(1.4, 1.75), rng.uniform(0.14, 0.22)
    model.cylinder("lamp", stem, (0, 0), 0.14, (0, 0.03))
    model.cylinder("lamp", stem, (0, 0), 0.015, (0.03, height - 0.25))
    shade = paint(rng, "paint", "fabric", glow=float(_pick(rng, (0.0, 0.5))))
    return model.cylinder("lamp", shade, (0, 0), radius, (height - 0.25, height))


def table_lamp(rng):
    model, foot = Model(), paint(rng, "metal", "colour", "wood", "dark")
    height, radius = rng.uniform(0.4, 0.6), rng.uniform(0.1, 0.17)
    body = rng.uniform(0.05, 0.09)
    model.ellipsoid("lamp", foot, _centred(2 * body), _centred(2 * body), (0, height * 0.5))
    model.cylinder("lamp", foot, (0, 0), 0.012, (height * 0.45, height * 0.6))
    shade = paint(rng, "paint", "fabric", glow=float(_pick(rng, (0.0, 0.5))))
    return model.cylinder("lamp", shade, (0, 0), radius, (height * 0.58, height))


def plant(rng, size=None):
    size = rng.uniform(0.7, 1.5) if size is None else size
    model, pot = Model(), paint(rng, "colour", "wood", "paint", "dark")
    radius = min(0.12 * size + 0.04, 0.18)
    model.cylinder("plant", pot, (0, 0), radius, (0, 0.25 * size))
    model.cylinder("plant", paint(rng, "wood"), (0, 0), 0.02, (0.25 * size, 0.6 * size))
    leaf = paint(rng, "leaf")
    for _ in range(int(rng.integers(3, 6))):
        x, y = rng.uniform(-0.11, 0.11, size=2) * size
        z, r = rng.uniform(0.5, 0.8) * size, rng.uniform(0.1, 0.18) * size
        model.ellipsoid("plant", leaf, (x - r, x + r), (y - r, y + r), (z - r, z + r * 1.2))
    return model


def small_plant(rng):
    return plant(rng, rng.uniform(0.25, 0.45))


def trash_can(rng):
    model, shell = Model(), paint(rng, "dark", "metal", "colour", "paint")
    height, radius = rng.uniform(0.28, 0.6), rng.uniform(0.12, 0.19)
    if rng.random() < 0.5:
        return model.cylinder("trash can", shell, (0, 0), radius, (0, height))
    return model.box("trash can", shell, _centred(2 * radius), _centred(1.5 * radius), (0, height))


def carton(rng):
    model, card = Model(), paint(rng, "wood", "paper", "paint")
    width, depth, height = rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.5), rng.uniform(0.15, 0.5)
    model.box("other", card, _centred(width), _centred(depth), (0, height))
    if rng.random() < 0.4:
        top = rng.uniform(0.1, 0.3)
        model.box(
            "other", paint(rng, "wood", "paper"), _centred(width * 0.7), _centred(depth * 0.7),
            (height, height + top), turn=rng.uniform(-0.4, 0.4),
        )  # fmt: skip
    return model


def bag(rng):
    model, cloth = Model(), paint(rng, "fabric", "dark", "colour")
    width, height = rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.5)
    return model.ellipsoid("other", cloth, _centred(width), _centred(width * 0.6), (0, height))


def heater(rng):
    """A radiator or a small appliance that stands on the floor."""
    model, steel = Model(), paint(rng, "paint", "metal", "dark")
    width, height = rng.uniform(0.4, 1.1), rng.uniform(0.45, 0.7)
    return model.box("household appliance", steel, _centred(width), _centred(0.16), (0.05, height))


def fridge(rng):
    model, steel = Model(), paint(rng, "paint", "metal", "paint", "dark")
    width, depth, height = rng.uniform(0.6, 0.8), rng.uniform(0.6, 0.7), rng.uniform(1.4, 1.85)
    model.box("kitchen appliance", steel, _centred(width), _centred(depth), (0, height))
    handle = paint(rng, "metal", "dark")
    split, front = height * rng.uniform(0.35, 0.7), -depth / 2
    for z in ((split - 0.35, split - 0.05), (split + 0.05, split + 0.3)):
        model.box(
            "kitchen appliance",
            handle,
            (width / 2 - 0.1, width / 2 - 0.07),
            (front - 0.04, front),
            z,
        )
    return model


def stove(rng):
    model, steel = Model(), paint(rng, "paint", "metal", "dark")
    model.box("kitchen appliance", steel, _centred(0.6), _centred(0.6), (0, 0.88))
    glass = paint(rng, "dark", gloss=0.8)
    model.box("kitchen appliance", glass, _centred(0.5), (-0.315, -0.3), (0.25, 0.65))
    return model.box("kitchen appliance", glass, _centred(0.58), _centred(0.56), (0.88, 0.9))


def washbasin(rng):
    """A vanity unit (furn) with a basin (objs)."""
    model, enamel = Model(), paint(rng, "paint", gloss=0.5)
    width = rng.uniform(0.5, 1.0)
    _cabinet(model, rng, "cabinet", paint(rng, "wood", "paint"), width, 0.46, 0.78, 2, 1)
    model.surfaces.clear()
    model.box("sink", enamel, _centred(width + 0.02), (-0.24, 0.23), (0.78, 0.86))
    return model.cylinder("sink", paint(rng, "metal"), (0, 0.17), 0.02, (0.86, 1.05))


def books(rng):
    model, z, width = Model(), 0.0, rng.uniform(0.16, 0.26)
    for _ in range(int(rng.integers(1, 5))):
        thick = rng.uniform(0.02, 0.05)
        model.box(
            "other", paint(rng, "paper"), _centred(width), _centred(width * 1.3), (z, z + thick),
            turn=rng.uniform(-0.2, 0.2),
        )  # fmt: skip
        z += thick
    return model


def vase(rng):
    model, glaze = Model(), paint(rng, "colour", "paint", "dark", "metal")
    radius, height = rng.uniform(0.04, 0.1), rng.uniform(0.12, 0.35)
    if rng.random() < 0.5:
        return model.cylinder("other", glaze, (0, 0), radius, (0, height))
    return model.ellipsoid("other", glaze, _centred(2 * radius), _centred(2 * radius), (0, height))


def appliance(rng):
    """Microwave, printer, toaster, loudspeaker: a box to be put on something."""
    model, shell = Model(), paint(rng, "dark", "metal", "paint")
    width, depth, height = rng.uniform(0.2, 0.5), rng.uniform(0.18, 0.36), rng.uniform(0.15, 0.35)
    front = paint(rng, "dark", gloss=0.8)
    model.box("household appliance", shell, _centred(width), _centred(depth), (0, height))
    return model.box(
        "household appliance", front, _centred(width * 0.7),
        (-depth / 2 - 0.006, -depth / 2), (height * 0.15, height * 0.85),
    )  # fmt: skip


# ---- on walls (x along the wall, back to the wall at the largest y, z from the lower edge) ---


def picture(rng):
    model, frame = Model(), paint(rng, "wood", "dark", "metal", "paint")
    width, height = rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.8)
    name, inner = "other", paint(rng, "paper", "paper", "leaf")
    if rng.random() < 0.2:
        name, inner = "mirror", paint(rng, "paint", gloss=1.0)
    model.box(name, frame, _centred(width), (-0.015, 0.015), (0, height))
    return model.box(name, inner, _centred(width - 0.08), (-0.02, -0.015), (0.04, height - 0.04))


def wall_shelf(rng):
    model, board = Model(), paint(rng, "wood", "paint", "dark")
    width, depth = rng.uniform(0.6, 1.2), rng.uniform(0.18, 0.28)
    model.box("bookshelf", board, _centred(width), _centred(depth), (0, 0.03))
    start = rng.uniform(-width / 2, 0)
    model.box(
        "other", paint(rng, "paper"), (start, start + width * rng.uniform(0.2, 0.5)),
        _centred(depth - 0.04), (0.03, rng.uniform(0.15, 0.28)),
    )  # fmt: skip
    return model


def window(rng, wall):
    """Frame, glass, at times curtains or a blind; reaches through a wall `wall` metres thick."""
    model, frame = Model(), paint(rng, "paint", "paint", "wood", "dark")
    width, height = rng.uniform(0.7, 1.9), rng.uniform(0.8, 1.4)
    glass = paint(rng, "paint", "fabric", "dark", gloss=1.0, glow=float(rng.uniform(0.0, 0.9)))
    model.box("window", glass, _centred(width), (-0.01, wall), (0.02, height - 0.02))
    t = 0.06
    for x in (-width / 2 + t / 2, 0.0, width / 2 - t / 2):
        model.box("window", frame, (x - t / 2, x + t / 2), (-0.03, -0.01), (0, height))
    for z in (t / 2, height - t / 2):
        model.box("window", frame, _centred(width), (-0.03, -0.01), (z - t / 2, z + t / 2))
    style = rng.random()
    if style < 0.45:  # curtains on both sides, down to the floor at times
        cloth, wide = paint(rng, "fabric", "paint", "colour"), rng.uniform(0.2, 0.45)
        drop = _pick(rng, (0.1, 0.1, 0.75))
        for side in (-1, 1):
            x = sorted((side * (width / 2 + 0.15), side * (width / 2 + 0.15 - wide)))
            model.box("window", cloth, x, (-0.12, -0.05), (-drop, height + 0.1))
    elif style < 0.6:
        blind = paint(rng, "paint", "wood", "fabric")
        low = height * rng.uniform(0.0, 0.6)
        model.box("window", blind, _centred(width), (-0.07, -0.04), (low, height + 0.03))
    return model


def door(rng, wall):
    model, leaf = Model(), paint(rng, "paint", "wood", "wood", "colour")
    width, height = rng.uniform(0.8, 0.95), rng.uniform(2.0, 2.1)
    model.box("door", leaf, _centred(width), (-0.02, wall), (0, height))
    model.cylinder("door", paint(rng, "metal"), (width / 2 - 0.08, -0.05), 0.025, (0.95, 1.02))
    return model
