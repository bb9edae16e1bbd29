"""Joint augmentation of an image and of the map from its pixels to voxels.

Only the image plane is augmented: the volumes stay as they are, so whatever moves a pixel moves its
voxel index too. The steps, in order: resize, crop, flip, photometric distortion, normalise, pad.
Drawing and applying are apart: `draw` says what happens to a sample, `apply` makes it happen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from constants import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, NO_VOXEL

PHOTOMETRIC = ("original", "standard")

RESIZE_RATIO = (0.8, 1.2)
BRIGHTNESS = (-32.0, 32.0)  # added
CONTRAST = (0.5, 1.5)  # multiplied
SATURATION = (0.5, 1.5)  # multiplied
HUE = (-18, 18)  # added, in OpenCV's half degrees; the upper end is excluded

_GREYS = np.arange(256, dtype=np.uint8)
_MEAN = np.float32(IMAGE_MEAN)
_INVERSE_STD = 1.0 / np.float64(np.float32(IMAGE_STD))


@dataclass(frozen=True)
class Draws:
    """What is done to one sample; None leaves a step out."""

    resize_ratio: float | None = None  # 0.8..1.2
    crop: tuple[int, int] = (0, 0)  # top row and left column of the crop in the resized image
    flip: bool = False
    brightness: float | None = None
    contrast: float | None = None
    contrast_first: bool = False  # contrast before saturation and hue, or after them
    saturation: float | None = None
    hue: int | None = None


def draw(rng: np.random.Generator) -> Draws:
    """Draw an augmentation with the NumPy generator `rng`; each step is taken half of the time."""

    def sometimes(sample: Callable, *limits: float) -> float | None:
        return sample(*limits) if rng.random() < 0.5 else None

    ratio = sometimes(rng.uniform, *RESIZE_RATIO)
    margins = np.maximum(np.subtract(_resized_shape(ratio), IMAGE_SIZE), 0)
    hue = sometimes(rng.integers, *HUE)
    return Draws(
        resize_ratio=ratio,
        crop=(int(rng.integers(margins[0] + 1)), int(rng.integers(margins[1] + 1))),
        flip=bool(rng.random() < 0.5),
        brightness=sometimes(rng.uniform, *BRIGHTNESS),
        contrast=sometimes(rng.uniform, *CONTRAST),
        contrast_first=bool(rng.random() < 0.5),
        saturation=sometimes(rng.uniform, *SATURATION),
        hue=None if hue is None else int(hue),
    )


def apply(
    image: np.ndarray, mapping2d: np.ndarray, draws: Draws, photometric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Augment an image together with its pixel-to-voxel map.

    image: (480, 640, 3) uint8, RGB. mapping2d: (480, 640) int32, -1 where a pixel has no voxel.
    photometric: "standard" distorts the colours of the uint8 image, as the distortion was designed;
    "original" hands them over as float32, as the original code does. OpenCV's float HSV has
    saturation in 0..1 and hue in 0..360, so that saturation becomes 0 or 1 and hue wraps at 180.

    Returns the normalised RGB image (3, 480, 640) float32 and mapping2d (480, 640) int32. A smaller
    image lies at the top left; the rest is 0 (the mean colour) and -1. Enlarging repeats voxel
    indices, shrinking loses some.
    """
    # Values are integers but for a resize or for HSV, and uint8 once brightness or contrast changed
    # them: elsewhere the two flavours are the same, and uint8 is faster.
    scaled = draws.brightness is not None or (draws.contrast is not None and draws.contrast_first)
    in_hsv = draws.saturation is not None or draws.hue is not None
    if photometric == "original" and (draws.resize_ratio is not None or (in_hsv and not scaled)):
        image = image.astype(np.float32)

    shape = _resized_shape(draws.resize_ratio)
    if draws.resize_ratio is not None:
        image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    top, left = draws.crop
    image = image[top : top + IMAGE_SIZE[0], left : left + IMAGE_SIZE[1]]
    height, width = image.shape[:2]
    # The pixel of mapping2d that each row and column takes: cv2.INTER_NEAREST, of the crop alone.
    rows = _nearest(IMAGE_SIZE[0], shape[0])[top : top + height]
    columns = _nearest(IMAGE_SIZE[1], shape[1])[left : left + width]
    # Before the colours: OpenCV rounds the last pixels of a row differently from the others.
    if draws.flip:
        image, columns = cv2.flip(image, 1), columns[::-1]
    padded_mapping2d = np.full(IMAGE_SIZE, NO_VOXEL, np.int32)
    padded_mapping2d[:height, :width] = mapping2d[rows].take(columns, axis=1)

    image = _distort_colours(image, draws)
    padded_image = np.zeros((3, *IMAGE_SIZE), np.float32)
    normalize(image, padded_image[:, :height, :width])
    return padded_image, padded_mapping2d


def _resized_shape(ratio: float | None) -> tuple[int, int]:
    """Height and width after scaling by `ratio`, with the original's two roundings."""
    if ratio is None:
        return IMAGE_SIZE
    factor = min(int(n * ratio) / n for n in IMAGE_SIZE)
    return tuple(int(n * factor + 0.5) for n in IMAGE_SIZE)


def _nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` positions the nearest of `old` ones, as cv2.resize rounds it."""
    return np.floor(np.arange(new) * (1 / (new / old))).astype(np.intp)


def normalize(image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """ImageNet-normalise RGB (H, W, 3), uint8 or float32 in 0..255 -> (3, H, W) float32."""
    out = np.empty((3, *image.shape[:2]), np.float32) if out is None else out
    for channel, plane in enumerate(out):
        # Subtracted in float32, scaled in float64, rounded once: bit-equal to the original.
        if image.dtype == np.uint8:
            table = (_GREYS.astype(np.float32) - _MEAN[channel]) * _INVERSE_STD[channel]
            cv2.LUT(cv2.extractChannel(image, channel), table.astype(np.float32), plane)
        else:
            cv2.extractChannel(image, channel, plane)
            plane -= _MEAN[channel]
            np.multiply(plane, _INVERSE_STD[channel], out=plane, casting="same_kind")
    return out


def _distort_colours(image: np.ndarray, draws: Draws) -> np.ndarray:
    """Brightness, contrast, saturation and hue of an RGB image, uint8 or float32 in 0..255."""
    if draws.brightness is not None:
        image = _scale(image, shift=draws.brightness)
    if draws.contrast is not None and draws.contrast_first:
        image = _scale(image, factor=draws.contrast)
    if draws.saturation is not None:
        image = _change_in_hsv(image, 1, _scale, draws.saturation)
    if draws.hue is not None:
        image = _change_in_hsv(image, 0, _turn, draws.hue)
    if draws.contrast is not None and not draws.contrast_first:
        image = _scale(image, factor=draws.contrast)
    return image


def _change_in_hsv(image: np.ndarray, channel: int, change: Callable, amount: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., channel] = change(cv2.extractChannel(hsv, channel), amount)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _scale(values: np.ndarray, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Values * factor + shift, clipped to 0..255 and cut off to uint8; floats are overwritten."""
    if values.dtype == np.uint8:
        return cv2.LUT(values, _scale(_GREYS.astype(np.float32), factor, shift))
    values *= np.float32(factor)
    values += np.float32(shift)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _turn(hue: np.ndarray, degrees: int) -> np.ndarray:
    """Whole degrees, turned and wrapped at 180."""
    if hue.dtype == np.uint8:
        return cv2.LUT(hue, ((_GREYS.astype(int) + degrees) % 180).astype(np.uint8))
    hue = np.floor(hue) + np.float32(degrees)
    return hue - 180 * np.floor((hue + np.float32(0.5)) / 180)  # ten times as fast as hue % 180
