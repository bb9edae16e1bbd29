"""Frames that are not upright: image, depth, intrinsics and pose turned by quarters.

A turn is the degrees, clockwise, by which images are to be turned to be upright: 0, 90, 180 or 270.
"""

from pathlib import Path

import numpy as np

from datasets.frames.cameras import same_proportions
from errors import InputError

TURNS = (0, 90, 180, 270)


def check_turn(turn: int) -> int:
    """Return a turn as an int; InputError unless it is one of TURNS."""
    if turn not in TURNS:
        raise InputError(f"rotate {turn}: use one of {', '.join(map(str, TURNS))} (degrees)")
    return int(turn)


def turn_image(image: np.ndarray, turn: int) -> np.ndarray:
    """An image or depth (H, W, ...) turned clockwise."""
    return np.ascontiguousarray(np.rot90(image, -turn // 90))


def turn_intrinsics(K: np.ndarray, shape: tuple[int, int], turn: int) -> np.ndarray:
    """(3, 3) of the images after a turn; shape: rows and columns before it."""
    (fx, _, cx), (_, fy, cy), _ = K
    for _ in range(turn // 90):  # pixel (u, v) becomes (rows - 1 - v, u)
        fx, fy, cx, cy = fy, fx, shape[0] - 1 - cy, cx
        shape = shape[::-1]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.asarray(K).dtype)


def turn_directions(vectors: np.ndarray, turn: int) -> np.ndarray:
    """Vectors (..., 3) in the camera's frame in that of the camera whose images are turned."""
    x, y, z = np.moveaxis(np.asarray(vectors), -1, 0)
    for _ in range(turn // 90):
        x, y = -y, x
    return np.stack([x, y, z], axis=-1)


def turn_pose(pose: np.ndarray, turn: int) -> np.ndarray:
    """A pose (4, 4), camera to world, of the camera whose images are turned."""
    pose = np.array(pose)
    pose[:, :3] = turn_directions(pose[:, :3], turn)  # a row: a world axis in the camera's frame
    return pose


def as_exif_says(
    rgb: np.ndarray, exif: int, shape: tuple[int, int], name: str | Path
) -> tuple[np.ndarray, int, list[str]]:
    """A colour image that fits its depth, the turn of both that EXIF speaks for, and lines on it.

    exif: of the image; shape: of the depth. Where the stored pixels have the proportions of the
    depth, both lie as the sensor does. Where only the turned ones have, the depth is upright.
    """
    if exif and same_proportions(rgb.shape[:2], shape):
        line = f"{name}: EXIF says to turn it by {exif} degrees, and so the depth: else --rotate 0"
        return rgb, exif, [line]
    if exif in (90, 270) and same_proportions(rgb.shape[1::-1], shape):
        line = f"{name}: turned by {exif} degrees as EXIF says, to fit the depth"
        return turn_image(rgb, exif), 0, [line]
    return rgb, 0, []
