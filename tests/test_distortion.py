"""Lens distortion, against cameras that project points by the published formulas."""

import numpy as np
import pytest

from datasets.frames.distortion import Lens, lens, undistort
from errors import InputError

K = np.array([[300, 0, 161], [0, 310, 118], [0, 0, 1]], float)
SHAPE = (240, 320)
STRONG = (0.5, -2.3, 0.0006, -0.0001, 1.27)  # of a RealSense, as its driver states it


def distorted(x, y, lens):
    """Where the formulas of Brown and Conrady, or of Kannala and Brandt, put a point."""
    r2 = x * x + y * y
    if lens.fisheye:
        a, b, c, d = lens.coefficients
        t = np.arctan(np.sqrt(r2))
        bent = t * (1 + a * t**2 + b * t**4 + c * t**6 + d * t**8)
        scale = np.divide(bent, np.sqrt(r2), where=r2 > 0, out=np.ones_like(r2))
        return x * scale, y * scale
    k1, k2, p1, p2, k3, k4, k5, k6 = (*lens.coefficients, 0, 0, 0, 0)[:8]
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


@pytest.mark.parametrize(
    "stated",
    [
        Lens(False, STRONG),
        Lens(False, (0.1, -0.05, 0.01, -0.02)),
        Lens(False, (0.5, -0.3, 0.001, 0.002, 0.1, 0.7, -0.2, 0.1)),
        Lens(True, (-0.05, 0.02, -0.01, 0.003)),
    ],
)
def test_a_pixel_shows_what_lies_on_its_ray(stated):
    """The distorted image holds its own positions; each undistorted pixel must name its source."""
    v, u = np.indices(SHAPE)
    rgb = np.stack([u * 0.75, v, u * 0 + 200], axis=-1).round().astype(np.uint8)
    depth = (1 + u + 1000 * v).astype(np.float32)
    image, seen = undistort(rgb, depth, K, stated)
    x, y = distorted((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], stated)
    column, row = x * K[0, 0] + K[0, 2], y * K[1, 1] + K[1, 2]
    inside = (column > 1) & (column < 318) & (row > 1) & (row < 238) & (seen > 0)
    assert inside.mean() > 0.5
    found_row, found_column = np.divmod(seen[inside] - 1, 1000)
    assert np.abs(found_column - column[inside]).max() < 0.51
    assert np.abs(found_row - row[inside]).max() < 0.51
    assert np.abs(image[..., 0] - 0.75 * column)[inside].max() < 1.6
    assert np.abs(image[..., 1] - row)[inside].max() < 1.6
    assert set(np.unique(seen)) <= {0, *np.unique(depth)}  # never interpolated
    assert np.hypot(column - u, row - v)[inside].max() > 2  # the test can fail


def test_a_curve_that_turns_back_shows_nothing_twice():
    """r - 4 r^3 has its maximum at r = 0.289; beyond, the image would be mirrored."""
    v, u = np.indices(SHAPE)
    depth = np.ones(SHAPE, np.float32)
    wide = K.copy()
    wide[[0, 1], [0, 1]] = 500
    _, seen = undistort(np.zeros((*SHAPE, 3), np.uint8), depth, wide, Lens(False, (-4, 0, 0, 0)))
    r = np.hypot((u - wide[0, 2]) / 500, (v - wide[1, 2]) / 500)
    assert (seen[r > 0.29] == 0).all() and (seen[r < 0.28] == 1).all()
    with pytest.raises(InputError, match="another model"):
        undistort(
            np.zeros((*SHAPE, 3), np.uint8), depth, K / [[3], [3], [1]], Lens(False, (-4,) * 4)
        )


def test_names_of_lenses():
    for name in ("plumb_bob", "distortion.brown_conrady", "Brown Conrady", "radtan", None, 4):
        assert lens(name, STRONG, "f") == Lens(False, STRONG)
    assert not lens("rational_polynomial", STRONG, "f").fisheye
    for name in ("equidistant", "fisheye", "Kannala Brandt4", 5):
        assert lens(name, [0.1, 0.2, 0.3, 0.4, 0], "f") == Lens(True, (0.1, 0.2, 0.3, 0.4))
    for name in ("Inverse Brown Conrady", "Modified Brown-Conrady", 1, 2, "ftheta", "none", "fov"):
        assert lens(name, [0, 0, 0, 0, 0], "f") is None
        with pytest.raises(InputError, match="camera.json.*not supported"):
            lens(name, STRONG, "camera.json")
    for name, numbers in (("plumb_bob", [1, 2]), ("fisheye", [1, 2, 3, 4, 5]), (None, [np.nan])):
        with pytest.raises(InputError, match="camera.json"):
            lens(name, numbers, "camera.json")
