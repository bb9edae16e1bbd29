"""Error of the estimated camera pose on generated rooms with sensor noise, and on real frames.

    python benchmarks/gravity.py [--rooms 200] [--seed 0] [--workers 2]
        [--nyu NYU0003_0000.png NYU0003_0000.bin] [--seven-scenes FOLDER]

Prints a Markdown table: median and 90th percentile of the angle between the estimated and the true
gravity, of the camera's height above the floor, and of the angle to the walls; and how often the
estimate is refused. Refused frames are estimated again with their true height, because gravity
needs no floor. --seven-scenes: a folder with camera-intrinsics.txt, gravity-direction.txt (of the
world of the poses), frame-*.depth.png and frame-*.pose.txt; heights are not known there. Takes a
second a room and process.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import print_header, print_row
from datasets.files import read_depth_image
from datasets.frames.cameras import read_intrinsics, read_pose
from datasets.frames.depth import to_metres
from datasets.frames.gravity import estimate_pose
from datasets.geometry import NYU_INTRINSICS, Frame
from datasets.rooms import make_room
from datasets.voxels import read_bin, read_depth
from errors import InputError, exit_on_input_error


class Error(NamedTuple):
    """Of one frame; NaN where the truth, or the estimate, is not known."""

    refused: bool
    gravity: float = np.nan  # degrees
    height: float = np.nan  # centimetres, estimated minus true
    walls: float = np.nan  # degrees
    confidence: float = 0.0
    floor: float = np.nan  # fraction of the pixels that show the floor


def pose_error(
    depth: np.ndarray, K: np.ndarray, gravity: np.ndarray, pose: np.ndarray | None = None
) -> Error:
    """Estimate a pose and compare it.

    gravity: (3,) in the camera's frame; pose: the true one, where height and walls are known.
    """
    refused, height = False, 1.3 if pose is None else pose[2, 3]
    try:
        estimate = estimate_pose(depth, K)
    except InputError:
        refused = True
        try:
            estimate = estimate_pose(depth, K, height=height)
        except InputError:
            return Error(refused)
    down = -estimate.pose[2, :3].astype(np.float64)
    cosine = np.clip(down @ gravity / np.linalg.norm(gravity), -1, 1)
    error = Error(refused, np.degrees(np.arccos(cosine)), confidence=estimate.confidence)
    if pose is None:
        return error
    centimetres = np.nan if refused else 100 * (estimate.pose[2, 3] - height)
    turned = (yaw_of(estimate.pose) - yaw_of(pose) + 45) % 90 - 45
    return error._replace(height=centimetres, walls=turned)


def yaw_of(pose: np.ndarray) -> float:
    """Degrees that a camera is turned to the left of world Y."""
    return np.degrees(np.arctan2(-pose[0, 2], pose[1, 2]))


def room_error(seed: int, index: int) -> Error:
    room = make_room(seed, "test", index)
    height = Frame(room.perfect_depth, NYU_INTRINSICS, room.pose, np.zeros(3)).points()[2].numpy()
    floor = (np.abs(height) < 0.02) & (room.depth.reshape(-1) > 0)
    error = pose_error(room.depth, room.K, -room.pose[2, :3], room.pose)
    return error._replace(floor=float(floor.mean()))


def seven_scenes_errors(folder: Path) -> Iterator[tuple[str, Error]]:
    gravity = read_pose(folder / "gravity-direction.txt")
    for path in sorted(folder.glob("frame-*.depth.png")):
        depth = to_metres(read_depth_image(path), "mm", path).metres
        K = read_intrinsics(folder / "camera-intrinsics.txt", depth.shape)
        pose = read_pose(str(path).replace(".depth.png", ".pose.txt"))
        name = path.name.removesuffix(".depth.png")
        yield f"7-Scenes {name}", pose_error(depth, K, pose[:3, :3].T @ gravity)


def spread(values: list[float]) -> str:
    """Median and 90th percentile of the sizes of the values that are known."""
    known = np.abs([value for value in values if not np.isnan(value)])
    quantiles = np.percentile(known, (50, 90)) if len(known) > 1 else known
    return " / ".join(f"{value:.1f}" for value in quantiles) or "-"


def print_errors(name: str, errors: list[Error]) -> None:
    columns = [spread([getattr(e, key) for e in errors]) for key in ("gravity", "height", "walls")]
    print_row(name, len(errors), sum(error.refused for error in errors), *columns)


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Error of the estimated camera pose.")
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nyu", nargs=2, metavar=("PNG", "BIN"), help="a raw SSCNet frame")
    parser.add_argument("--seven-scenes", type=Path, metavar="FOLDER")
    args = parser.parse_args()

    seeds = [args.seed] * args.rooms
    with ProcessPoolExecutor(args.workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        rooms = list(tqdm(pool.map(room_error, seeds, range(args.rooms)), total=args.rooms))
    print_header(["frames", "n", "refused", "gravity, degrees", "height, cm", "walls, degrees"])
    print_errors("generated rooms", rooms)
    for low, high in ((0, 0.5), (0.5, 0.9), (0.9, 1.01)):
        if some := [e for e in rooms if not e.refused and low <= e.confidence < high]:
            print_errors(f"with confidence {low} to {min(high, 1):g}", some)
    if refused := [error for error in rooms if error.refused]:
        print_errors("refused, height given", refused)
    if args.nyu:
        png, bin_file = args.nyu
        pose = read_bin(bin_file).pose
        error = pose_error(read_depth(png), NYU_INTRINSICS, -pose[2, :3], pose)
        print_errors(Path(bin_file).stem, [error])
    if args.seven_scenes:
        for name, error in seven_scenes_errors(args.seven_scenes):
            print_errors(name, [error])
    unseen = [error for error in rooms if error.floor < 0.01]
    print(f"\n{len(unseen)} rooms show the floor in less than 1 % of the pixels, ", end="")
    print(f"{sum(error.refused for error in unseen)} of them are among the {len(refused)} refused;")
    far = sum(abs(error.height) > 20 for error in rooms)
    print(f"{far} heights are off by more than 20 cm.")


if __name__ == "__main__":
    main()
