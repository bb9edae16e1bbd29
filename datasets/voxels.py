"""Raw SSCNet files; labels, Mapping and label_weight of them; axes as in datasets/geometry.py."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from constants import (
    FINE_FACTOR,
    FINE_GRID,
    GRID,
    IGNORE_INDEX,
    IMAGE_SIZE,
    NO_PIXEL,
    NUM_CLASSES,
    NUM_PIXELS,
    NUM_VOXELS,
)
from datasets.files import read_bytes, read_depth_image
from datasets.geometry import Frame, check_pose
from errors import InputError

# SSCNet's 36 object classes and empty, by raw value; the order is that of its ClassMapping.mat.
RAW_TO_CLASS = np.full(256, -1, dtype=np.int16)
RAW_TO_CLASS[:37] = [
    0, 1, 2, 3, 4, 11, 5, 6, 7, 8, 8, 10, 10, 10, 11, 11, 9, 8, 11,
    11, 11, 11, 11, 11, 11, 11, 11, 10, 10, 11, 8, 10, 11, 9, 11, 11, 11,
]  # fmt: skip
RAW_TO_CLASS[255] = IGNORE_INDEX

_HEADER_BYTES = 4 * (3 + 16)
_NUM_FINE = math.prod(FINE_GRID)


class RawScene(NamedTuple):
    """A .bin file: what is in the room, and from where it was seen."""

    labels: np.ndarray  # (240, 144, 240) uint8: 0 empty, 1..36 raw classes, 255 outside the room
    pose: np.ndarray  # (4, 4) float32, camera to world
    origin: np.ndarray  # (3,) float32, world metres


def read_bin(path: str | Path) -> RawScene:
    """Read an SSCNet .bin: float32 origin (3), pose (4x4); uint32 pairs (value, run length).

    SSCNet's writer drops the last voxel of a volume that is constant, so a shortfall of one voxel
    is filled with the last value. Raises InputError for anything else that is not a scene.
    """
    data = read_bytes(path, _HEADER_BYTES + 8 * _NUM_FINE)  # at most one pair a voxel
    if len(data) < _HEADER_BYTES + 8:
        raise InputError(f"{path}: {len(data)} bytes are not the size of an SSCNet .bin file")
    if (len(data) - _HEADER_BYTES) % 8:
        raise InputError(f"{path}: truncated: the run-length code ends inside a pair")
    header = np.frombuffer(data, "<f4", count=19).astype(np.float32)
    values, runs = np.frombuffer(data, "<u4", offset=_HEADER_BYTES).reshape(-1, 2).T
    origin, pose = header[:3], check_pose(header[3:].reshape(4, 4), path)
    if not np.isfinite(origin).all():
        raise InputError(f"{path}: the grid origin is not finite")
    total = int(runs.sum(dtype=np.uint64))
    if total not in (_NUM_FINE, _NUM_FINE - 1):
        raise InputError(
            f"{path}: the run lengths add up to {total} voxels instead of {_NUM_FINE} "
            "(240x144x240): the file is damaged or of another grid"
        )
    unknown = values[(values > 36) & (values != 255)]
    if len(unknown):
        raise InputError(f"{path}: label values must be 0..36 or 255, found {unknown[0]}")
    labels = np.repeat(values.astype(np.uint8), runs)
    labels = np.pad(labels, (0, _NUM_FINE - total), mode="edge").reshape(FINE_GRID)
    return RawScene(labels, pose, origin)


def write_bin(path: str | Path, labels: np.ndarray, pose: np.ndarray, origin: np.ndarray) -> None:
    """Write an SSCNet .bin. labels: (240, 144, 240) uint8; pose: (4, 4); origin: (3,)."""
    flat = np.ascontiguousarray(labels, dtype=np.uint8).reshape(-1)
    if flat.size != _NUM_FINE:
        raise InputError(f"{path}: labels must be {FINE_GRID}, not {np.shape(labels)}")
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    runs = np.diff(starts, append=flat.size)
    with open(path, "wb") as file:
        np.asarray(origin, dtype="<f4").reshape(3).tofile(file)
        np.asarray(pose, dtype="<f4").reshape(4, 4).tofile(file)
        np.stack([flat[starts], runs], axis=1).astype("<u4").tofile(file)


def decode_depth(raw: np.ndarray, name: str | Path = "depth image") -> np.ndarray:
    """Metres from SSCNet's depth coding: millimetres, rotated right by three bits when read.

    raw: (H, W) uint16. Returns (H, W) float32, 0 = not measured. InputError if the numbers make
    sense only as plain millimetres.
    """
    mm = (raw >> 3) | (raw << 13)
    measured = mm[mm > 0]
    # Plain millimetres with random low bits come out mostly beyond 16 m; with low bits of zero,
    # eight times too near: no room ends within 1.25 m.
    median = np.median(measured) / 1000 if measured.size else 1
    farthest = measured.max() / 1000 if measured.size else 8
    if not 0.5 < median <= 16 or farthest < 1.25:
        raise InputError(
            f"{name}: the depths would be {median:.2f} m (median) and {farthest:.2f} m (farthest): "
            "this looks like plain millimetres, not SSCNet's coding (millimetres rotated left by "
            "3 bits); convert it with encode_depth(millimetres / 1000)"
        )
    return mm.astype(np.float32) / np.float32(1000)


def encode_depth(depth: np.ndarray) -> np.ndarray:
    """SSCNet's coding, (H, W) uint16, of depth in 0..65.535 metres, rounded to millimetres."""
    mm = np.rint(np.asarray(depth, dtype=np.float64) * 1000)
    if not np.all((mm >= 0) & (mm <= 65535)):
        raise InputError("depths to encode must be 0 (not measured) to 65.535, in metres")
    mm = mm.astype(np.uint16)
    return (mm << 3) | (mm >> 13)


def read_depth(path: str | Path) -> np.ndarray:
    """Depth of an SSCNet .png, 16-bit grey: (480, 640) float32 metres, 0 = not measured."""
    raw = read_depth_image(path, IMAGE_SIZE)
    if raw.dtype != np.uint16:
        raise InputError(f"{path}: depth must be a 16-bit grey PNG, not of {raw.dtype}")
    return decode_depth(raw, path)


def downsample_labels(labels: np.ndarray) -> np.ndarray:
    """Vote 2 cm raw labels into 8 cm classes.

    labels: (240, 144, 240) uint8, raw values 0..36 and 255, InputError for others.
    Returns (60, 36, 60) int32 in 0..11 and 255. In each 4x4x4 block: with at most 5 % objects
    (three voxels) the most frequent of empty, the classes and 255, else the most frequent class
    1..11; ties go to the smaller value, so empty wins over 255.
    """
    labels = np.asarray(labels)
    if labels.shape != FINE_GRID:
        raise InputError(f"labels must be {FINE_GRID}, not {labels.shape}")
    in_table = labels.min() >= 0 and labels.max() < len(RAW_TO_CLASS)
    if not in_table or (classes := RAW_TO_CLASS[labels]).min() < 0:
        raise InputError("label values must be 0..36 or 255")
    classes[classes == IGNORE_INDEX] = NUM_CLASSES  # votes last, counts fit an array of 13
    f = FINE_FACTOR
    blocks = classes.reshape(GRID[0], f, GRID[1], f, GRID[2], f).transpose(0, 2, 4, 1, 3, 5)
    blocks = blocks.reshape(-1, f**3)
    bins = blocks + np.arange(len(blocks))[:, None] * (NUM_CLASSES + 1)
    counts = np.bincount(bins.reshape(-1), minlength=len(blocks) * (NUM_CLASSES + 1))
    counts = counts.reshape(len(blocks), -1)

    nearly_empty = counts[:, 0] + counts[:, NUM_CLASSES] > 0.95 * f**3
    objects = counts[:, 1:NUM_CLASSES]
    votes = np.where(nearly_empty, counts.argmax(axis=1), 1 + objects.argmax(axis=1))
    votes[votes == NUM_CLASSES] = IGNORE_INDEX
    return votes.reshape(GRID).astype(np.int32)


def mapping_from_depth(
    depth: np.ndarray,
    K: np.ndarray,
    pose: np.ndarray,
    origin: np.ndarray,
    keep_unmeasured: bool = True,
) -> np.ndarray:
    """frame_mapping of these arguments of Frame, as (60, 36, 60) int64."""
    return frame_mapping(Frame(depth, K, pose, origin, keep_unmeasured)).numpy()


def frame_mapping(frame: Frame) -> Tensor:
    """The pixel that each 8 cm voxel takes its image feature from.

    Returns (60, 36, 60) int64 on the frame's device: the largest linear pixel index v * 640 + u
    whose point falls into the voxel, 307200 if none. A pixel is in at most one voxel. The depth
    must have 480x640 pixels.
    """
    if frame.depth.shape != IMAGE_SIZE:
        raise InputError(f"depth must be {IMAGE_SIZE}, not {frame.depth.shape}")
    pixels = torch.arange(NUM_PIXELS, device=frame.device)
    mapping = torch.full((NUM_VOXELS + 1,), -1, device=frame.device)  # the last: pixels without one
    mapping.scatter_reduce_(0, frame.coarse_voxels, pixels, "amax")
    return torch.where(mapping < 0, NO_PIXEL, mapping)[:NUM_VOXELS].view(GRID)


def known_labels(
    prediction: Tensor, tsdf: Tensor, measured: Tensor, in_view: Tensor | None = None
) -> Tensor:
    """The network's classes where it was taught any and the depth knows no better.

    All (..., 60, 36, 60): prediction: uint8 classes; tsdf: what the network was given; measured:
    bool, voxels with a measured point; in_view: bool, None for a network that was not taught what
    is where the depth says nothing (loss.free_space=0, as in the paper).
    A voxel without a measured point is empty (0) where the TSDF is positive, free; and unknown
    (255) outside the view or, without in_view, wherever the TSDF is 0: also where depth is missing.
    """
    labels = torch.where(measured | (tsdf <= 0), prediction, 0)
    known = measured | (tsdf != 0)
    if in_view is not None:
        known = known | in_view
    return torch.where(known, labels, IGNORE_INDEX)


def is_occupied(labels: np.ndarray) -> np.ndarray:
    """Voxels with an object: labels of any shape -> bool, True but for 0 (empty) and 255."""
    return (labels > 0) & (labels != IGNORE_INDEX)


def label_weight(labels: np.ndarray, tsdf: np.ndarray) -> np.ndarray:
    """Voxels that are trained on and scored: every object, and whatever the camera could not see.

    labels: (60, 36, 60) classes; tsdf: (60, 36, 60). Returns (60, 36, 60) bool. Voxels of label 255
    may be included; losses and metrics leave them out.
    """
    return is_occupied(labels) | (tsdf < -0.5)
