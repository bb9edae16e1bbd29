"""Joint augmentation of an image and of the map from its pixels to voxels.

Only the image plane is augmented: the volumes stay as they are, so whatever moves a pixel moves its
voxel index too. The steps, in order: resize, crop, flip, photometric distortion, normalise, pad.
Drawing and applying are apart: `draw` says what happens to a sample, `apply` makes it happen.
"""

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


def draw(rng):
    """Draw an augmentation with the NumPy generator `rng`; each step is taken half of the time."""

    def sometimes(sample, *limits):
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


def apply(image, mapping2d, draws, photometric):
    """Augment an image together with its pixel-to-voxel map.

    image: (480, 640, 3) uint8, BGR. mapping2d: (480, 640) int32, -1 where a pixel has no voxel.
    photometric: "standard" distorts the colours of the uint8 image, as the distortion was designed;
    "original" hands them over as float32, as the original code does. OpenCV's float HSV has
    saturation in 0..1 and hue in 0..360, so that saturation becomes 0 or 1 and hue wraps at 180.

    Returns the normalised RGB image (3, 480, 640) float32 and mapping2d (480, 640) int32. A smaller
    image lies at the top left; the rest is 0 (the mean colour) and -1. Enlarging repeats voxel
    indices, shrinking loses some.
    """
    # Without these steps every value stays an integer, and both flavours are the same.
    needs_float = not (draws.resize_ratio is draws.saturation is draws.hue is None)
    if photometric == "original" and needs_float:
        image = image.astype(np.float32)

    if draws.resize_ratio is not None:
        height, width = _resized_shape(draws.resize_ratio)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        mapping2d = cv2.resize(mapping2d, (width, height), interpolation=cv2.INTER_NEAREST)
    top, left = draws.crop
    window = np.s_[top : top + IMAGE_SIZE[0], left : left + IMAGE_SIZE[1]]
    image, mapping2d = image[window], mapping2d[window]
    if draws.flip:
        image, mapping2d = cv2.flip(image, 1), cv2.flip(mapping2d, 1)

    image = normalize(_distort_colours(image, draws))
    height, width = mapping2d.shape
    if (height, width) == IMAGE_SIZE:
        return image, np.ascontiguousarray(mapping2d)
    padded_image = np.zeros((3, *IMAGE_SIZE), np.float32)
    padded_image[:, :height, :width] = image
    padded_mapping2d = np.full(IMAGE_SIZE, NO_VOXEL, np.int32)
    padded_mapping2d[:height, :width] = mapping2d
    return padded_image, padded_mapping2d


def normalize(image):
    """ImageNet-normalise (H, W, 3) BGR, uint8 or float32 in 0..255 -> (3, H, W) float32 RGB."""
    rgb = image.transpose(2, 0, 1)[::-1]
    out = np.empty(rgb.shape, np.float32)
    for channel in range(3):
        values = np.arange(256) if image.dtype == np.uint8 else rgb[channel]
        # Subtracted in float32, scaled in float64, rounded once: bit-equal to the original.
        centred = values.astype(np.float32) - _MEAN[channel]
        scaled = (centred * _INVERSE_STD[channel]).astype(np.float32)
        if image.dtype == np.uint8:
            np.take(scaled, rgb[channel], out=out[channel], mode="clip")
        else:
            out[channel] = scaled
    return out


def _resized_shape(ratio):
    """Height and width after scaling by `ratio`, with the original's two roundings."""
    if ratio is None:
        return IMAGE_SIZE
    height, width = (int(n * ratio) for n in IMAGE_SIZE)
    factor = min(width / IMAGE_SIZE[1], height / IMAGE_SIZE[0])
    return tuple(int(n * factor + 0.5) for n in IMAGE_SIZE)


def _distort_colours(image, draws):
    """Brightness, contrast, saturation and hue of a BGR image, uint8 or float32 in 0..255."""
    if draws.brightness is not None:
        image = _scale(image, shift=draws.brightness)
    if draws.contrast is not None and draws.contrast_first:
        image = _scale(image, factor=draws.contrast)
    if draws.saturation is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = _scale(hsv[..., 1], factor=draws.saturation)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if draws.hue is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        turned = ((np.arange(361) + draws.hue) % 180).astype(hsv.dtype)
        hsv[..., 0] = np.take(turned, hsv[..., 0].astype(np.uint16), mode="clip")
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if draws.contrast is not None and not draws.contrast_first:
        image = _scale(image, factor=draws.contrast)
    return image


def _scale(values, factor=1.0, shift=0.0):
    """values * factor + shift, clipped to 0..255 and cut off to uint8."""
    if values.dtype == np.uint8:
        table = _scale(np.arange(256, dtype=np.float32), factor, shift)
        return np.take(table, values, mode="clip")
    scaled = values * np.float32(factor) + np.float32(shift)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
