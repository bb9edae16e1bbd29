"""Frames that are not upright: how often they are recognised, doubted, and completed all the same.

    python benchmarks/turned.py [--rooms 200] [--seed 0] [--workers 2] [--frames FOLDER]
        [--nyu FOLDER]

Generated rooms and real frames are given as they are and turned by 90, 180 and 270 degrees (image,
depth and intrinsics alike). Prints a Markdown table. Right: the turn is recognised and the pose
believed, which is what predict.py completes without a warning. Warned: completed with confidence
below 0.5. Refused: one line, mostly that no floor is in view. Wrong: completed in another turn
without a warning, which must not happen. All of it with nothing given, and with --camera-height.

--frames: a folder with 7scenes, redwood and tum in it: colour, depth, and of 7-Scenes
camera-intrinsics.txt. --nyu: a folder of images of NYUv2, for whose depth the image alone stands.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import print_header, print_row
from datasets.files import read_depth_image, read_rgb
from datasets.frames.cameras import preset_intrinsics, read_intrinsics
from datasets.frames.depth import to_metres
from datasets.frames.frame import place_frame
from datasets.frames.turning import TURNS, turn_image, turn_intrinsics
from datasets.frames.upright import judge
from datasets.rooms import make_room
from errors import InputError, exit_on_input_error
from utils.upright import upright_scores

OUTCOMES = ("right", "warned", "refused", "wrong")
Frame = tuple[np.ndarray, np.ndarray, np.ndarray]  # image, depth in metres, intrinsics


def outcomes(frame: Frame, scores: np.ndarray, height: float | None) -> list[str]:
    """What becomes of a frame at each of TURNS; scores: of its image; height: --camera-height."""
    rgb, depth, K = frame
    found = []
    for turn in TURNS:
        images = turn_image(rgb, turn), turn_image(depth, turn)
        camera, seen = turn_intrinsics(K, depth.shape, turn), _turned_scores(scores, turn)
        try:
            placed = place_frame(*images, camera, camera_height=height, look=lambda _, s=seen: s)
        except InputError:
            found.append("refused")
            continue
        if placed.estimate.confidence < 0.5:
            found.append("warned")
        else:
            found.append("right" if (placed.turn + turn) % 360 == 0 else "wrong")
    return found


def _turned_scores(scores: np.ndarray, turn: int) -> np.ndarray:
    """Those of the turned image are the same, moved (tests/test_turned.py): computed once."""
    return np.roll(scores, -TURNS.index(turn))


def both_outcomes(frame: Frame, height: float) -> list[list[str]]:
    """Without and with the camera's height."""
    scores = upright_scores(frame[0])
    return [outcomes(frame, scores, given) for given in (None, height)]


def room_outcomes(seed: int, index: int) -> list[list[str]]:
    room = make_room(seed, "test", index)
    return both_outcomes((room.rgb, room.depth, room.K), float(room.pose[2, 3]))


def real_frames(folder: Path) -> Iterator[Frame]:
    for depth_path in sorted(folder.glob("*/*depth.png")):
        (rgb_path,) = depth_path.parent.glob(depth_path.name.replace("depth.png", "color.*"))
        unit = "tum" if depth_path.parent.name == "tum" else "mm"
        depth = to_metres(read_depth_image(depth_path), unit, depth_path).metres
        camera = depth_path.parent / "camera-intrinsics.txt"
        K = preset_intrinsics("tum", depth.shape)
        if camera.exists():
            K = read_intrinsics(camera, depth.shape)
        yield read_rgb(rgb_path), depth, K


def image_outcomes(path: Path) -> list[str]:
    """Of an image alone."""
    scores, found = upright_scores(read_rgb(path)), []
    for turn in TURNS:
        verdict = judge(_turned_scores(scores, turn))
        right = "right" if (verdict.turn + turn) % 360 == 0 else "wrong"
        found.append(right if verdict.sure else "warned")
    return found


def print_counts(name: str, frames: list[list[str]]) -> None:
    for turn, found in zip(TURNS, zip(*frames, strict=True), strict=True):
        counts = Counter(found)
        print_row(name, turn, len(found), *(counts[outcome] for outcome in OUTCOMES))


def one_thread() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="What becomes of frames that are not upright.")
    parser.add_argument("--rooms", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help="real frames with depth")
    parser.add_argument("--nyu", type=Path, metavar="FOLDER", help="images of NYUv2")
    args = parser.parse_args()

    seeds = [args.seed] * args.rooms
    images = sorted(args.nyu.glob("*_rgb.*")) if args.nyu else []
    with ProcessPoolExecutor(args.workers, initializer=one_thread) as pool:
        rooms = list(tqdm(pool.map(room_outcomes, seeds, range(args.rooms)), total=args.rooms))
        found = list(tqdm(pool.map(image_outcomes, images), total=len(images)))
    print_header(["frames", "turned by", "n", *OUTCOMES])
    print_counts("generated rooms", [without for without, _ in rooms])
    print_counts("generated rooms, height given", [given for _, given in rooms])
    if args.frames:
        frames = [both_outcomes(frame, 1.3) for frame in real_frames(args.frames)]
        print_counts("real frames", [without for without, _ in frames])
        print_counts("real frames, height given", [given for _, given in frames])
    if images:
        print_counts("NYUv2, image alone", found)


if __name__ == "__main__":
    main()
