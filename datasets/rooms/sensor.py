"""What a Kinect measures of a perfect depth image (structured light, as in NYUv2).

The projector's pattern is matched along image rows: the sensor knows a disparity f * b / z, in
steps of an eighth of a pixel, so that errors in depth grow with z squared (Khoshelham and Oude
Elberink, "Accuracy and Resolution of Kinect Depth Data", Sensors 2012). Two kinds of noise come
out, as the paper calls them: "zero noise", pixels without depth, and "delta noise", pixels with a
wrong one.
"""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter, minimum_filter

FOCAL_BASELINE = 580 * 0.075  # pixel metres
DISPARITY_STEP = 1 / 8  # pixels
RANGE = (0.5, 6.5)  # metres; farther and nearer, nothing is measured
_SIGMA = 0.08  # pixels: random error of the disparity
_DRIFT = 0.5  # pixels: smooth error of the disparity, from calibration and the lens
_JITTER = 1.2  # pixels: how far an edge in the depth image is from where it should be
_MIRROR_GLOSS = 0.8  # from here on, a pattern may come back from behind: glass, mirrors
_SHADOW_TOLERANCE = 0.75  # pixels
_WEAK = 0.011  # signal below which the pattern is lost
_FILL = 4.0  # pixels: holes are filled up to this distance, as in the published depth of NYUv2
_BORDER = 8  # pixels without depth around the image


def kinect_depth(
    depth: np.ndarray, slope: np.ndarray, albedo: np.ndarray, gloss: np.ndarray, rng: Generator
) -> np.ndarray:
    """Depth as measured: (H, W) float64 metres, in whole millimetres, 0 where nothing is.

    depth: (H, W) metres along z, 0 = nothing there; slope: cosine between ray and normal, 0..1;
    albedo and gloss: 0..1, of the surface. rng decides all errors.
    """
    depth = np.asarray(depth, dtype=np.float64)
    lost = _unmeasured(depth, slope, albedo, gloss, rng)
    # Where glass and mirrors send a pattern back, it is that of something farther away.
    behind = (gloss > _MIRROR_GLOSS) & (_smooth_noise(rng, depth.shape, 25.0) > 0)
    lost &= ~behind
    seen = _shift(np.where(behind, depth * rng.uniform(1.1, 1.8), depth), rng)
    with np.errstate(divide="ignore"):
        disparity = FOCAL_BASELINE / seen
    disparity += _smooth_noise(rng, depth.shape, 1.5) * _SIGMA
    disparity += _smooth_noise(rng, depth.shape, 60.0) * _DRIFT
    disparity = np.rint(disparity / DISPARITY_STEP) * DISPARITY_STEP
    measured = FOCAL_BASELINE / np.maximum(disparity, 1.0)
    lost |= (seen == 0) | (measured < RANGE[0]) | (measured > RANGE[1])
    distance, nearest = distance_transform_edt(lost, return_indices=True)
    known = np.zeros(depth.shape, dtype=bool)
    inner = (slice(_BORDER, -_BORDER),) * 2
    known[inner] = (distance[inner] <= _FILL) & ~lost.all()
    return np.where(known, np.rint(measured[tuple(nearest)] * 1000) / 1000, 0.0)


def in_shadow(depth: np.ndarray) -> np.ndarray:
    """Pixels that the projector, to the camera's right, does not reach: (H, W) bool.

    depth: (H, W) metres, 0 = nothing there.
    """
    with np.errstate(divide="ignore"):
        disparity = np.where(depth > 0, FOCAL_BASELINE / depth, 0.0)
    # Column of each point as seen from the projector. It has to ascend along the row; where it
    # falls back, something to the right is in front.
    column = np.arange(depth.shape[1]) - disparity
    nearer = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    return nearer < column - _SHADOW_TOLERANCE


def _unmeasured(
    depth: np.ndarray, slope: np.ndarray, albedo: np.ndarray, gloss: np.ndarray, rng: Generator
) -> np.ndarray:
    """Zero noise: shadow, lost signal (dark, glossy, steep, far surfaces) and blurred edges."""
    uneven = np.exp(0.5 * _smooth_noise(rng, depth.shape, 12.0))
    with np.errstate(divide="ignore"):
        signal = (0.12 + albedo) * slope * (1 - 0.9 * gloss) / np.maximum(depth, 0.1) ** 2
    jump = maximum_filter(depth, 3) - minimum_filter(depth, 3)
    edge = (jump > 0.06 * depth) & (rng.random(depth.shape) < 0.6)
    return in_shadow(depth) | (signal * uneven < _WEAK) | (slope < 0.06) | edge


def _shift(depth: np.ndarray, rng: Generator) -> np.ndarray:
    """Delta noise: each pixel takes the depth of a neighbour, so that edges fray."""
    rows, columns = depth.shape
    moves = [
        np.rint(_smooth_noise(rng, depth.shape, 1.0) * _JITTER).astype(np.int64) for _ in range(2)
    ]
    v = np.clip(np.arange(rows)[:, None] + moves[0], 0, rows - 1)
    u = np.clip(np.arange(columns) + moves[1], 0, columns - 1)
    return depth[v, u]


def _smooth_noise(rng: Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Normal noise of unit variance, correlated over sigma pixels."""
    # Wide noise is drawn on a coarse lattice; blurring noise at full size would take long.
    step = max(int(sigma / 3), 1)
    noise = rng.standard_normal([-(-n // step) + 8 for n in shape])
    noise = gaussian_filter(noise, sigma / step, mode="wrap")
    noise /= noise.std()
    if step == 1:
        return noise[: shape[0], : shape[1]]
    for size in shape:  # linear interpolation along either axis
        whole, part = np.divmod(np.arange(size), step)
        noise = noise[whole].T * (1 - part / step) + noise[whole + 1].T * (part / step)
    return np.ascontiguousarray(noise)
