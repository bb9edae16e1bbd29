"""Makers of furniture: each adds parts to a model, by the numbers drawn for a row of furniture.py.

Among the numbers, `rng` draws what else is to be drawn.
"""

import math
from types import SimpleNamespace as Numbers

import numpy as np

from datasets.rooms.parts import Material, Model, paint, pick


def _both(x: float) -> tuple[float, float]:
    return -x, x


def _legs(model: Model, shape: str, material: Material, size: tuple, thick: float) -> None:
    for x in _both((size[0] - thick) / 2):
        for y in _both((size[1] - thick) / 2):
            model.add(shape, material, (thick, thick, size[2]), (x, y, 0))


def chair(model: Model, n: Numbers) -> None:
    """On legs or a star of five feet; its back is a panel or, with legs, bars."""
    if n.legs == "star":
        for angle in (n.turn + k * 2 * math.pi / 5 for k in range(5)):
            at = 0.15 * math.cos(angle), 0.15 * math.sin(angle), 0.03
            model.box(n.frame, (0.3, 0.05, 0.06), at, turn=angle)
        model.cylinder(n.frame, (0.06, 0.06, n.height - 0.1), (0, 0, 0.09))
    else:
        _legs(model, n.legs, n.frame, (n.width, n.depth, n.height - 0.04), 0.04)
    model.box(n.seat, (n.width, n.depth, n.thick), (0, 0, n.height - 0.04))
    y, z = (n.depth - n.thick) / 2, n.height + n.thick - 0.04
    if n.bars == 0:
        model.box(n.seat, (n.width - 0.02, n.thick, n.back), (0, y, z), tilt=-0.08)
    else:
        for x in _both(n.width / 2 - 0.02):
            model.box(n.frame, (0.04, 0.035, n.back), (x, y, z))
        for bar in np.linspace(z + 0.12, z + n.back - 0.07, n.bars):
            model.box(n.frame, (n.width - 0.08, 0.035, 0.06), (0, y, bar))
    if n.rng.random() < n.arms:
        for x in _both(n.width / 2 + 0.02):
            model.box(n.frame, (0.05, n.depth - 0.1, 0.04), (x, 0, n.height + 0.2))
            model.box(n.frame, (0.04, 0.04, 0.24), (x, 0, n.height - 0.04))


def sofa(model: Model, n: Numbers) -> None:
    """Upholstered, with arms; a chaise makes it a corner sofa."""
    inner = n.seats * n.seat_width
    width, base = inner + 2 * n.arm, n.seat - 0.1
    cushions = n.cover if n.rng.random() < 0.7 else n.cushion
    model.box(n.cover, (width, n.depth, base - 0.04), (0, 0, 0.04))
    model.box(n.cover, (width, 0.2, n.top - base), (0, n.depth / 2 - 0.1, base))
    for x in _both((width - n.arm) / 2):
        model.box(n.cover, (n.arm, n.depth - 0.2, 0.3), (x, -0.1, base))
    for i in range(n.seats):
        x = (i + 0.5) * n.seat_width - inner / 2
        model.box(cushions, (n.seat_width - 0.02, n.depth - 0.18, 0.16), (x, -0.11, base))
    if n.chaise:
        x = pick(n.rng, _both((width - 0.7) / 2))
        model.box(n.cover, (0.7, n.chaise, n.seat), (x, -(n.depth + n.chaise) / 2, 0))
    if n.pillow:
        at = n.rng.uniform(*_both(inner / 2 - 0.25)), n.depth / 2 - 0.41, n.seat + 0.06
        model.ellipsoid(n.pillow, (0.44, 0.14, 0.36), at, tilt=-0.35, name="pillow")
    model.surface = (0, -n.depth / 4, n.seat + 0.06), (inner - 0.1, n.depth / 2 - 0.1)


def bed(model: Model, n: Numbers) -> None:
    top = n.base + n.thick
    model.box(n.frame, (n.width, n.length, n.base))
    model.box(n.sheet, (n.width - 0.02, n.length - 0.02, n.thick), (0, 0.01, n.base))
    if n.rng.random() < 0.8:
        size = n.width + 0.03, n.length - n.bare, n.thick + 0.09
        model.box(n.blanket, size, (0, -n.bare / 2, n.base - 0.05))
        model.surface = (0, -0.35, top + 0.04), (n.width - 0.3, n.length - 1.1)
    if n.rng.random() < 0.75:
        model.box(n.frame, (n.width + 0.05, 0.07, n.headboard), (0, n.length / 2 + 0.035, 0))
    if n.rng.random() < 0.25:
        model.box(n.frame, (n.width, 0.05, top + 0.15), (0, -n.length / 2 - 0.04, 0))
    for i in range(n.pillows):
        at = n.width * ((i + 0.5) / n.pillows - 0.5), n.length / 2 - 0.22, top
        model.ellipsoid(n.pillow, (0.56, 0.36, 0.15), at, name="pillow")


def table(model: Model, n: Numbers) -> None:
    """A box or cylinder as top, on legs, a pedestal, panels or drawers."""
    under, depth, share = n.height - 0.04, n.depth or n.width, 0.65 if n.shape != "box" else 0.95
    model.add(n.shape, n.wood, (n.width, depth, 0.04), (0, 0, under))
    if n.stand == "pedestal":
        model.cylinder(n.wood, (0.12 * n.width, 0.12 * n.width, under))
        model.cylinder(n.wood, (0.65 * n.width, 0.65 * n.width, 0.03))
    elif n.stand == "legs":
        _legs(model, n.shape, n.wood, (share * n.width, share * depth, under), 0.05)
        if n.rng.random() < n.shelf:
            model.box(n.wood, (n.width - 0.1, depth - 0.1, 0.03), (0, 0, 0.25 * under))
    else:
        side, wide = pick(n.rng, (-1, 1)), 0.45 if n.stand == "drawers" else 0.05
        model.box(n.wood, (0.05, depth - 0.04, under), (-side * (n.width / 2 - 0.03), 0, 0))
        middle = side * (n.width - wide) / 2
        model.box(n.wood, (wide, depth - 0.04, under), (middle, 0, 0))
        if n.stand == "drawers":
            model.box(n.wood, (n.width - 0.1, 0.03, under - 0.25), (0, depth / 2 - 0.05, 0.25))
            for z in np.linspace(0.15, under - 0.12, 3):
                model.box(n.handle, (0.25, 0.02, 0.025), (middle, 0.01 - depth / 2, z))
    model.surface = (0, 0, n.height), (share * n.width, share * depth)


def cabinet(model: Model, n: Numbers) -> None:
    """Columns and rows of doors or drawers with handles; a worktop and a sink, if any."""
    width, height, face = n.columns * n.column, n.rows * n.row + 0.07, 0.02 - n.depth / 2
    model.box(n.body, (width, n.depth - 0.02, height), (0, 0.01, 0))
    front = n.front if n.rng.random() < n.contrast else n.body
    for i in range(n.columns):
        x = (i + 0.5) * n.column - width / 2
        for z in (0.05 + k * n.row for k in range(n.rows)):
            size = n.column - n.rim, 0.015, n.row - n.rim
            model.box(front, size, (x, face - 0.0075, z + n.rim / 2))
            size, share = ((0.12, 0.025, 0.02), 0) if n.rows > 1 else ((0.02, 0.025, 0.16), 0.4)
            at = x + share * n.column, face - 0.0275, z + (n.row - size[2]) / 2
            model.box(n.handle, size, at)
    if n.top:
        model.box(n.top, (width + 0.02, n.depth + 0.03, 0.04), (0, -0.015, height))
        height += 0.042
    if n.rng.random() < n.sink:
        x = n.rng.uniform(*_both(width / 2 - 0.26))
        model.box(n.steel, (0.5, 0.4, 0.03), (x, -0.02, height), name="sink")
        model.cylinder(n.steel, (0.04, 0.04, 0.25), (x, n.depth / 2 - 0.05, height), name="sink")
    else:
        model.surface = (0, 0, height), (width - 0.08, n.depth - 0.1)


def window(model: Model, n: Numbers) -> None:
    """A cabinet in the wall, as it were; curtains on both sides, down to the floor at times."""
    cabinet(model, n)
    if n.rng.random() < 0.5:
        size = n.curtain, 0.07, n.row + 0.2 + n.drop
        for x in _both(n.columns * n.column / 2 + 0.15 - n.curtain / 2):
            model.box(n.cloth, size, (x, -0.11, -n.drop))


def shelf(model: Model, n: Numbers) -> None:
    """Open boards with books on them; NYUv2 labels most of those with their shelf."""
    thick, inner = 0.025, n.width - 0.05
    for x in _both((n.width - thick) / 2):
        model.box(n.wood, (thick, n.depth, n.height), (x, 0, 0))
    model.box(n.wood, (inner, 0.02, n.height - 0.03), (0, n.depth / 2 - 0.01, 0.03))
    boards = np.linspace(0.05, n.height - thick, int(n.height / 0.34) + 1)
    for z in boards:
        model.box(n.wood, (inner, n.depth - 0.02, thick), (0, -0.01, z))
    for z in boards[:-1]:
        if n.rng.random() < 0.8:
            name = "bookshelf" if n.rng.random() < 0.6 else "other"
            wide, deep = inner * n.rng.uniform(0.3, 0.98), n.depth - n.rng.uniform(0.05, 0.13)
            size = wide, deep, (boards[1] - boards[0] - thick) * n.rng.uniform(0.6, 0.9)
            at = (wide - inner) / 2 + 0.01, (n.depth - deep) / 2 - 0.03, z + thick
            model.box(paint(n.rng, "paper"), size, at, name=name)
    model.surface = (0, 0, n.height), (n.width - 0.1, n.depth - 0.06)


def bathtub(model: Model, n: Numbers) -> None:
    model.box(n.enamel, (n.width, n.depth, 0.2))
    for y in _both(n.depth / 2 - 0.04):
        model.box(n.enamel, (n.width, 0.08, n.height - 0.2), (0, y, 0.2))
    for x in _both(n.width / 2 - 0.05):
        model.box(n.enamel, (0.1, n.depth - 0.16, n.height - 0.2), (x, 0, 0.2))


def toilet(model: Model, n: Numbers) -> None:
    model.box(n.enamel, (0.22, 0.35, 0.36), (0, -0.02, 0))
    model.ellipsoid(n.enamel, (0.38, 0.5, 0.18), (0, -0.11, 0.28))
    model.box(n.enamel, (0.38, 0.18, n.tank), (0, 0.24, 0.36))


def lamp(model: Model, n: Numbers) -> None:
    under, half = n.height - n.shade_height, n.foot_height / 2
    model.ellipsoid(n.stem, (n.foot, n.foot, n.foot_height))
    model.cylinder(n.stem, (0.03, 0.03, under - half), (0, 0, half))
    model.cylinder(n.shade, (n.width, n.width, n.shade_height), (0, 0, under))


def plant(model: Model, n: Numbers) -> None:
    wide = min(0.24 * n.height + 0.08, 0.36)
    model.cylinder(n.pot, (wide, wide, 0.25 * n.height))
    model.cylinder(n.stem, (0.04, 0.04, 0.35 * n.height), (0, 0, 0.25 * n.height))
    for _ in range(n.leaves):
        r = n.rng.uniform(0.1, 0.18) * n.height
        x, y, z = n.rng.uniform((-0.11, -0.11, 0.5), (0.11, 0.11, 0.8)) * n.height
        model.ellipsoid(n.leaf, (2 * r, 2 * r, 2.2 * r), (x, y, z - r))


def solid(model: Model, n: Numbers) -> None:
    """One shape, at times on a foot, with a front of another material, or in a pile."""
    depth = n.depth or n.width
    model.add(n.shape, n.skin, (n.width, depth, n.height), (0, 0, n.foot))
    if n.foot:
        model.box(n.skin, (0.4 * n.width, 0.2, 0.02))
        model.box(n.skin, (0.08, 0.04, n.foot), (0, 0.02, 0.02))
    if n.front:
        size = n.width - n.rim, 0.006, n.height - n.rim
        model.box(n.front, size, (0, -depth / 2 - 0.003, n.foot + n.rim / 2))
    for k in range(1, n.count):
        size, turn = (n.width * 0.9**k, depth * 0.9**k, n.height), n.rng.uniform(-0.2, 0.2)
        model.add(n.shape, paint(n.rng, "paper paper wood"), size, (0, 0, k * n.height), turn)
