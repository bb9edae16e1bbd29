"""A generated room in raw SSCNet form, and where the real one lies, for the tests of raw data."""

from pathlib import Path

import numpy as np
import pytest

from datasets.geometry import grid_origin
from datasets.raycast import raycast_labels

SHARED = Path(__file__).resolve().parents[2] / "shared"
NYU = SHARED / "nyu" / "NYU"
REAL_BIN = SHARED / "raw" / "NYU0003" / "NYU0003_0000.bin"
REAL_DEPTH = REAL_BIN.with_suffix(".png")
needs_real_data = pytest.mark.skipif(not REAL_BIN.exists(), reason="needs ../shared")

# raw class -> class, where the test needs both
FLOOR, WALL, DOOR, TABLE, BED, TV = 2, 3, 5, 9, 7, 33


def camera_pose(yaw=0.0, pitch=0.0, height=1.2):
    """Pose of a camera without roll; degrees, yaw to the left, pitch downwards."""
    yaw, pitch = np.radians(yaw), np.radians(pitch)
    forward = [-np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)]
    right = [np.cos(yaw), np.sin(yaw), 0]
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[2, 3] = height
    return pose.astype(np.float32)


def room():
    """A room on the 8 cm grid, (60, 36, 60), in raw classes: 0, 255 and some of 1..36."""
    labels = np.zeros((60, 36, 60), np.uint8)
    labels[:, :, 52:] = 255
    labels[:, 0] = FLOOR
    labels[:, :30, 50:52] = WALL
    labels[:3, :30, 5:50] = DOOR
    labels[20:30, 8:10, 20:30] = TABLE
    labels[38:54, 1:7, 22:44] = BED
    labels[24:27, 10:14, 24:25] = TV
    return labels


ROOM_CLASSES = {0: 0, 255: 255, FLOOR: 2, WALL: 3, DOOR: 11, TABLE: 8, BED: 6, TV: 9}


def fine(labels):
    """8 cm labels -> the same at 2 cm."""
    return labels.repeat(4, axis=0).repeat(4, axis=1).repeat(4, axis=2)


def room_frame(K, pose):
    """Depth of the room, (480, 640) float32, in whole millimetres as an image would hold it."""
    depth = raycast_labels(room(), K, pose, grid_origin(pose))
    return np.ceil(depth * 1000).astype(np.float32) / 1000
