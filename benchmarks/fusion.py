"""What fusing the frames of a walk is worth, on generated rooms whose truth is known all around.

    python benchmarks/fusion.py [--rooms 50] [--views 8] [--seed 1] [--workers 2]
        [--pretrained_path checkpoint/nyu_small_student.pth] [--weights 2.5,1.25,1,0 1,1,1,0]

Renders each test room from several places (datasets/rooms/walk.py), completes every frame with its
true pose, and prints a Markdown table: SC IoU and SSC mIoU, pooled over rooms, on all voxels that
any frame knows (what a frame does not know counts as empty), and on those that each frame knows.
--weights: of utils.scene_map.Weights, to compare several. Takes some 20 s a room and core.
"""

import argparse
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import print_header, print_row
from constants import IGNORE_INDEX, NUM_CLASSES
from datasets.geometry import NYU_INTRINSICS
from datasets.rooms.walk import Walk, make_walk
from errors import InputError, exit_on_input_error
from utils.completion import CompletedScene, SceneCompleter
from utils.metrics import class_ratios, confusion_matrix
from utils.scene_map import SceneMap, Weights

SINGLE, LAST = "single frames", "last frame wins"
ANY, OWN = "known to any frame", "known to each frame"


@cache
def completer_of(path: str) -> SceneCompleter:
    torch.set_num_threads(1)
    return SceneCompleter.from_checkpoint(path, "cpu")


def fuse(scenes: list[CompletedScene], weights: Weights) -> SceneMap:
    scene_map = SceneMap(weights)
    for scene in scenes:
        scene_map.add(scene)
    return scene_map


def classes_at(scene_map: SceneMap, voxels: np.ndarray) -> np.ndarray:
    """(n,) int64 classes of a map at ascending voxels (n, 3); 255 where it knows nothing."""
    known, probabilities, _ = scene_map.probabilities()
    known, wanted = ((v + (1 << 20)) @ [1 << 42, 1 << 21, 1] for v in (known, voxels))
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    classes = probabilities.argmax(axis=1)[place]
    return np.where(known[place] == wanted, classes, IGNORE_INDEX)


def room_counts(path: str, weights: list[Weights], seed: int, views: int, index: int) -> dict:
    """{(way, voxels): (12, 12) counts, rows truth}, and under "refused" the number of frames."""
    walk, scenes = make_walk(seed, "test", index, views), []
    for view in walk.views:
        try:
            scenes.append(completer_of(path)(view.rgb, view.depth, NYU_INTRINSICS, view.pose))
        except InputError:
            continue
    counts = {"refused": views - len(scenes)}
    return counts | _compare(walk, scenes, weights) if scenes else counts


def _compare(walk: Walk, scenes: list[CompletedScene], weights: list[Weights]) -> dict:
    voxels = fuse(scenes, Weights()).probabilities()[0]
    truth = walk.labels_at(voxels).astype(np.int64)
    single = [classes_at(fuse([scene], Weights()), voxels) for scene in scenes]
    last = np.full(len(voxels), IGNORE_INDEX)
    for classes in single:
        last = np.where(classes == IGNORE_INDEX, last, classes)
    ways = {LAST: last}
    ways |= {f"fused, {tuple(w)}": classes_at(fuse(scenes, w), voxels) for w in weights}
    counts = defaultdict(lambda: np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64))

    def count(name: tuple[str, str], classes: np.ndarray, where: np.ndarray) -> None:
        classes = np.where(classes == IGNORE_INDEX, 0, classes)
        where = where & (truth != IGNORE_INDEX)
        arrays = map(torch.from_numpy, (truth, classes, where))
        counts[name] += confusion_matrix(*arrays, NUM_CLASSES).numpy()

    for classes in single:
        known = classes != IGNORE_INDEX
        count((SINGLE, ANY), classes, np.ones_like(known))
        count((SINGLE, OWN), classes, known)
        for way, result in ways.items():
            count((way, OWN), result, known)
    for way, result in ways.items():
        count((way, ANY), result, np.ones(len(voxels), bool))
    return dict(counts)


def scores(counts: np.ndarray) -> tuple[float, float]:
    """SC IoU and SSC mIoU, per cent."""
    solid = np.add.reduceat(np.add.reduceat(counts, [0, 1], axis=0), [0, 1], axis=1)
    sc, ssc = (class_ratios(torch.from_numpy(c))["iou"][1:] for c in (solid, counts))
    return sc.item(), ssc.mean().item()


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pretrained_path", default="checkpoint/nyu_small_student.pth")
    parser.add_argument("--weights", nargs="+", metavar="S,F,H,O", default=[])
    args = parser.parse_args()
    weights = [Weights(*map(float, words.split(","))) for words in args.weights] or [Weights()]

    room = partial(room_counts, args.pretrained_path, weights, args.seed, args.views)
    total, rooms = defaultdict(int), range(args.rooms)
    with ProcessPoolExecutor(args.workers) as pool:
        for counts in tqdm(pool.map(room, rooms), total=args.rooms):
            for key, value in counts.items():
                total[key] += value
    refused = total.pop("refused")
    print(f"{args.rooms} rooms, {args.views} views each, {refused} frames refused\n")
    columns = [f"{score}, {where}" for where in (ANY, OWN) for score in ("SC IoU", "SSC mIoU")]
    print_header(["", *columns])
    for way in dict.fromkeys(way for way, _ in total):
        cells = [score for where in (ANY, OWN) for score in scores(total[way, where])]
        print_row(way, *(f"{cell:.1f}" for cell in cells))


if __name__ == "__main__":
    main()
