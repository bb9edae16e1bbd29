"""A frame of one's own camera, ready for the network, and what its answer is worth where."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from constants import GRID, IMAGE_SIZE, NO_VOXEL, NUM_PIXELS, NUM_VOXELS
from datasets.frames.cameras import NYUView, check_intrinsics, check_same_view, to_nyu_view
from datasets.frames.depth import to_metres
from datasets.frames.distortion import Lens, undistort
from datasets.frames.gravity import (
    LOW_CAMERA,
    EstimatedPose,
    check_gravity,
    doubt_of_pose,
    find_faces,
    grid_pose,
    pose_of_faces,
)
from datasets.frames.turning import TURNS, check_turn, turn_image, turn_intrinsics
from datasets.frames.upright import CLEAR, Verdict, depth_scores, judge, probabilities
from datasets.geometry import NYU_INTRINSICS, Frame, grid_origin
from datasets.transforms import normalize
from datasets.tsdf import frame_tsdf
from datasets.voxels import frame_mapping
from errors import InputError


class PreparedFrame(NamedTuple):
    batch: dict  # image (1, 3, 480, 640), mapping2d (1, 480, 640), tsdf (1, 1, 60, 36, 60)
    view: NYUView
    mapping: np.ndarray  # (60, 36, 60) int64: pixel of a voxel in the view, 307200 none
    measured: np.ndarray  # (60, 36, 60) bool: voxels in which a surface was measured
    pose: np.ndarray  # (4, 4) float32 camera to world, of the camera whose images are upright
    origin: np.ndarray  # (3,) float32 world metres
    estimate: EstimatedPose | None  # where the pose was estimated
    turn: int = 0  # degrees clockwise by which the given images were turned to be upright

    @property
    def is_low(self) -> bool:
        """Whether the camera is estimated so near to the floor that this may be a table."""
        return self.estimate is not None and float(self.pose[2, 3]) <= LOW_CAMERA

    def pose_beliefs(self) -> list[str]:
        """Lines on the pose, for the user."""
        if self.estimate is not None:
            low = self.estimate.confidence < 0.5
            warning = ["low confidence: look at the picture, or give --pose"] * low
            return [self.estimate.belief, *warning]
        line = (
            f"pose as given: camera {self.pose[2, 3]:.2f} m above the floor, taken to be at z = 0"
        )
        doubt = doubt_of_pose(self.view.wide_depth, self.view.wide_intrinsics, self.pose)
        return [line] if doubt is None else [line, f"low confidence: {doubt}"]


class PlacedFrame(NamedTuple):
    """A frame turned upright, and where its camera is."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 metres
    K: np.ndarray  # (3, 3)
    turn: int  # degrees clockwise by which it was turned
    pose: np.ndarray  # (4, 4) float32, camera to world, of the turned camera
    estimate: EstimatedPose | None


def prepare_frame(
    rgb: np.ndarray,
    depth: np.ndarray,
    intrinsics: np.ndarray,
    pose: np.ndarray | None = None,
    camera_height: float | None = None,
    device: torch.device | str = "cpu",
    rotate: int | None = None,
    look: Callable[[np.ndarray], np.ndarray] | None = None,
    expected: int = 0,
    lens: Lens | None = None,
    crop: bool = False,
) -> PreparedFrame:
    """What the network needs of a frame, from its raw parts.

    rgb: (H, W, 3) uint8; depth: (H, W), of the same pixels, metres as floats or millimetres as
    integers, 0 = not measured; intrinsics: (3, 3) of these pixels; pose: (4, 4) camera to world,
    Z up and floor at z = 0, or (3,) the direction of gravity in the camera's frame, or None to
    estimate both from the depth; camera_height: metres above the floor, where no floor is in view;
    device: of the batch, to which only image and depth are copied.
    rotate: degrees clockwise (0, 90, 180, 270) by which the images are to be turned to be upright;
    intrinsics and pose are those of the images as given. None: as gravity says, where it is given;
    else as `look`, upright_scores of utils/upright.py, and the depth say. expected: what metadata
    say, which is kept where nothing else is known, and without `look`. lens: its distortion, to be
    undone, as in Camera of datasets/frames/camera_files.py. crop: the images are a part of the
    sensor's, so their principal point may be anywhere.
    Raises InputError for parts that do not fit, and where no room is seen.
    """
    rgb, raw = np.asarray(rgb), np.asarray(depth)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"rgb must be (height, width, 3) uint8, not {rgb.dtype} {rgb.shape}")
    check_same_view(rgb, raw)
    depth = to_metres(raw).metres
    K = check_intrinsics(intrinsics, raw.shape, crop=crop)
    if lens is not None:
        rgb, depth = undistort(rgb, depth, K, lens)
    rgb, depth, K, turn, pose, estimate = place_frame(
        rgb, depth, K, pose, camera_height, rotate, look, expected
    )
    origin = grid_origin(pose)
    view = to_nyu_view(rgb, depth, K)
    place = {"pose": pose, "origin": origin, "keep_unmeasured": False, "device": device}
    wide = Frame(view.wide_depth, view.wide_intrinsics, **place)
    inside = int((wide.coarse_voxels < NUM_VOXELS).sum())
    total = (wide.depth > 0).sum()
    if inside < 0.05 * total:
        raise InputError(
            f"only {inside} of {total} measured pixels lie in the grid, 1 to 5.8 m in front of the "
            "camera: is the pose right, and the depth unit?"
        )
    mapping = frame_mapping(Frame(view.depth, NYU_INTRINSICS, **place))
    measured = torch.zeros(NUM_VOXELS + 1, dtype=torch.bool, device=device)
    measured = measured.index_fill_(0, wide.coarse_voxels, True)[:NUM_VOXELS].view(GRID)
    mapping2d = torch.full((NUM_PIXELS + 1,), NO_VOXEL, device=device)
    mapping2d.scatter_(0, mapping.flatten(), torch.arange(NUM_VOXELS, device=device))
    batch = {
        "image": torch.from_numpy(normalize(view.image)).to(device),
        "mapping2d": mapping2d[:NUM_PIXELS].view(IMAGE_SIZE),
        "tsdf": frame_tsdf(wide)[None],
    }
    batch = {key: value[None] for key, value in batch.items()}
    arrays = (x.cpu().numpy() for x in (mapping, measured))
    return PreparedFrame(batch, view, *arrays, pose, origin, estimate, turn)


def place_frame(
    rgb: np.ndarray,
    depth: np.ndarray,
    K: np.ndarray,
    pose: np.ndarray | None = None,
    camera_height: float | None = None,
    rotate: int | None = None,
    look: Callable[[np.ndarray], np.ndarray] | None = None,
    expected: int = 0,
) -> PlacedFrame:
    """Turn a frame upright and find its pose. As prepare_frame, of checked parts; depth: metres."""
    verdict, faces = Verdict(expected if rotate is None else check_turn(rotate), True, None), None
    if rotate is None and pose is None and look is not None:
        faces, scores = find_faces(depth, K.astype(np.float64)), look(rgb)
        if probabilities(scores)[TURNS.index(expected)] < CLEAR:
            scores = scores + depth_scores(faces)
        verdict = judge(scores, expected)
    turn = verdict.turn
    if turn:
        K, faces = turn_intrinsics(K, depth.shape, turn), None
        rgb, depth = turn_image(rgb, turn), turn_image(depth, turn)
    parts = rgb, depth, K, turn
    if pose is not None and np.shape(pose) == (4, 4):
        if camera_height is not None:
            raise InputError("camera_height: the 4x4 pose says it already; give one of them")
        return PlacedFrame(*parts, grid_pose(pose, turn), None)
    if pose is not None and np.shape(pose) != (3,):
        raise InputError(
            f"pose must be (4, 4), camera to world, or (3,), gravity's direction, not of shape "
            f"{np.shape(pose)}"
        )
    gravity = None if pose is None else check_gravity(pose, turn)
    if faces is None:
        faces = find_faces(depth, K.astype(np.float64))
    try:
        estimate = pose_of_faces(faces, gravity, camera_height)
    except InputError as error:
        if verdict.belief is not None:
            error.args = (f"{error}; {verdict.belief}",)
        raise
    if not verdict.sure:
        belief = f"{estimate.belief}; but {verdict.belief}"
        estimate = estimate._replace(confidence=0.0, belief=belief)
    elif verdict.belief is not None:
        estimate = estimate._replace(belief=f"{verdict.belief}; {estimate.belief}")
    return PlacedFrame(*parts, estimate.pose, estimate)
