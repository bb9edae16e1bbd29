"""Kinds of rooms as data: what furnishes each, and how things that belong together stand."""

import math

import numpy as np
from numpy.random import Generator

from datasets.rooms.furniture import make
from datasets.rooms.layout import Layout
from datasets.rooms.parts import pick

SMALL = ("books", "vase", "small plant", "carton", "table lamp")


def _sleep(rng: Generator, room: Layout) -> None:
    """A bed, its head to the wall, between night stands."""
    bed = make(rng, "single bed", "double bed", "double bed")
    bed = room.against_wall(bed, seen=1.0) or room.against_wall(make(rng, "single bed"), seen=1.0)
    if bed is None:
        return
    _, (right, back, _) = bed.extent()
    for side in (-1, 1):
        if rng.random() < 0.65:
            stand = make(rng, "night stand")
            _, (wide, deep, _) = stand.extent()
            spot = bed.spot.beside(side * (right + wide + 0.05), back - deep)
            room.put_on(room.place(stand, spot), "table lamp", count=pick(rng, (0, 1, 1)))
    room.put_on(bed, "bag", "books", "carton", count=pick(rng, (0, 1)))


def _sit(rng: Generator, room: Layout) -> None:
    """A sofa at the wall, or one that divides the room, with tables."""
    couch = room.against_wall(make(rng, "sofa"), seen=1.0)
    if couch is None or rng.random() < 0.25:
        couch = room.anywhere(make(rng, "sofa")) or couch
    if couch is None:
        return
    (_, front, _), (right, _, _) = couch.extent()
    if rng.random() < 0.75:
        table = make(rng, "coffee table")
        y = pick(rng, (front, -0.5)) - table.extent()[1][1] - rng.uniform(0.25, 0.45)
        table = room.place(table, couch.spot.beside(rng.normal(0, 0.15), y))
        room.put_on(table, *SMALL, count=pick(rng, range(4)))
    if rng.random() < 0.4:
        table = make(rng, "side table")
        x = right + table.extent()[1][0] + 0.05
        room.put_on(room.place(table, couch.spot.beside(pick(rng, (-x, x)), 0.1)), "table lamp")


def _work(rng: Generator, room: Layout) -> None:
    """A desk at the wall with a computer, and its chair."""
    desk = room.against_wall(make(rng, "desk"))
    room.put_on(desk, "monitor", count=pick(rng, (0, 1, 1)))
    room.put_on(desk, *SMALL, "appliance", "keyboard", "keyboard", count=pick(rng, range(6)))
    if desk and rng.random() < 0.85:
        chair = make(rng, "office chair", "office chair", "dining chair")
        y = desk.extent()[0][1] - rng.uniform(0.15, 0.6)
        spot = desk.spot.beside(rng.normal(0, 0.1), y, yaw=math.pi + rng.normal(0, 0.35))
        room.place(chair, spot)


def _dine(rng: Generator, room: Layout) -> None:
    """A table with chairs around it, which are alike."""
    table = make(rng, "dining table", "dining table", "round table")
    if not (room.anywhere(table) or room.against_wall(table)):
        return
    room.put_on(table, *SMALL, count=pick(rng, range(4)))
    seat, (x, y, _) = make(rng, *("dining chair",) * 5, "office chair"), table.extent()[1]
    for side, long, yaw in (
        (-0.5, -1, math.pi), (0.5, -1, math.pi), (-0.5, 1, 0), (0.5, 1, 0),
        (-1, 0, math.pi / 2), (1, 0, -math.pi / 2),
    ):  # fmt: skip
        if rng.random() < 0.75:
            away, yaw = rng.uniform(0.08, 0.3), yaw + rng.normal(0, 0.12)
            room.place(seat, table.spot.beside(side * (x + away), long * (y + away), yaw=yaw))


def _watch(rng: Generator, room: Layout) -> None:
    """A television, on the wall or on a piece of furniture."""
    if rng.random() < 0.3:
        room.against_wall(make(rng, "wall tv"), rng.uniform(0.9, 1.3), gap=0.04, seen=0.9)
        return
    bench = room.against_wall(make(rng, "tv bench", "tv bench", "dresser"), seen=0.9)
    room.put_on(bench, "flat tv")
    room.put_on(bench, "appliance")


def _cook(rng: Generator, room: Layout) -> None:
    """A run of kitchen cabinets at the wall, with others over it."""
    run = room.against_wall(make(rng, "counter"), gap=0.022)
    room.put_on(run, *SMALL, "appliance", "appliance", count=pick(rng, range(6)))
    if run and rng.random() < 0.7:
        cabinet = make(rng, "wall cabinet")
        y = run.extent()[1][1] - cabinet.extent()[1][1]
        room.place(cabinet, run.spot.beside(rng.normal(0, 0.1), y, rng.uniform(1.38, 1.5)))


def _shelves(rng: Generator, room: Layout) -> None:
    """Two bookshelves, back to back."""
    first, second = make(rng, "bookshelf"), make(rng, "bookshelf")
    if room.anywhere(first):
        distance = first.extent()[1][1] + second.extent()[1][1] + 0.01
        room.place(second, first.spot.beside(0.0, distance, yaw=math.pi))


def _fill_up(rng: Generator, room: Layout) -> None:
    """Add furniture of any kind until a part of the floor in view, drawn at random, is taken."""
    target = rng.uniform(0.2, 0.75)
    for _ in range(10):
        if room.taken() >= target:
            return
        model = make(rng, *FILLING)
        if model.extent()[1][2] > 1.3 or rng.random() < 0.75:
            placed = room.against_wall(model, seen=1.0)
        else:
            placed = room.anywhere(model)
        room.put_on(placed, *SMALL, "appliance", count=rng.binomial(4, 0.3))


def _litter(rng: Generator, room: Layout) -> None:
    names = "carton", "carton", "bag", "trash can", "dining chair", "office chair", "rug", "rug"
    room.anywhere(make(rng, *names), aligned=False, seen=0.85)


def _hang(rng: Generator, room: Layout) -> None:
    names = *("picture",) * 6, "wall shelf", "wall shelf", "mirror"
    room.against_wall(make(rng, *names), rng.uniform(1.1, 1.6), gap=0.005)


# kind of room: how often, and how many of what: 1.4 is one, and in 40 % of the rooms another.
KINDS = {
    "bedroom": (0.24, {_sleep: 1, "wardrobe": 0.6, "dresser": 0.6, "bookshelf": 0.25, _work: 0.35,
        "tub chair": 0.3}),
    "living room": (0.22, {_sit: 1, _watch: 0.8, "sofa": 0.35, "tub chair": 0.5, "bookshelf": 0.45,
        "dresser": 0.4, "wardrobe": 0.15}),
    "office": (0.17, {_work: 2, _dine: 0.3, "bookshelf": 1.1, "filing cabinet": 0.6,
        "wardrobe": 0.35, "tub chair": 0.2, "carton": 0.5}),
    "kitchen": (0.14, {_cook: 3.3, "fridge": 0.75, "stove": 0.6, "wardrobe": 0.25, _dine: 0.4,
        "stool": 1}),
    "dining room": (0.1, {_dine: 1, "dresser": 0.7, "bookshelf": 0.3, "wardrobe": 0.3,
        "sofa": 0.4}),
    "bathroom": (0.07, {"bathtub": 0.7, "toilet": 0.9, "washbasin": 0.9, "wardrobe": 0.3,
        "carton": 1}),
    "store": (0.06, {_shelves: 3.5, "bookshelf": 0.6, "wardrobe": 0.6, "counter": 0.6,
        "filing cabinet": 0.6, "carton": 2.5}),
}  # fmt: skip
EVERYWHERE = {
    _fill_up: 1, _watch: 0.25, "floor lamp": 0.3, "plant": 0.35, "heater": 0.3,
    "dresser": 0.2, "trash can": 0.45, "carton": 0.9, "bag": 0.3, _litter: 1.6, _hang: 2,
}  # fmt: skip
# What fills rooms up; what is named twice is twice as likely.
FILLING = (
    *("wardrobe",) * 4, *("dresser", "sofa") * 3, *("bookshelf", "counter", "dining table") * 2,
    "single bed", "double bed", "desk", "filing cabinet", "tub chair", "fridge", "carton",
    "office chair",
)  # fmt: skip


def make_layout(rng: Generator) -> Layout:
    """Draw a whole room."""
    room = Layout(rng)
    room.add_openings()
    chances = np.cumsum([often for often, _ in KINDS.values()])
    kind = list(KINDS)[int(np.searchsorted(chances, rng.random() * chances[-1]))]
    for name, often in (*KINDS[kind][1].items(), *EVERYWHERE.items()):
        for _ in range(int(often + rng.random())):
            if callable(name):
                name(rng, room)
            else:
                placed = room.against_wall(make(rng, name))
                room.put_on(placed, *SMALL, "appliance", count=rng.binomial(4, 0.3))
    return room
