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
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# ruff: noqa: E402  (threads are limited before NumPy is imported)
import numpy as np
from tqdm import tqdm

from datasets.frames.cameras import read_intrinsics, read_pose
from datasets.frames.depth import read_depth_image, to_metres
from datasets.frames.gravity import estimate_pose
from datasets.geometry import NYU_INTRINSICS, Frame
from datasets.rooms import make_room
from datasets.voxels import read_bin, read_depth
from errors import InputError, exit_on_input_error

SPLIT = "test"


class Error(NamedTuple):
    """Of one frame; NaN where the truth, or the estimate, is not known."""

    name: str
    refused: bool
    gravity: float  # degrees
    height: float  # centimetres, estimated minus true
    walls: float  # degrees
    confidence: float
    floor: float = np.nan  # fraction of the pixels that show the floor


def pose_error(name, depth, K, gravity, height=None, yaw=None):
    """Estimate a pose and compare it. gravity: (3,) in the camera's frame; yaw: degrees."""
    refused = False
    try:
        estimate = estimate_pose(depth, K)
    except InputError:
        refused = True
        try:
            estimate = estimate_pose(depth, K, height=height or 1.3)
        except InputError:
            return Error(name, True, np.nan, np.nan, np.nan, 0)
    down = -estimate.pose[2, :3].astype(np.float64)
    cosine = down @ gravity / np.linalg.norm(gravity)
    centimetres = np.nan if refused or height is None else 100 * (estimate.pose[2, 3] - height)
    turned = np.nan if yaw is None else (yaw_of(estimate.pose) - yaw + 45) % 90 - 45
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return Error(name, refused, angle, centimetres, turned, estimate.confidence)


def yaw_of(pose):
    """Degrees that a camera is turned to the left of world Y."""
    return np.degrees(np.arctan2(-pose[0, 2], pose[1, 2]))


def posed_error(name, depth, pose):
    return pose_error(name, depth, NYU_INTRINSICS, -pose[2, :3], pose[2, 3], yaw_of(pose))


def room_error(seed, index):
    room = make_room(seed, SPLIT, index)
    height = Frame(room.perfect_depth, NYU_INTRINSICS, room.pose, np.zeros(3)).points()[:, 2]
    floor = (np.abs(height) < 0.02) & (room.depth.reshape(-1) > 0)
    error = posed_error(f"room {index}", room.depth, room.pose)
    return error._replace(floor=float(floor.mean()))


def seven_scenes_errors(folder):
    gravity = read_pose(folder / "gravity-direction.txt")
    for path in sorted(folder.glob("frame-*.depth.png")):
        depth = to_metres(read_depth_image(path), "mm", path).metres
        K = read_intrinsics(folder / "camera-intrinsics.txt", depth.shape)
        pose = read_pose(str(path).replace(".depth.png", ".pose.txt"))
        yield pose_error(path.name.split(".")[0], depth, K, pose[:3, :3].T @ gravity)


def row(name, errors):
    """One line of the table: medians and 90th percentiles, where there are values."""

    def spread(values):
        values = np.abs([value for value in values if not np.isnan(value)])
        if not len(values):
            return "-"
        if len(values) == 1:
            return f"{values[0]:.1f}"
        return f"{np.median(values):.1f} / {np.percentile(values, 90):.1f}"

    columns = [name, str(len(errors)), str(sum(error.refused for error in errors))]
    columns += [spread([getattr(e, key) for e in errors]) for key in ("gravity", "height", "walls")]
    return f"| {' | '.join(columns)} |"


@exit_on_input_error
def main():
    parser = argparse.ArgumentParser(description="Error of the estimated camera pose.")
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nyu", nargs=2, metavar=("PNG", "BIN"), help="a raw SSCNet frame")
    parser.add_argument("--seven-scenes", type=Path, metavar="FOLDER")
    args = parser.parse_args()

    seeds = [args.seed] * args.rooms
    with ProcessPoolExecutor(args.workers) as pool:
        rooms = list(tqdm(pool.map(room_error, seeds, range(args.rooms)), total=args.rooms))
    print("| frames | n | refused | gravity, degrees | height, cm | walls, degrees |")
    print("|---|---|---|---|---|---|")
    print(row("generated rooms", rooms))
    for low, high in ((0, 0.5), (0.5, 0.9), (0.9, 1.01)):
        some = [e for e in rooms if not e.refused and low <= e.confidence < high]
        if some:
            print(row(f"with confidence {low} to {min(high, 1):g}", some))
    refused = [error for error in rooms if error.refused]
    if refused:
        print(row("refused, height given", refused))
    if args.nyu:
        scene = read_bin(args.nyu[1])
        name = Path(args.nyu[1]).stem
        print(row(name, [posed_error(name, read_depth(args.nyu[0]), scene.pose)]))
    if args.seven_scenes:
        for error in seven_scenes_errors(args.seven_scenes):
            print(row(f"7-Scenes {error.name}", [error]))
    unseen = [error for error in rooms if error.floor < 0.01]
    print(f"\n{len(unseen)} rooms show the floor in less than 1 % of the pixels, ", end="")
    print(f"{sum(error.refused for error in unseen)} of them are among the {len(refused)} refused;")
    far = sum(abs(error.height) > 20 for error in rooms)
    print(f"{far} heights are off by more than 20 cm.")


if __name__ == "__main__":
    main()
