"""A sequence of frames with poses, from files to one map: what `predict.py --fuse` does.

Frames are read twice, so that no more than one of them is in memory: first some of them for the
floor and the walls, which are those of the whole sequence, then all of them to be completed.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from datasets.frames.sequence import PosedFrame, level_world
from datasets.geometry import check_pose
from errors import InputError
from utils.completion import SceneCompleter
from utils.scene_map import SceneMap

FRAMES_FOR_FLOOR = 60

Reader = tuple[str, Callable[[], PosedFrame]]  # a frame's name, and what reads it


def fuse_frames(
    completer: SceneCompleter,
    readers: Sequence[Reader],
    up: np.ndarray,
    camera_height: float | None = None,
    rotate: int | None = None,
    crop: bool = False,
) -> tuple[SceneMap, str]:
    """Complete frames one by one and fuse them.

    up and camera_height as in level_world, rotate and crop as in prepare_frame. A frame that cannot
    be used is left out, with a line on stderr. Returns the map, and a line on what was believed.
    Raises InputError if no frame is left, or no floor is found.
    """
    some = readers[:: -(-len(readers) // FRAMES_FOR_FLOOR)]
    try:
        level, estimate = level_world(_readable(some), up, camera_height)
    except InputError as error:
        raise InputError(f"the sequence: {error}; or is --up wrong?") from error
    scene_map = SceneMap(level=level)
    for name, read in tqdm(readers, unit="frame"):
        try:
            frame = _checked(read())
            pose = level @ frame.pose
            parts = frame.rgb, frame.depth, frame.K, pose
            scene = completer(*parts, name=name, rotate=rotate, crop=crop)
            scene_map.add(scene)
        except InputError as error:
            tqdm.write(f"skipped: {name}: {error}", file=sys.stderr)
    if not scene_map.frames:
        raise InputError("none of the frames could be fused, see above; or is --up wrong?")
    doubt = "; low confidence: look at the picture" * (estimate.confidence < 0.5)
    return scene_map, f"the sequence: {estimate.belief}{doubt}"


def _checked(frame: PosedFrame) -> PosedFrame:
    return frame._replace(pose=check_pose(frame.pose).astype(np.float64))


def _readable(readers: Sequence[Reader]) -> Iterator[PosedFrame]:
    """The frames that can be used; the others are spoken of when it is their turn."""
    for _, read in readers:
        with contextlib.suppress(InputError):
            yield _checked(read())
