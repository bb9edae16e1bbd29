"""Depth images of any unit in metres, with a check against the usual mistakes.

A depth image does not say its unit. What is measured indoors does: the median lies between 0.4 and
8 m, and something is further than 1 m. A unit that contradicts this is refused, with the units that
would fit, which are often several; so are colour images, pictures of depth, and raw disparity.
Where a floor is seen, the units that put a camera at a usual height above it come first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from errors import InputError

UNITS = {
    "m": "metres",
    "mm": "millimetres",
    "tum": "TUM's unit, 1/5000 m",
    "sscnet": "millimetres rotated left by 3 bits, as SSCNet and SUN RGB-D write them",
}
_PER_METRE = {"m": 1, "mm": 1000, "tum": 5000}
# What else is in use, to be given as a number.
_NUMBERS = {
    "6553.5": "1/6553.5 m, Replica's",
    "10000": "1/10000 m",
    "256": "1/256 m",
    "100": "centimetres",
}
HEIGHT_RANGE = (0.4, 2.5)  # metres of the camera above the floor; NYUv2: 0.9 to 1.6
USUAL_HEIGHT = 1.3  # in hand, on a tripod
FAR_PLANE = 20  # metres; what is 5 times beyond all else too is where a renderer ends
INVALID = 65535  # besides 0: what some tools write where nothing was measured
MIN_MEASURED = 0.02  # of the pixels


class ImplausibleHeight(InputError):
    """A floor is seen where no camera would be above it; height: metres between the two."""

    def __init__(self, message: str, height: float = np.nan) -> None:
        super().__init__(message)
        self.height = height


class Depth(NamedTuple):
    metres: np.ndarray  # (H, W) float32, 0 = not measured
    belief: str  # what was taken for what, for the user


def to_metres(
    raw: np.ndarray,
    unit: str | None = None,
    name: str | Path = "depth",
    find_height: Callable[[np.ndarray], float | None] | None = None,
) -> Depth:
    """Depth in metres, of whatever unit.

    raw: (H, W) numbers; 0, 65535, NaN and infinity are not measured, nor is a far plane: a largest
    value beyond FAR_PLANE and 5 times beyond all else, such as 65.535 or 1000 m.
    unit: a key of UNITS, or the number of units in a metre (1000 for mm). None: metres for floats,
    millimetres for integers, refused too where the numbers speak for another unit that fits.
    find_height: the camera's height above the floor that a depth in metres shows, or None, by which
    the units that would fit are ranked.
    Raises InputError for depths that no room has, saying which unit would fit.
    """
    raw = np.asarray(raw)
    if raw.ndim != 2 or raw.dtype.kind not in "uif":
        raise InputError(f"{name}: depth must be (height, width) numbers, not {raw.shape}")
    explicit = unit is not None
    unit = unit if explicit else "m" if raw.dtype.kind == "f" else "mm"
    unit = next((key for key, n in _PER_METRE.items() if unit == str(n)), unit)
    measured = np.isfinite(raw) & (raw != 0) & (raw != INVALID)
    measured &= ~_far_plane(raw, measured, unit, name)
    values = raw[measured]
    _check_values(values, raw.size, name)

    metres = _convert(values, unit, name)
    unit_name = UNITS.get(unit, f"1/{unit} m")
    others = [u for u in UNITS if u != unit and _plausible(_convert(values, u, name))]
    if not _plausible(metres):
        others += [u for u in _NUMBERS if u != unit and _plausible(_convert(values, u, name))]
        raise InputError(
            f"{name}: taken as {unit_name}, the median would be {np.median(metres):.3g} m: no "
            f"room; {_fitting(raw, measured, others, find_height)}, or --depth-unit NUMBER "
            "(units in a metre)"
        )
    grain = _grain(values)
    if not explicit and grain in others:
        raise InputError(
            f"{name}: taken as {unit_name}, but the numbers look like {UNITS[grain]}: say "
            f"--depth-unit {grain}, or --depth-unit {unit} if that is right; --depth-unit NUMBER "
            "(units in a metre) for any other"
        )
    depth = np.zeros(raw.shape, np.float32)
    depth[measured] = metres
    low, median, high = np.percentile(metres, [2, 50, 98])
    belief = (
        f"{name}: {'numbers' if raw.dtype.kind == 'f' else 'whole numbers'} taken as {unit_name}: "
        f"median {median:.2f} m, mostly {low:.2f} to {high:.2f} m, "
        f"{1 - values.size / raw.size:.0%} not measured"
    )
    if grain in others:
        belief += f"; but the numbers look like {UNITS[grain]}"
    return Depth(depth, belief)


def _fitting(
    raw: np.ndarray,
    measured: np.ndarray,
    units: list[str],
    find_height: Callable[[np.ndarray], float | None] | None,
) -> str:
    """The part of a message that says which units would fit, the likelier ones first."""
    found = []
    for unit in units:
        depth = np.zeros(raw.shape, np.float32)
        depth[measured] = _convert(raw[measured], unit, "depth")
        height = None if find_height is None else find_height(depth)
        what = f"{(UNITS | _NUMBERS)[unit]}: median {np.median(depth[measured]):.2g} m"
        if height is not None:
            hardly = "" if HEIGHT_RANGE[0] <= height <= HEIGHT_RANGE[1] else ": hardly"
            what += f", camera {height:.2f} m above the floor{hardly}"
        # Without a floor nothing is known, which is better than a height that no camera has.
        rank = 1.0 if height is None else abs(np.log(height / USUAL_HEIGHT))
        found.append((rank, f"--depth-unit {unit} ({what})"))
    fitting = ", ".join(text for _, text in sorted(found, key=lambda pair: pair[0]))
    seen = any("above the floor" in text for _, text in found)
    return (
        f"{fitting or 'no known unit'} would fit{', the likelier height first' if seen else ''}, "
        "but the depth alone cannot say which is right: look up the camera's, and give it"
    )


def advice_on_height(height: float, depth: np.ndarray, raw: np.ndarray) -> str:
    """What to do about a camera that is too near to the floor, or too far from it, for a message.

    height: metres, by a depth in metres (H, W) that was made of the numbers raw (H, W). It names
    the units in which the height would be a usual one, the likelier first.
    """
    measured = depth > 0
    values, usual = raw[measured], {}
    for unit in (*UNITS, *_NUMBERS):
        metres = _convert(values, unit, "depth")
        high = height * float(np.median(metres) / np.median(depth[measured]))
        if _plausible(metres) and 0.8 <= high <= 2 and not np.isclose(high, height):
            usual[unit] = high
    likely = sorted(usual, key=lambda unit: abs(np.log(usual[unit] / USUAL_HEIGHT)))
    words = [f"--depth-unit {unit} ({usual[unit]:.2f} m)" for unit in likely]
    words.append("--depth-unit NUMBER (units in a metre)")
    made = " (with the height that it would make)" * bool(likely)
    return f"if the depth is in another unit, give it{made}: {', '.join(words)}"


def _far_plane(raw: np.ndarray, measured: np.ndarray, unit: str, name: str | Path) -> np.ndarray:
    """Which pixels hold a renderer's far plane, (H, W) bool."""
    values = raw[measured]
    if not values.size:
        return np.zeros(raw.shape, bool)
    far = values.max()
    nearer = values[values < far].max(initial=0)
    # Nothing nearer is the same depth everywhere, and keeps its own message.
    if nearer <= 0 or far < 5 * float(nearer) or _convert(far[None], unit, name)[0] < FAR_PLANE:
        return np.zeros(raw.shape, bool)
    return raw == far


def _check_values(values: np.ndarray, size: int, name: str | Path) -> None:
    if values.size < MIN_MEASURED * size or not values.size:
        raise InputError(
            f"{name}: {values.size} of {size} pixels are measured (not 0, {INVALID} or NaN): is it "
            "the depth of this frame?"
        )
    if values.min() < 0:
        raise InputError(f"{name}: negative depths; 0 or NaN is for not measured")
    if values.min() == values.max():
        raise InputError(f"{name}: the same depth everywhere: not a measurement")
    # 2047 is no measurement, and 1084 the last with a depth.
    kinect_none = values == 2047
    if kinect_none.any() and values[~kinect_none].max(initial=0) <= 1100:
        raise InputError(
            f"{name}: Kinect's raw disparity (11 bits, 2047 for none), not depth: convert it to "
            "millimetres first"
        )


def _convert(values: np.ndarray, unit: str, name: str | Path) -> np.ndarray:
    if unit == "sscnet":
        if values.dtype.kind == "f" or values.max() > 65535:
            return np.zeros(1)
        values = values.astype(np.uint16)
        return ((values >> 3) | (values << 13)).astype(np.float32) / np.float32(1000)
    try:
        per_metre = float(_PER_METRE.get(unit, unit))
    except ValueError:
        per_metre = 0
    if not 0 < per_metre < 1e9:
        raise InputError(
            f"{name}: depth unit {unit}: use {', '.join(UNITS)}, or the number of units in a metre"
        )
    # Divided in single precision as SSCNet's are: it decides the voxel of points on a boundary.
    return values.astype(np.float32) / np.float32(per_metre)


def _plausible(metres: np.ndarray) -> bool:
    return 0.4 <= np.median(metres) <= 8 and np.percentile(metres, 98) >= 1


def _grain(values: np.ndarray) -> str | None:
    """The unit that the numbers' common divisor speaks for, or None."""
    for unit, divisor in (("sscnet", 8), ("tum", 5)):
        if values.dtype.kind != "f" and np.mean(values % divisor == 0) > 0.995:
            return unit
    return None
