"""Time from an RGB-D frame to labelled voxels, whole and by part, as a Markdown table.

    python benchmarks/latency.py --pretrained_path checkpoint/nyu_small_student.pth
        [--device cpu] [--threads 2] [--rounds 9] [key.sub=value ...]

The frame is a generated room with sensor noise, 640x480. Medians over the rounds, after one that
does not count; reading the images and writing the files are not part of the call, and follow. Last
comes predict.py as a command: on one frame, and what each further frame of a folder adds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch

from benchmarks.timing import frames_a_second, print_header, print_row, take_turns
from config import parse_settings
from constants import SCENE_FORMATS
from datasets.files import read_depth_image, read_rgb
from datasets.frames.cameras import to_nyu_view
from datasets.frames.depth import to_metres
from datasets.frames.frame import prepare_frame
from datasets.frames.gravity import estimate_pose
from datasets.geometry import NYU_INTRINSICS
from datasets.rooms import make_room
from datasets.tsdf import tsdf_from_depth
from datasets.voxels import mapping_from_depth
from errors import exit_on_input_error
from utils.completion import SceneCompleter

FURTHER_FRAMES = 16


def command(*words: object) -> float:
    """Seconds of CPU that predict.py takes with these arguments."""
    script, before = Path(__file__).resolve().parents[1] / "predict.py", os.times()
    subprocess.run([sys.executable, script, *map(str, words)], check=True, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])  # of children: user, system


@exit_on_input_error
def main() -> None:
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

    def timed(name: str, function: Callable) -> None:
        function()
        print_row(name, f"{1000 * take_turns([function], args.rounds)[0]:.1f}")

    model = sum(p.numel() for p in completer.model.parameters()) / 1e6
    print(f"{args.pretrained_path}, {model:.1f} M parameters, {completer.device}, ", end="")
    print(f"{args.threads} threads, {completer.precision}\n")
    print_header(["part", "ms"])
    timed("**whole call**, pose estimated", lambda: completer(rgb, depth, K))
    timed("**whole call**, pose given", lambda: completer(rgb, depth, K, room.pose))
    timed("preparing the frame, pose given", lambda: prepare_frame(rgb, depth, K, room.pose))
    timed("- depth check", lambda: to_metres(depth))
    timed("- resampling to NYUv2's view", lambda: to_nyu_view(rgb, depth, NYU_INTRINSICS))
    frame = prepare_frame(rgb, depth, K, room.pose)
    geometry = NYU_INTRINSICS, frame.pose, frame.origin
    timed("- mapping", lambda: mapping_from_depth(depth, *geometry, keep_unmeasured=False))
    timed("- TSDF", lambda: tsdf_from_depth(depth, *geometry, keep_unmeasured=False))
    timed("pose estimation", lambda: estimate_pose(depth, K))
    timed("network, softmax and labels", lambda: completer.complete(frame))
    scene = completer.complete(frame)
    with tempfile.TemporaryDirectory() as folder:
        rgb_path, depth_path = Path(folder) / "room_rgb.png", Path(folder) / "room_depth.png"
        cv2.imwrite(str(rgb_path), rgb[..., ::-1])
        cv2.imwrite(str(depth_path), np.rint(depth * 1000).astype(np.uint16))
        timed("reading both PNGs", lambda: (read_rgb(rgb_path), read_depth_image(depth_path)))
        for kind in SCENE_FORMATS:
            timed(f"writing .{kind}", partial(scene.save, Path(folder) / f"scene.{kind}"))

        words = ["--device", completer.device, "--depth-unit", "mm", "--formats", "npz"]
        words += ["--pretrained_path", args.pretrained_path, "--output", Path(folder) / "out"]
        cpu = []

        def complete(frames: Path) -> None:
            cpu.append(command("--rgb", frames, "--depth", frames, *words, *args.overrides))

        pair, counts = (rgb_path, depth_path), (1, 1 + FURTHER_FRAMES)
        rate, one = frames_a_second(complete, pair, Path(folder), counts)
        print()
        print_header(["predict.py as a command", ""])
        print_row("`--help`, seconds of CPU", f"{command('--help'):.2f}")
        print_row("one frame as .npz, seconds of clock, of CPU", f"{one:.1f}, {cpu[0]:.1f}")
        print_row("a folder as .npz, frames a second once it runs", f"{rate:.1f}")


if __name__ == "__main__":
    main()
