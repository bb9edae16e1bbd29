"""Furniture as data: which maker makes it (makers.py), of which class, with which numbers.

A pair of whole numbers or of metres is the range of what is drawn, a list is what is chosen from,
and names of families are a material (parts.py).
"""

from types import SimpleNamespace

from numpy.random import Generator

from datasets.rooms import makers
from datasets.rooms.parts import FAMILIES, Model, paint, pick

# What the furniture of a maker has in common.
_CHAIR = dict(frame="wood paint dark metal", bars=0, back=(0.35, 0.6), arms=0.25, turn=(0.0, 1.0))
_SOFA = dict(cushion="fabric colour", top=(0.72, 0.95), chaise=0, pillow=None)
_BED = dict(
    frame="wood dark paint fabric", sheet="fabric paint", blanket="fabric colour",
    pillow="fabric paint colour", length=(1.95, 2.1), base=(0.2, 0.35), thick=(0.23, 0.3),
    bare=(0.5, 0.8), headboard=(0.85, 1.25),
)  # fmt: skip
_TABLE = dict(wood="wood wood dark paint metal", shape="box", depth=0, height=(0.71, 0.77), shelf=0)
_CABINET = dict(
    body="wood wood paint dark", handle="metal dark wood", front="wood paint colour dark",
    contrast=0.3, columns=1, column=(0.42, 0.58), rows=1, rim=0.016, top=None, sink=0,
    steel="metal enamel",
)  # fmt: skip
_LAMP = dict(stem="metal colour wood dark", shade="paint fabric shade shade")
_PLANT = dict(pot="colour wood paint dark", stem="wood", leaf="leaf", leaves=(3, 5))
_SOLID = dict(shape="box", depth=0, foot=0, front=None, rim=0.06, count=1)
_SCREEN = dict(_SOLID, skin="dark dark metal", front="glass glass lit", depth=0.06)
_PICTURE = dict(_SOLID, skin="wood dark metal paint", depth=0.03, height=(0.3, 0.9))

FURNITURE = {
    "dining chair": (makers.chair, "chair", dict(_CHAIR, seat="fabric wood paint dark",
        legs=["box", "box", "cylinder"], bars=[0, 2, 3], width=(0.4, 0.48), depth=(0.4, 0.5),
        height=(0.43, 0.48), thick=0.05)),
    "office chair": (makers.chair, "chair", dict(_CHAIR, frame="dark metal",
        seat="fabric dark dark colour", legs="star", arms=0.7, width=(0.46, 0.54),
        depth=(0.46, 0.52), height=(0.44, 0.54), thick=0.09)),
    "stool": (makers.table, "chair", dict(_TABLE, wood="wood fabric colour metal", shape="cylinder",
        stand=["legs", "pedestal"], width=(0.32, 0.42), height=(0.42, 0.75))),
    "tub chair": (makers.sofa, "chair", dict(_SOFA, cover="fabric dark colour", seats=1,
        seat_width=(0.48, 0.55), depth=(0.7, 0.8), seat=(0.38, 0.45), arm=(0.1, 0.16))),
    "sofa": (makers.sofa, "sofa", dict(_SOFA, cover="fabric fabric dark colour wood", seats=(2, 3),
        seat_width=(0.55, 0.7), depth=(0.82, 0.98), seat=(0.38, 0.46), arm=(0.12, 0.24),
        chaise=[0, 0, (0.5, 0.8)], pillow=["fabric colour paper", "fabric colour", None])),
    "single bed": (makers.bed, "bed", dict(_BED, width=(0.9, 1.25), pillows=1)),
    "double bed": (makers.bed, "bed", dict(_BED, width=(1.4, 1.85), pillows=2)),
    "dining table": (makers.table, "table", dict(_TABLE, stand=["legs", "legs", "panels"],
        width=(1.1, 1.9), depth=(0.75, 1.0))),
    "round table": (makers.table, "table", dict(_TABLE, shape="cylinder", stand="pedestal",
        width=(0.9, 1.3))),
    "coffee table": (makers.table, "table", dict(_TABLE, stand=["legs", "legs", "panels"],
        width=(0.8, 1.2), depth=(0.45, 0.65), height=(0.36, 0.48), shelf=0.6)),
    "side table": (makers.table, "side table", dict(_TABLE, shape=["box", "cylinder"],
        stand=["legs", "pedestal"], width=(0.4, 0.6), height=(0.45, 0.65))),
    "desk": (makers.table, "desk", dict(_TABLE, stand="drawers", handle="metal dark",
        width=(1.1, 1.8), depth=(0.6, 0.8))),
    "wardrobe": (makers.cabinet, "cabinet", dict(_CABINET, columns=(2, 4), row=(1.73, 2.23),
        depth=(0.5, 0.65))),
    "dresser": (makers.cabinet, "cabinet", dict(_CABINET, columns=(1, 3), rows=(2, 4),
        row=(0.21, 0.27), depth=(0.42, 0.52))),
    "filing cabinet": (makers.cabinet, "cabinet", dict(_CABINET, body="metal paint dark wood",
        rows=(2, 4), row=0.33, depth=(0.5, 0.65))),
    "night stand": (makers.cabinet, "night stand", dict(_CABINET, rows=(1, 3), row=(0.16, 0.25),
        depth=(0.34, 0.46))),
    "tv bench": (makers.cabinet, "cabinet", dict(_CABINET, columns=3, row=(0.33, 0.58),
        depth=(0.4, 0.5))),
    "counter": (makers.cabinet, "kitchen cabinet", dict(_CABINET, columns=(2, 5), row=0.79,
        depth=0.6, top="tiles dark paint wood", sink=0.5)),
    "wall cabinet": (makers.cabinet, "kitchen cabinet", dict(_CABINET, columns=(1, 4),
        row=(0.43, 0.73), depth=0.34)),
    "washbasin": (makers.cabinet, "cabinet", dict(_CABINET, columns=2, column=(0.3, 0.5), row=0.71,
        depth=0.48, top="enamel tiles", sink=1)),
    "fridge": (makers.cabinet, "kitchen appliance", dict(_CABINET, body="paint metal paint dark",
        contrast=0, column=(0.6, 0.8), rows=2, row=(0.66, 0.89), depth=(0.6, 0.7))),
    "stove": (makers.cabinet, "kitchen appliance", dict(_CABINET, body="paint metal dark",
        front="glass", contrast=1, column=0.6, row=0.79, depth=0.6, top="glass")),
    "bookshelf": (makers.shelf, "bookshelf", dict(wood="wood wood paint dark metal",
        width=(0.7, 1.3), depth=(0.26, 0.36), height=(1.1, 2.1))),
    "wall shelf": (makers.shelf, "bookshelf", dict(wood="wood paint dark", width=(0.6, 1.2),
        depth=(0.18, 0.28), height=(0.34, 0.45))),
    "bathtub": (makers.bathtub, "bathtub", dict(enamel="enamel enamel tiles", width=(1.5, 1.75),
        depth=(0.7, 0.8), height=(0.5, 0.6))),
    "toilet": (makers.toilet, "toilet", dict(enamel="enamel", tank=(0.38, 0.5))),
    "flat tv": (makers.solid, "tv", dict(_SCREEN, width=(0.75, 1.25), height=(0.45, 0.7),
        foot=0.07)),
    "wall tv": (makers.solid, "tv", dict(_SCREEN, width=(0.8, 1.35), height=(0.45, 0.75))),
    "monitor": (makers.solid, "computer", dict(_SCREEN, width=(0.4, 0.6), height=(0.25, 0.38),
        foot=0.12)),
    "keyboard": (makers.solid, "computer", dict(_SOLID, skin="dark paint metal", width=(0.34, 0.45),
        depth=(0.14, 0.25), height=0.025)),
    "floor lamp": (makers.lamp, "lamp", dict(_LAMP, height=(1.4, 1.75), width=(0.28, 0.44),
        shade_height=0.25, foot=0.28, foot_height=0.05)),
    "table lamp": (makers.lamp, "lamp", dict(_LAMP, height=(0.4, 0.6), width=(0.2, 0.34),
        shade_height=0.2, foot=(0.1, 0.18), foot_height=(0.18, 0.25))),
    "plant": (makers.plant, "plant", dict(_PLANT, height=(0.7, 1.5))),
    "small plant": (makers.plant, "plant", dict(_PLANT, height=(0.25, 0.45))),
    "trash can": (makers.solid, "trash can", dict(_SOLID, shape=["box", "cylinder"],
        skin="dark metal colour paint", width=(0.24, 0.38), height=(0.28, 0.6))),
    "carton": (makers.solid, "other", dict(_SOLID, skin="wood paper paint", width=(0.25, 0.6),
        depth=(0.25, 0.5), height=(0.15, 0.4), count=[1, 1, 2])),
    "books": (makers.solid, "other", dict(_SOLID, skin="paper", width=(0.16, 0.26),
        depth=(0.2, 0.33), height=(0.02, 0.05), count=(1, 4))),
    "bag": (makers.solid, "other", dict(_SOLID, shape="ellipsoid", skin="fabric dark colour",
        width=(0.3, 0.5), depth=(0.2, 0.3), height=(0.3, 0.5))),
    "vase": (makers.solid, "other", dict(_SOLID, shape=["cylinder", "ellipsoid"],
        skin="colour paint dark metal", width=(0.08, 0.2), height=(0.12, 0.35))),
    "heater": (makers.solid, "household appliance", dict(_SOLID, skin="paint metal dark",
        width=(0.4, 1.1), depth=0.16, height=(0.45, 0.7))),
    "appliance": (makers.solid, "household appliance", dict(_SOLID, skin="dark metal paint",
        width=(0.2, 0.5), depth=(0.18, 0.36), height=(0.15, 0.35), front="glass")),
    "picture": (makers.solid, "other", dict(_PICTURE, front="paper paper leaf", width=(0.3, 1.0))),
    "mirror": (makers.solid, "mirror", dict(_PICTURE, front="mirror", width=(0.3, 0.8))),
    "rug": (makers.solid, "floor", dict(_SOLID, skin="fabric fabric colour paper", width=(0.8, 2.0),
        depth=(0.8, 1.6), height=0.0015)),
    "window": (makers.window, "window", dict(_CABINET, body="paint paint wood dark",
        front="daylight", contrast=1, columns=(1, 3), column=(0.5, 0.8), row=(0.75, 1.3), rim=0.08,
        depth=0.06, cloth="fabric paint colour", curtain=(0.2, 0.45), drop=[0.1, 0.1, 0.75])),
    "door": (makers.cabinet, "door", dict(_CABINET, body="paint wood wood colour",
        column=(0.8, 0.95), row=(1.95, 2.03), rim=0.1, depth=0.06)),
}  # fmt: skip


def make(rng: Generator, *names: str) -> Model:
    """One of the pieces of furniture named."""
    maker, name, numbers = FURNITURE[pick(rng, names)]
    model = Model(name)
    drawn = {key: _draw(rng, value) for key, value in numbers.items()}
    maker(model, SimpleNamespace(rng=rng, **drawn))
    return model


def _draw(rng: Generator, value: object) -> object:
    if isinstance(value, list):
        value = pick(rng, value)
    if isinstance(value, str) and FAMILIES.keys() >= set(value.split()):
        return paint(rng, value)
    if isinstance(value, tuple):
        low, high = value
        return int(rng.integers(low, high + 1)) if isinstance(low, int) else rng.uniform(low, high)
    return value
