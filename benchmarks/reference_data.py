"""The plain formulations of what is done to data: oracles, and what is timed against.

Beside each is a generated input, for which no data set is needed.
"""

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from constants import FINE_GRID, GRID, IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, NO_VOXEL, NUM_VOXELS
from datasets.geometry import NYU_INTRINSICS, Frame, grid_origin
from datasets.raycast import raycast_labels
from datasets.transforms import Draws


def plain_augmentation(
    image: np.ndarray, mapping2d: np.ndarray, draws: Draws, photometric: str
) -> tuple[np.ndarray, np.ndarray]:
    """What transforms.apply computes, step by step on whole arrays, as the specification says it.

    image: (480, 640, 3) uint8 RGB; mapping2d: (480, 640) int64. Returns (3, 480, 640) float32 RGB
    and (480, 640) int64.
    """
    if photometric == "original":
        image = image.astype(np.float32)
    mapping2d = mapping2d.astype(np.int32)  # OpenCV has no int64
    if draws.resize_ratio is not None:
        scale = [int(n * draws.resize_ratio) for n in (640, 480)]
        factor = min(max(scale) / 640, min(scale) / 480)
        size = int(640 * factor + 0.5), int(480 * factor + 0.5)
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        mapping2d = cv2.resize(mapping2d, size, interpolation=cv2.INTER_NEAREST)
    top, left = draws.crop
    image = image[top : top + 480, left : left + 640]
    mapping2d = mapping2d[top : top + 480, left : left + 640]
    if draws.flip:
        image, mapping2d = cv2.flip(image, 1), cv2.flip(mapping2d, 1)

    if draws.brightness is not None:
        image = _convert(image, shift=draws.brightness)
    if draws.contrast is not None and draws.contrast_first:
        image = _convert(image, factor=draws.contrast)
    if draws.saturation is not None:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image[:, :, 1] = _convert(image[:, :, 1], factor=draws.saturation)
        image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    if draws.hue is not None:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image[:, :, 0] = (image[:, :, 0].astype(int) + draws.hue) % 180
        image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    if draws.contrast is not None and not draws.contrast_first:
        image = _convert(image, factor=draws.contrast)

    # Subtracted in float32, multiplied in float64, rounded once.
    centred = image.astype(np.float32) - np.float32(IMAGE_MEAN)
    image = (centred * (1 / np.float64(np.float32(IMAGE_STD)))).astype(np.float32)
    bottom, right = 480 - image.shape[0], 640 - image.shape[1]
    edges = 0, bottom, 0, right, cv2.BORDER_CONSTANT
    image = cv2.copyMakeBorder(image, *edges, value=0)
    mapping2d = cv2.copyMakeBorder(mapping2d, *edges, value=NO_VOXEL)
    return np.ascontiguousarray(image.transpose(2, 0, 1)), mapping2d.astype(np.int64)


def _convert(values: np.ndarray, factor: float = 1, shift: float = 0) -> np.ndarray:
    return np.clip(values.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)


def generated_image() -> tuple[np.ndarray, np.ndarray]:
    """An image with smooth and sharp parts, and a map of 3000 pixels to voxels of their own."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8)
    image = cv2.resize(noise[::16, ::16], IMAGE_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image[:240] = noise[:240]
    mapping2d = np.full(IMAGE_SIZE, NO_VOXEL, np.int32)
    pixels = rng.choice(mapping2d.size, 3000, replace=False)
    mapping2d.flat[pixels] = rng.choice(NUM_VOXELS, 3000, replace=False)
    return image, mapping2d


def plain_tsdf(frame: Frame) -> np.ndarray:
    """What tsdf.frame_tsdf computes, by its definition, over the whole grid at once.

    Returns (60, 36, 60) in [-1, 1].
    """
    free = np.ones(FINE_GRID, dtype=bool)
    free[tuple(frame.pixel_voxels[1].T)] = False
    distance = distance_transform_edt(free)

    index = np.indices(FINE_GRID, dtype=np.float32)
    corner = np.stack([index[0], index[2], index[1]], axis=-1) * np.float32(0.02) + frame.origin
    x, y, z = np.moveaxis((corner - frame.pose[:3, 3]) @ frame.pose[:3, :3], -1, 0)
    z = np.where(z > 0, z, np.float32(np.inf))
    u = np.floor(frame.K[0, 0] * x / z + frame.K[0, 2] + 0.5)
    v = np.floor(frame.K[1, 1] * y / z + frame.K[1, 2] + 0.5)
    inside = np.isfinite(z) & (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
    measured = np.zeros(FINE_GRID, dtype=np.float32)
    measured[inside] = frame.depth[v[inside].astype(int), u[inside].astype(int)]
    known = (measured >= 0.5) & (measured <= 8)
    sign = np.where(measured - z > -1e-4, 1, -1) * known
    fine = sign * np.minimum(distance / 12, 1)
    a, b, c = GRID
    return fine.reshape(a, 4, b, 4, c, 4).mean(axis=(1, 3, 5))


def generated_frame() -> Frame:
    """A room with a table, seen from a camera that looks 15 degrees down."""
    pose = np.eye(4, dtype=np.float32)
    sine, cosine = np.sin(np.radians(15)), np.cos(np.radians(15))
    pose[:3, :3] = [[1, 0, 0], [0, -sine, cosine], [0, -cosine, -sine]]
    pose[2, 3] = 1.3
    labels = np.zeros(GRID, dtype=np.uint8)
    labels[:, 0], labels[:, :32, 50:], labels[20:34, 1:9, 20:32] = 2, 3, 8
    camera = NYU_INTRINSICS, pose, grid_origin(pose)
    return Frame(raycast_labels(labels, *camera), *camera)
