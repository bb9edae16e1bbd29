"""A completed scene without a network: its classes, and what its camera knew, are given."""

from types import SimpleNamespace

import numpy as np
import torch

from constants import GRID, NO_PIXEL, NUM_CLASSES
from datasets.frames.frame import PreparedFrame
from datasets.voxels import known_labels
from utils.completion import CompletedScene

ORIGIN = np.float32([-2.4, 1.04, -0.05])  # whole voxels from (0, 0, -0.05)


def hand_made_scene(classes, tsdf=-1.0, measured=None, world_pose=None, name="scene"):
    """A scene of classes (60, 36, 60) that the network is sure of; the camera is at (0, 0, 1.2).

    tsdf: a number or (60, 36, 60); measured: (60, 36, 60) bool, nothing by default.
    """
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3], pose[2, 3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]], 1.2
    prediction = classes.astype(np.uint8)
    tsdf = np.broadcast_to(np.float32(tsdf), GRID).copy()
    measured = np.zeros(GRID, bool) if measured is None else measured
    view = SimpleNamespace(image=np.full((480, 640, 3), 90, np.uint8), depth=None)
    frame = PreparedFrame(
        {"tsdf": torch.from_numpy(tsdf)[None, None]}, view, np.where(measured, 7, NO_PIXEL),
        measured, pose, ORIGIN, None,
    )  # fmt: skip
    return CompletedScene(
        name=name,
        labels=known_labels(*map(torch.from_numpy, (prediction, tsdf, measured))).numpy(),
        prediction=prediction,
        probabilities=np.moveaxis(np.eye(NUM_CLASSES, dtype=np.float16)[classes], -1, 0),
        origin=ORIGIN,
        pose=pose,
        frame=frame,
        world_pose=pose.astype(np.float64) if world_pose is None else world_pose,
    )


def moved(x=0.0, y=0.0, yaw=0.0):
    """A rigid motion in the plane of the floor: metres, degrees to the left."""
    cosine, sine = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    motion = np.eye(4)
    motion[:2, :2], motion[:2, 3] = [[cosine, -sine], [sine, cosine]], (x, y)
    return motion
