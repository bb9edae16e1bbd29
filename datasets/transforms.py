"""Joint augmentation of an image and of the map from its pixels to voxels.

Only the image plane is augmented: the volumes stay as they are, so whatever moves a pixel moves its
voxel index too. The steps, in order: resize, crop, flip, photometric distortion, normalise, pad.
Drawing and applying are apart: `draw` says what happens to a sample, `apply` makes it happen.
"""

import math
import threading
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
# Kept from sample to sample: the page faults of megabytes that are got and given back each time
# take longer than what is done in them. Per thread, because samples may be read in threads.
_memory = threading.local()


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
    # them: elsewhere the two flavours are the same.
    scaled = draws.brightness is not None or (draws.contrast is not None and draws.contrast_first)
    in_hsv = draws.saturation is not None or draws.hue is not None
    if photometric == "original" and (draws.resize_ratio is not None or (in_hsv and not scaled)):
        floats = _scratch("image", image.shape, np.float32)
        np.copyto(floats, image)
        image = floats

    shape = _resized_shape(draws.resize_ratio)
    if draws.resize_ratio is not None:
        resized = _scratch("resized", (*shape, 3), image.dtype)
        image = cv2.resize(image, shape[::-1], resized, interpolation=cv2.INTER_LINEAR)
    # The pixel of mapping2d that each row and column of the result takes: cv2.INTER_NEAREST, but
    # of the crop alone.
    (from_row, rows), (from_column, columns) = (
        (_nearest(old, new)[start : start + old], np.s_[start : start + old])
        for old, new, start in zip(IMAGE_SIZE, shape, draws.crop, strict=True)
    )
    image = image[rows, columns]
    # Before the colours: OpenCV rounds the last pixels of a row differently from the others.
    if draws.flip:
        image = cv2.flip(image, 1, _scratch("flipped", image.shape, image.dtype))
        from_column = from_column[::-1]
    height, width = image.shape[:2]
    augmented_mapping2d = np.full(IMAGE_SIZE, NO_VOXEL, np.int32)
    augmented_mapping2d[:height, :width] = mapping2d[from_row].take(from_column, axis=1)

    image, greys = _distort_colours(image, draws)
    normalized = np.empty((3, *IMAGE_SIZE), np.float32)
    normalized[:, height:] = normalized[:, :, width:] = 0
    _normalize_into(normalized[:, :height, :width], image, greys)
    return normalized, augmented_mapping2d


def _nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` positions the nearest of `old` ones, as cv2.resize rounds it."""
    return np.floor(np.arange(new) * (1 / (new / old))).astype(np.intp)


def normalize(image: np.ndarray) -> np.ndarray:
    """ImageNet-normalise RGB (H, W, 3), uint8 or float32 in 0..255 -> (3, H, W) float32."""
    out = np.empty((3, *image.shape[:2]), np.float32)
    _normalize_into(out, image, _GREYS)
    return out


def _normalize_into(out: np.ndarray, image: np.ndarray, greys: np.ndarray) -> None:
    """Normalise an RGB image into planes `out`; greys: what a uint8 image's values become."""
    for channel, plane in enumerate(out):
        # Subtracted in float32, scaled in float64, rounded once: bit-equal to the original.
        if image.dtype == np.uint8:
            table = (greys.astype(np.float32) - _MEAN[channel]) * _INVERSE_STD[channel]
            values = _scratch("plane", plane.shape, np.uint8)
            cv2.LUT(cv2.extractChannel(image, channel, values), table.astype(np.float32), plane)
        else:
            cv2.extractChannel(image, channel, plane)
            plane -= _MEAN[channel]
            np.multiply(plane, _INVERSE_STD[channel], out=plane, casting="same_kind")


def _scratch(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of arbitrary content, in this thread's memory of that name."""
    kept, key, size = vars(_memory), (name, np.dtype(dtype)), math.prod(shape)
    if key not in kept or kept[key].size < size:
        kept[key] = np.empty(size, dtype)
    return kept[key][:size].reshape(shape)


def _resized_shape(ratio: float | None) -> tuple[int, int]:
    """Height and width after scaling by `ratio`, with the original's two roundings."""
    if ratio is None:
        return IMAGE_SIZE
    height, width = (int(n * ratio) for n in IMAGE_SIZE)
    factor = min(width / IMAGE_SIZE[1], height / IMAGE_SIZE[0])
    return tuple(int(n * factor + 0.5) for n in IMAGE_SIZE)


def _distort_colours(image: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Brightness, contrast, saturation and hue of an RGB image, uint8 or float32 in 0..255.

    Returns the image, and (256,) uint8: what its values have yet to become if it is uint8. A
    float32 image is overwritten.
    """
    greys = _GREYS
    in_hsv = draws.saturation is not None or draws.hue is not None
    if draws.brightness is not None:
        image, greys = _scale(image, greys, shift=draws.brightness)
    if draws.contrast is not None and draws.contrast_first:
        image, greys = _scale(image, greys, factor=draws.contrast)
    if in_hsv and greys is not _GREYS:
        image, greys = cv2.LUT(image, greys, _scratch("rgb", image.shape, np.uint8)), _GREYS
    if draws.saturation is not None:
        image = _change_channel(image, 1, _saturate, draws.saturation)
    if draws.hue is not None:
        image = _change_channel(image, 0, _turn, draws.hue)
    if draws.contrast is not None and not draws.contrast_first:
        image, greys = _scale(image, greys, factor=draws.contrast)
    return image, greys


def _change_channel(image: np.ndarray, channel: int, change: Callable, amount: float) -> np.ndarray:
    """`change` a channel of an RGB image in HSV."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV, _scratch("hsv", image.shape, image.dtype))
    plane = cv2.extractChannel(hsv, channel, _scratch("plane", image.shape[:2], image.dtype))
    hsv[..., channel] = change(plane, amount)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, _scratch("rgb", image.shape, image.dtype))


def _saturate(saturation: np.ndarray, factor: float) -> np.ndarray:
    saturation, table = _scale(saturation, _GREYS, factor=factor)
    return saturation if table is _GREYS else cv2.LUT(saturation, table)


def _turn(hue: np.ndarray, degrees: int) -> np.ndarray:
    """Whole degrees, turned and wrapped at 180."""
    if hue.dtype == np.uint8:
        return cv2.LUT(hue, ((_GREYS.astype(int) + degrees) % 180).astype(np.uint8))
    np.floor(hue, out=hue)
    hue += degrees
    turns = np.add(hue, 0.5, out=_scratch("turns", hue.shape, np.float32))
    turns /= 180
    np.floor(turns, out=turns)
    turns *= 180
    hue -= turns
    return hue


def _scale(
    image: np.ndarray, greys: np.ndarray, factor: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Values * factor + shift, clipped to 0..255 and cut off to uint8.

    A uint8 image stays as it is; the scaling goes into `greys`, what its values become.
    """
    if image.dtype == np.uint8:
        table = greys * np.float32(factor) + np.float32(shift)
        return image, np.clip(table, 0, 255).astype(np.uint8)
    if factor != 1:
        image *= np.float32(factor)
    if shift != 0:
        image += np.float32(shift)
    np.clip(image, 0, 255, out=image)
    scaled = _scratch("rgb" if image.ndim == 3 else "plane", image.shape, np.uint8)
    np.copyto(scaled, image, casting="unsafe")
    return scaled, greys
