"""Lens distortion: which lens a file states, and images without it.

Names and orders are OpenCV's, which ROS and most tools share. Only models whose formula is certain
are undone. "Inverse" and "modified" Brown-Conrady of RealSense are other formulas than
Brown-Conrady: refused, unless all their coefficients are zero, as they mostly are.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from constants import IMAGE_MEAN
from errors import InputError

# As files name them, in small letters without anything else.
_BROWN = {"plumbbob", "radtan", "radialtangential", "brownconrady", "opencv", "brown", "pinhole"}
_BROWN |= {"rationalpolynomial", "rational", "fullopencv", "perspective", "simpleradial", "radial"}
_FISHEYE = {"fisheye", "equidistant", "equi", "opencvfisheye", "kannalabrandt", "kannalabrandt4"}
_FISHEYE |= {"kannalabrandt8"}  # ORB-SLAM counts the intrinsics too
_REALSENSE = ("none", "modifiedbrownconrady", "inversebrownconrady", "ftheta", "brownconrady")
_REALSENSE += ("kannalabrandt4",)  # by the numbers of its enumeration
MIN_SEEN = 0.5  # of the pixels without distortion that the lens has seen


class Lens(NamedTuple):
    fisheye: bool  # OpenCV's fisheye model, else k1 k2 p1 p2 [k3 [k4 k5 k6]]
    coefficients: tuple[float, ...]


def lens(model: str | int | None, numbers: Sequence[float], name: str | Path) -> Lens | None:
    """The lens that a file states, None for one without distortion.

    model: as the file names it, None where it does not. Raises InputError for unsupported models.
    """
    values = np.asarray(numbers, np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: distortion coefficients are not finite")
    if not values.any():
        return None
    if isinstance(model, int) and 0 <= model < len(_REALSENSE):
        model = _REALSENSE[model]
    said = re.sub("[^a-z0-9]", "", str(model or "brown").lower().removeprefix("distortion"))
    if said in _FISHEYE and len(values) >= 4 and not values[4:].any():
        return Lens(True, tuple(values[:4]))
    if said in _BROWN and len(values) in (4, 5, 8, 12, 14):
        return Lens(False, tuple(values))
    raise InputError(
        f"{name}: lens distortion {model} with {len(values)} coefficients is not supported: "
        "undistort image and depth first, and give their intrinsics without distortion"
    )


def undistort(
    rgb: np.ndarray, depth: np.ndarray, K: np.ndarray, lens: Lens
) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth as a lens without distortion takes them, with the same K and size.

    rgb: (H, W, 3) uint8, bilinear, the mean colour where nothing was seen; depth: (H, W), the
    nearest pixel, 0 where nothing was seen. Depth along the optical axis stays what it is.
    """
    height, width = depth.shape
    K, numbers = np.asarray(K, np.float64), np.array(lens.coefficients)
    family = cv2.fisheye if lens.fisheye else cv2
    u, v = family.initUndistortRectifyMap(K, numbers, np.eye(3), K, (width, height), cv2.CV_32FC1)
    beyond = _radius(K, (height, width)) > _largest_radius(lens)
    u[beyond] = v[beyond] = -10
    seen = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    if seen.mean() < MIN_SEEN:
        raise InputError(
            f"lens distortion: only {seen.mean():.0%} of the view would have been seen: are these "
            "the coefficients of another model, or another camera's?"
        )
    mean = tuple(round(c) for c in IMAGE_MEAN)
    rgb = cv2.remap(rgb, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=mean)
    rows, columns = (np.where(seen, np.rint(axis), 0).astype(int) for axis in (v, u))
    return rgb, np.where(seen, depth[rows, columns], 0).astype(depth.dtype)


def _radius(K: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    v, u = np.indices(shape)
    return np.hypot((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])


def _largest_radius(lens: Lens) -> float:
    """Where the model's curve turns back, and would show parts of the image a second time."""
    r = np.linspace(0, 3, 3001)
    if lens.fisheye:
        angle = np.arctan(r)
        powers = angle[:, None] ** [2, 4, 6, 8]
        bent = angle * (1 + powers @ lens.coefficients)
    else:
        k1, k2, _, _, k3, k4, k5, k6 = np.resize([*lens.coefficients, *[0.0] * 8], 8)
        s = r**2
        with np.errstate(all="ignore"):
            bent = r * (1 + k1 * s + k2 * s**2 + k3 * s**3) / (1 + k4 * s + k5 * s**2 + k6 * s**3)
    turned = ~(np.diff(bent) > 0)
    return float(r[np.argmax(turned)]) if turned.any() else np.inf
