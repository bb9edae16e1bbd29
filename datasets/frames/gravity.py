"""Where is down, and how high is the camera: the pose of a frame from its depth alone.

A room is mostly horizontal and vertical faces. Gravity is the direction, not too far from the
image's down, to which most faces are parallel or perpendicular; the floor is the lowest large
horizontal face below the camera; the walls turn the grid, because the rooms of the training data
are aligned with it. What looks like no room is refused.

The world is that of datasets/geometry.py: Z up, floor at z = 0, camera above (0, 0).
"""

from itertools import combinations_with_replacement
from typing import NamedTuple

import cv2
import numpy as np

from datasets.frames.depth import HEIGHT_RANGE, ImplausibleHeight
from datasets.frames.turning import TURNS, turn_directions, turn_pose
from datasets.geometry import check_depth, check_pose
from datasets.raycast import camera_rays
from errors import InputError

MAX_TILT = 50  # degrees between the image's down and gravity; NYUv2's frames stay below 35
MAX_GIVEN_TILT = 60  # where gravity is given
LOW_CAMERA = 0.8  # metres; a nearer "floor" may well be a table: low confidence, which is below 0.5
MIN_FLOOR_AREA = 0.02  # square metres that are seen
MIN_FLOOR_FACES = 40
MAX_BELOW_FLOOR = 0.01  # of the pixels: noise and reflections; below a table lies much more
MIN_WALL_AREA = 0.5  # square metres of upright faces
MIN_WALL_SHARE = 0.35  # of the upright faces within 11 degrees of two directions; 0.25 by chance
MAX_TURN = 50  # degrees between a given pose's view and the grid's forward axis; NYUv2: up to 47

_STEP = 4  # pixels between the faces that are looked at
_WINDOW = 15  # pixels whose depths make a face
_MAX_RESIDUAL = 0.008  # 1/m, of the inverse depths in a window: beyond is an edge
_PARALLEL = np.radians(10)
_BIN = 0.02  # metres, of heights


class Patches(NamedTuple):
    """Small planar patches of the depth image, in the camera's frame."""

    measured: np.ndarray  # (m, 3) float64 metres: every measured point looked at, also on no face
    points: np.ndarray  # (n, 3) float64 metres
    normals: np.ndarray  # (n, 3) unit, towards the camera
    areas: np.ndarray  # (n,) square metres


class EstimatedPose(NamedTuple):
    pose: np.ndarray  # (4, 4) float32, camera to world
    confidence: float  # 0..1
    belief: str  # for the user
    gravity: np.ndarray  # (3,) unit, in the camera's frame: what fits most faces near a given one


def estimate_pose(
    depth: np.ndarray, K: np.ndarray, gravity: np.ndarray | None = None, height: float | None = None
) -> EstimatedPose:
    """Pose of a camera from what it measured of floor and walls.

    depth: (H, W) metres, 0 = not measured; K: (3, 3); gravity: (3,) its direction in the camera's
    frame (x right, y down, z forward), of any length, where it is known; height: metres of the
    camera above the floor, where it is known or no floor is in view.
    Raises InputError if there is no floor, or no plausible room.
    """
    faces = find_faces(check_depth(depth), np.asarray(K, np.float64))
    return pose_of_faces(faces, gravity, height)


def pose_of_faces(
    faces: Patches, gravity: np.ndarray | None = None, height: float | None = None
) -> EstimatedPose:
    """estimate_pose from the faces, which may be those of many frames in one camera's frame."""
    if len(faces.points) < 100:
        raise InputError("no room: hardly any smooth surface is measured; give a pose")
    gravity = gravity_of_faces(faces) if gravity is None else check_gravity(gravity)
    floor, refined = np.zeros(len(faces.points), bool), _refined(faces, gravity)
    doubt = None
    if height is None:
        # To a sensor's gravity, which may be some degrees off, no floor would be level.
        floor = _find_floor(faces, refined)
        height = float(np.median(faces.points[floor] @ gravity))
    else:
        doubt = _deeper_floor(_floor_depth(faces, refined), height)
    if not HEIGHT_RANGE[0] <= height <= HEIGHT_RANGE[1]:
        raise ImplausibleHeight(
            f"no plausible room: the camera would be {height:.2f} m above the floor, not "
            f"{HEIGHT_RANGE[0]} to {HEIGHT_RANGE[1]} m: is the floor in view, and the depth unit "
            "right? Else give a pose",
            height,
        )
    upright = np.abs(faces.normals @ gravity)
    explained = float(np.mean((upright < np.sin(_PARALLEL)) | (upright > np.cos(_PARALLEL))))
    area = float(faces.areas[floor].sum())
    yaw = _yaw_of_walls(faces, gravity)
    # Half of either is ordinary: of a square metre of floor, of the faces of a room.
    confidence = min(1.0, explained / 0.5)
    if floor.any():
        confidence *= min(1.0, area / 0.5) * (1.0 if height > LOW_CAMERA else 0.4)
    if doubt is not None:
        confidence *= 0.4
    seen = f"{area:.1f} m2 of floor seen" if floor.any() else "height as given"
    belief = (
        f"camera {height:.2f} m above the floor, tilted by {_tilt(gravity):.0f} degrees, "
        f"{'looking straight ahead' if yaw is None else 'turned with the walls'}; {seen}, "
        f"confidence {confidence:.2f}{'' if doubt is None else f'; but {doubt}'}"
    )
    pose = pose_from_gravity(gravity, height, yaw or 0.0)
    return EstimatedPose(pose, confidence, belief, refined)


def pose_from_gravity(gravity: np.ndarray, height: float, yaw: float = 0.0) -> np.ndarray:
    """(4, 4) float32 pose of a camera at a height over the floor.

    gravity: (3,) its direction in the camera's frame; height: metres; yaw: degrees that the camera
    is turned to the left of the grid's forward axis.
    """
    up = -check_gravity(gravity)
    forward = np.array([0, 0, 1.0]) - up[2] * up
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    cosine, sine = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = [cosine * right - sine * forward, sine * right + cosine * forward, up]
    pose[2, 3] = height
    return pose


def check_gravity(gravity: np.ndarray, turn: int = 0) -> np.ndarray:
    """Gravity in the frame of the camera whose images are turned, see datasets/frames/turning.py.

    Returns a (3,) unit vector; InputError unless that camera is upright.
    """
    gravity = np.asarray(gravity, np.float64)
    length = np.linalg.norm(gravity)
    if gravity.shape != (3,) or not np.isfinite(length) or length < 1e-6:
        raise InputError("gravity must be three numbers, its direction in the camera's frame")
    turned = turn_directions(gravity / length, turn)
    if _tilt(turned) > MAX_GIVEN_TILT:
        raise InputError(
            f"gravity is {_tilt(turned):.0f} degrees away from the image's down: give its "
            "direction in the camera's frame (x right, y down, z forward), not what an "
            f"accelerometer at rest shows{_advice(gravity)}"
        )
    return turned


def _advice(gravity: np.ndarray) -> str:
    """The turn, if any, by which a camera with this gravity is upright, as the end of a message."""
    upright = [t for t in TURNS if _tilt(turn_directions(gravity, t)) <= 45]
    return f"; or, if it is right, turn the images by --rotate {upright[0]}" if upright else ""


def _tilt(gravity: np.ndarray) -> float:
    """Degrees between the image's down and a vector in the camera's frame."""
    return np.degrees(np.arccos(np.clip(gravity[1] / np.linalg.norm(gravity), -1, 1)))


def grid_pose(pose: np.ndarray, turn: int = 0) -> np.ndarray:
    """The pose that places the grid, from a given camera-to-world pose with Z up, floor at z = 0.

    turn: degrees by which the images were turned after the pose was taken.

    The camera is put above (0, 0), and the world turned by quarters (walls stay aligned) until the
    camera looks along Y within MAX_TURN degrees, as in the training data.
    Returns (4, 4) float32. Raises InputError for a camera that is not upright or not over a floor.
    """
    given = check_pose(pose)
    pose = turn_pose(given, turn)
    if not _stands(pose):
        tilt, high = _tilt(-pose[2, :3]), not 0.1 <= pose[2, 3] <= 4
        raise InputError(
            f"pose: a camera {pose[2, 3]:.2f} m above z = 0, tilted by {tilt:.0f} degrees: the "
            "world must have Z up and its floor at z = 0; without such a pose, give gravity in the "
            f"camera's frame, or nothing{_convention(given)}"
            f"{'' if high else _advice(-given[2, :3])}"
        )
    placed = pose.copy()
    placed[:2, 3] = 0
    for _ in range(3):
        if np.degrees(np.abs(np.arctan2(*placed[:2, 2]))) <= MAX_TURN:
            break
        placed[:2, :3] = placed[[1, 0], :3] * np.float32([[1], [-1]])  # a quarter to the right
    return placed


def _stands(pose: np.ndarray) -> bool:
    """Whether a camera is upright over the floor, as well as a pose (4, 4) alone can say it."""
    return _tilt(-pose[2, :3]) <= MAX_GIVEN_TILT and 0.1 <= pose[2, 3] <= 4


def _convention(pose: np.ndarray) -> str:
    """The conventions by which a refused pose would be one, as part of a message."""
    found = []
    if _stands(pose @ np.diag([1, -1, -1, 1])):
        found.append("like OpenGL's (y up, z back): negate its second and third columns")
    if _stands(np.linalg.inv(pose)):
        found.append("like world to camera: invert it")
    return f"; it looks {', or '.join(found)}" if found else ""


def find_faces(depth: np.ndarray, K: np.ndarray) -> Patches:
    """Planar patches of a depth image. depth: (H, W) metres, K: (3, 3).

    In each window a plane is fitted to the inverse depths: there, a plane is linear in the pixel,
    and the noise of structured light and stereo is even.
    """
    step = max(1, round(_STEP * depth.shape[1] / 640))
    window = max(5, 2 * round((_WINDOW - 1) / 2 * depth.shape[1] / 640) + 1)
    centres = np.s_[step // 2 :: step, step // 2 :: step]

    def window_mean(values: np.ndarray) -> np.ndarray:
        mean = cv2.boxFilter(values, -1, (window, window), borderType=cv2.BORDER_CONSTANT)
        return mean[centres].reshape(-1)

    measured = depth > 0
    inverse = np.divide(1, depth, where=measured, out=np.zeros_like(depth)).astype(np.float64)
    rays = camera_rays(K, depth.shape)
    x_y_1 = rays.transpose(2, 0, 1)
    # 1 / z = a x + b y + c is the plane a X + b Y + c Z = 1: normal equations of least squares.
    right_side = np.stack([window_mean(inverse * axis) for axis in x_y_1], axis=1)
    matrix = np.empty((len(right_side), 3, 3))
    for i, j in combinations_with_replacement(range(3), 2):
        matrix[:, i, j] = matrix[:, j, i] = window_mean(measured * (x_y_1[i] * x_y_1[j]))
    rays, distance = rays[centres].reshape(-1, 3), depth[centres].reshape(-1)
    seen = rays[distance > 0] * distance[distance > 0, None]

    enough = (matrix[:, 2, 2] > 0.6) & (distance > 0)
    matrix, right_side, rays = matrix[enough], right_side[enough], rays[enough]
    plane = np.linalg.solve(matrix, right_side[..., None])[..., 0]
    squares = window_mean(inverse**2)[enough] - (plane * right_side).sum(axis=1)
    residual = np.sqrt(np.maximum(squares, 0) / matrix[:, 2, 2])
    fitted = (plane * rays).sum(axis=1)
    good = (residual < _MAX_RESIDUAL) & (fitted > 0.1)
    plane, points = plane[good], rays[good] / fitted[good, None]
    normals = -plane / np.linalg.norm(plane, axis=1, keepdims=True)
    facing = -(normals * points).sum(axis=1) / points[:, 2]  # cosine to the ray, times its length
    areas = points[:, 2] ** 2 / np.maximum(facing, 0.05) * step**2 / (K[0, 0] * K[1, 1])
    return Patches(seen, points, normals, areas)


def gravity_of_faces(faces: Patches) -> np.ndarray:
    """The unit direction near the image's down that fits most faces, parallel or perpendicular."""
    candidates = -faces.normals[faces.normals[:, 1] < -np.cos(np.radians(MAX_TILT))]
    if len(candidates) < 20:
        raise InputError(
            "no floor: no horizontal face is seen below the camera; give a pose, or gravity"
        )
    candidates = candidates[:: max(1, len(candidates) // 300)]
    thinned = faces.normals[:: max(1, len(faces.normals) // 3000)]
    cosine = np.abs(candidates @ thinned.T)
    votes = (cosine > np.cos(_PARALLEL)).sum(axis=1) + (cosine < np.sin(_PARALLEL)).sum(axis=1)
    # Level cameras are likelier: of two directions alike, the one nearer to the image's down.
    return _refined(faces, candidates[np.argmax(votes * candidates[:, 1])])


def _refined(faces: Patches, gravity: np.ndarray) -> np.ndarray:
    """The direction near a first one that fits most faces; the first, if none is level."""
    for limit in np.radians([10, 10, 8, 8]):
        cosine = np.abs(faces.normals @ gravity)
        parallel = faces.normals[cosine > np.cos(limit)]
        if not len(parallel):
            break
        perpendicular = faces.normals[cosine < np.sin(limit)]
        # Most parallel to the former and most perpendicular to the latter, however many they are.
        spread = -parallel.T @ parallel / len(parallel)
        if len(perpendicular):
            spread += perpendicular.T @ perpendicular / len(perpendicular)
        gravity = np.linalg.eigh(spread)[1][:, 0]
        gravity *= np.sign(gravity[1])
    return gravity


def _find_floor(faces: Patches, gravity: np.ndarray) -> np.ndarray:
    """Which faces are the floor's: (n,) bool."""
    # Hardly anything is below a floor. The margin: floors are wavy where they are far.
    lowest = np.quantile(faces.measured @ gravity, 1 - MAX_BELOW_FLOOR)
    height = faces.points @ gravity
    floor = -(faces.normals @ gravity) > np.cos(np.radians(15))
    floor &= (height > lowest - 0.1) & (height > 0.1)
    if faces.areas[floor].sum() < MIN_FLOOR_AREA or floor.sum() < MIN_FLOOR_FACES:
        raise InputError(
            f"no floor in view: the lowest that is seen, {lowest:.2f} m below the camera, is no "
            "horizontal face; give the camera's height above the floor, or its pose"
        )
    area = np.bincount((height[floor] / _BIN).astype(int), faces.areas[floor])
    area = np.convolve(area, np.ones(3), mode="same")
    peak = (np.argmax(area) + 0.5) * _BIN
    return floor & (np.abs(height - peak) < 0.08)


def floor_below(depth: np.ndarray, K: np.ndarray) -> float | None:
    """Metres from the camera down to what looks like a floor, plausible or not; None without."""
    faces = find_faces(check_depth(depth), np.asarray(K, np.float64))
    try:
        return _floor_depth(faces, gravity_of_faces(faces))
    except InputError:
        return None


def doubt_of_pose(depth: np.ndarray, K: np.ndarray, pose: np.ndarray) -> str | None:
    """Where the floor that is seen is not at z = 0 of a given pose: a line that says so.

    depth: (H, W) metres; K: (3, 3); pose: (4, 4) camera to world, of an upright camera.
    """
    faces, height = find_faces(check_depth(depth), np.asarray(K, np.float64)), float(pose[2, 3])
    found = _floor_depth(faces, _refined(faces, -pose[2, :3].astype(np.float64)))
    if found is not None and found < 0.85 * height - 0.1:
        return (
            f"the lowest level surface is {found:.2f} m below the camera: is that a table, or is "
            "the floor not at z = 0, or the depth unit wrong?"
        )
    doubt = _deeper_floor(found, height)
    return doubt and f"{doubt}; in the world of the pose, the floor must be at z = 0"


def _floor_depth(faces: Patches, gravity: np.ndarray) -> float | None:
    """Metres from the camera to the floor that is seen; None without one."""
    if len(faces.points) < 100:
        return None
    try:
        return float(np.median(faces.points[_find_floor(faces, gravity)] @ gravity))
    except InputError:
        return None


def _deeper_floor(found: float | None, height: float) -> str | None:
    """A line on a floor that is seen far below the one that is said to be there, if it is."""
    if found is None or found < 1.15 * height + 0.1:
        return None
    return (
        f"a floor is seen {found:.2f} m below the camera, not {height:.2f} m as given: are the "
        "height and the depth unit right?"
    )


def _yaw_of_walls(faces: Patches, gravity: np.ndarray) -> float | None:
    """Degrees that the camera is turned to the left of the walls' nearest axis; None without."""
    level = pose_from_gravity(gravity, 1)[:3, :3]
    walls = np.abs(faces.normals @ gravity) < np.sin(np.radians(20))
    if faces.areas[walls].sum() < MIN_WALL_AREA:
        return None
    x, y, _ = level @ faces.normals[walls].T
    fourfold = 4 * np.arctan2(y, x)  # the same for walls at right angles
    # The peak first, not the mean: furniture may stand obliquely.
    peaks = np.radians(np.arange(0, 360, 4))
    support = [np.mean(np.cos(fourfold - peak) > np.cos(np.radians(45))) for peak in peaks]
    peak = peaks[np.argmax(support)]
    if max(support) < MIN_WALL_SHARE:
        return None
    offset = np.angle(np.exp(1j * (fourfold - peak)))
    angle = np.degrees(peak + offset[np.abs(offset) < np.radians(72)].mean()) / 4
    # The walls stand at this angle to the camera, so it is turned the other way from them.
    return float((45 - angle) % 90 - 45)
