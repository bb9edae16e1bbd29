"""Frames with poses in one world, whose up direction is known: where its floor and its walls are.

A pose file says camera to world, but of any world: 7-Scenes' begins at a camera that looks down.
The world of the map is that of datasets/geometry.py: Z up, floor at z = 0, walls along its axes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from datasets.frames.gravity import EstimatedPose, Patches, find_faces, pose_of_faces
from datasets.geometry import check_depth, check_pose
from errors import InputError

MAX_OFF = 5  # degrees between the given up and that of floor and walls; 7-Scenes': 2


class PosedFrame(NamedTuple):
    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 metres, 0 = not measured
    K: np.ndarray  # (3, 3)
    pose: np.ndarray  # (4, 4) camera to the world of the sequence


def check_up(up: Iterable[float]) -> np.ndarray:
    """Return the world's up direction as a (3,) unit vector; InputError if it is none."""
    up = np.asarray(up, np.float64)
    length = np.linalg.norm(up)
    if up.shape != (3,) or not 1e-6 < length < np.inf:
        raise InputError("--up: give three numbers, the direction of up in the world of the poses")
    return up / length


def level_world(
    frames: Iterable[PosedFrame], up: np.ndarray, height: float | None = None
) -> tuple[np.ndarray, EstimatedPose]:
    """The motion from the world of the poses to the map's, from what all frames show of the floor.

    up: (3,), see check_up; it is kept as given. height: the cameras' median, metres above the
    floor, where no floor is in view.
    Returns (4, 4) float64, which moves nothing but up and down and turns about the origin, and the
    estimate that it comes from, of a level camera at the median of the cameras. Raises InputError
    where no floor is seen, and without frames.
    """
    level = _level_rotation(up)
    centres, patches = [], []
    for frame in frames:
        pose = check_pose(frame.pose).astype(np.float64)
        faces = find_faces(check_depth(frame.depth), np.asarray(frame.K, np.float64))
        rotation, centre = level @ pose[:3, :3], level @ pose[:3, 3]
        centres.append(centre)
        measured, points, normals = (a @ rotation.T for a in faces[:3])
        patches.append(Patches(measured + centre, points + centre, normals, faces.areas))
    if not centres:
        raise InputError("none of its frames can be used")
    middle = np.median(centres, axis=0)
    measured, points, normals, areas = map(np.concatenate, zip(*patches, strict=True))
    faces = Patches(measured - middle, points - middle, normals, areas)
    estimate = pose_of_faces(faces, np.array([0, 1.0, 0]), height)
    estimate = _doubted(estimate, level)
    motion = np.eye(4)
    motion[:3, :3] = estimate.pose[:3, :3].astype(np.float64) @ level
    motion[2, 3] = estimate.pose[2, 3] + middle[1]  # which is down
    return motion, estimate


def _doubted(estimate: EstimatedPose, level: np.ndarray) -> EstimatedPose:
    """The estimate without confidence, if the faces of the room contradict the up direction."""
    off = np.degrees(np.arccos(np.clip(estimate.gravity[1], -1, 1)))
    if off <= MAX_OFF:
        return estimate
    up = " ".join(f"{x:.3f}" for x in -estimate.gravity @ level)
    belief = f"{estimate.belief}; but floor and walls speak for --up {up}, {off:.0f} degrees away"
    return estimate._replace(confidence=0.0, belief=belief)


def _level_rotation(up: np.ndarray) -> np.ndarray:
    """(3, 3): a world vector in the frame of a level camera, x right, y down, z forward."""
    down = -check_up(up)
    # Whatever is level may be forward: of the world's axes, the one that is most so.
    forward = np.eye(3)[[1, 2, 0][int(np.argmin(np.abs(down[[1, 2, 0]])))]]
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    return np.stack([right, down, np.cross(right, down)])
