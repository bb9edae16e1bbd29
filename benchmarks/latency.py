"""Time from an RGB-D frame to labelled voxels, whole and by part, as a Markdown table.

    python benchmarks/latency.py --pretrained_path checkpoint/nyu_small_student.pth
        [--device cpu] [--threads 2] [--rounds 9] [key.sub=value ...]

The frame is a generated room with sensor noise, 640x480. Medians over the rounds, after one that
does not count; reading the images and writing the files are not part of the call, and follow.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch

from config import parse_settings
from datasets.frames.cameras import to_nyu_view
from datasets.frames.depth import read_depth_image, read_rgb, to_metres
from datasets.frames.gravity import estimate_pose
from datasets.geometry import NYU_INTRINSICS
from datasets.rooms import make_room
from datasets.tsdf import tsdf_from_depth
from datasets.voxels import mapping_from_depth
from errors import exit_on_input_error
from utils.completion import FORMATS, SceneCompleter, prepare_frame


def median_ms(function, device, rounds):
    """Milliseconds that a call takes, and its last result."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        result = function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[1:])), result


@exit_on_input_error
def main():
    parser = argparse.ArgumentParser(description="Time of completing a frame, by part.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint of a student")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    args = parse_settings(parser)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    completer = SceneCompleter.from_checkpoint(args.pretrained_path, args.device, args.overrides)
    room = make_room(0, "test", 0)
    rgb, depth, K = room.rgb, room.depth, room.K

    def timed(name, function):
        milliseconds, result = median_ms(function, completer.device, args.rounds)
        print(f"| {name} | {milliseconds:.1f} |", flush=True)
        return result

    model = sum(p.numel() for p in completer.model.parameters()) / 1e6
    print(f"{args.pretrained_path}, {model:.1f} M parameters, {completer.device}, ", end="")
    print(f"{args.threads} threads, {completer.precision}\n\n| part | ms |\n|---|---|")
    timed("**whole call**, pose estimated", lambda: completer(rgb, depth, K))
    timed("**whole call**, pose given", lambda: completer(rgb, depth, K, room.pose))
    frame = timed(
        "preparing the frame, pose given", lambda: prepare_frame(rgb, depth, K, room.pose)
    )
    timed("- depth check", lambda: to_metres(depth))
    timed("- resampling to NYUv2's view", lambda: to_nyu_view(rgb, depth, NYU_INTRINSICS))
    geometry = NYU_INTRINSICS, frame.pose, frame.origin
    timed("- mapping", lambda: mapping_from_depth(depth, *geometry, keep_unmeasured=False))
    timed("- TSDF", lambda: tsdf_from_depth(depth, *geometry, keep_unmeasured=False))
    timed("pose estimation", lambda: estimate_pose(depth, K))
    scene = timed("network, softmax and labels", lambda: completer.complete(frame))
    with tempfile.TemporaryDirectory() as folder:
        rgb_path, depth_path = Path(folder) / "rgb.png", Path(folder) / "depth.png"
        cv2.imwrite(str(rgb_path), rgb[..., ::-1])
        cv2.imwrite(str(depth_path), np.rint(depth * 1000).astype(np.uint16))
        timed("reading both PNGs", lambda: (read_rgb(rgb_path), read_depth_image(depth_path)))
        for kind in FORMATS:
            timed(f"writing .{kind}", lambda: scene.save(Path(folder) / f"scene.{kind}"))  # noqa: B023


if __name__ == "__main__":
    main()
