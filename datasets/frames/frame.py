"""A frame of one's own camera, ready for the network, and what its answer is worth where."""

from typing import NamedTuple

import numpy as np
import torch

from constants import (
    GRID,
    IMAGE_SIZE,
    NO_VOXEL,
    NUM_PIXELS,
    NUM_VOXELS,
)
from datasets.frames.cameras import NYUView, check_intrinsics, to_nyu_view
from datasets.frames.depth import to_metres
from datasets.frames.gravity import EstimatedPose, estimate_pose, grid_pose
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
    pose: np.ndarray  # (4, 4) float32 camera to world
    origin: np.ndarray  # (3,) float32 world metres
    estimate: EstimatedPose | None  # where the pose was estimated


def prepare_frame(
    rgb: np.ndarray,
    depth: np.ndarray,
    intrinsics: np.ndarray,
    pose: np.ndarray | None = None,
    camera_height: float | None = None,
    device: torch.device | str = "cpu",
) -> PreparedFrame:
    """What the network needs of a frame, from its raw parts.

    rgb: (H, W, 3) uint8; depth: (H, W), of the same pixels, metres as floats or millimetres as
    integers, 0 = not measured; intrinsics: (3, 3) of these pixels; pose: (4, 4) camera to world,
    Z up and floor at z = 0, or (3,) the direction of gravity in the camera's frame, or None to
    estimate both from the depth; camera_height: metres above the floor, where no floor is in view;
    device: of the batch, to which only image and depth are copied.
    Raises InputError for parts that do not fit, and where no room is seen.
    """
    rgb, raw = np.asarray(rgb), np.asarray(depth)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"rgb must be (height, width, 3) uint8, not {rgb.dtype} {rgb.shape}")
    if rgb.shape[:2] != raw.shape:
        raise InputError(
            f"rgb has {rgb.shape[1]}x{rgb.shape[0]} pixels and depth "
            f"{'x'.join(map(str, raw.shape[::-1]))}: both must be of the same view and size; align "
            "the depth to the colour camera, or the other way round"
        )
    depth = to_metres(raw).metres
    K = check_intrinsics(intrinsics, raw.shape)
    pose, estimate = _place(depth, K, pose, camera_height)
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
    return PreparedFrame(batch, view, *arrays, pose, origin, estimate)


def _place(
    depth: np.ndarray, K: np.ndarray, pose: np.ndarray | None, camera_height: float | None
) -> tuple[np.ndarray, EstimatedPose | None]:
    """The pose that places the grid, and the estimate that it comes from, if any."""
    if pose is not None and np.shape(pose) == (4, 4):
        if camera_height is not None:
            raise InputError("camera_height: the 4x4 pose says it already; give one of them")
        return grid_pose(pose), None
    if pose is not None and np.shape(pose) != (3,):
        raise InputError(
            f"pose must be (4, 4), camera to world, or (3,), gravity's direction, not of shape "
            f"{np.shape(pose)}"
        )
    estimate = estimate_pose(depth, K, pose, camera_height)
    return estimate.pose, estimate
