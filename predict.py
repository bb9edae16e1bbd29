"""Complete RGB-D frames of your own camera: labelled voxels, point clouds, meshes and pictures.

    python predict.py --rgb a.png --depth b.png --camera kinect-v2 \\
        --pretrained_path checkpoint/nyu_small_student.pth --output out
    python predict.py --rgb frames --depth frames --intrinsics camera.json --depth-unit mm ...

Colour and depth must show the same view in the same size. Folders are read as pairs of files whose
names differ in words like rgb, color and depth; --list names the pairs one a line. Writes
NAME.npz, .ply, .glb, .png and .html for each frame; docs/YOUR_FRAME.md says what is in them.
"""

import argparse
import itertools
import re
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config import parse_settings
from constants import IMAGE_SIZE
from datasets.files import read_depth_image, read_rgb
from datasets.frames import cameras
from datasets.frames.depth import UNITS, to_metres
from datasets.frames.finding import FrameFiles, find_frames
from datasets.geometry import NYU_INTRINSICS
from errors import InputError, exit_on_input_error
from utils.completion import FORMATS, SceneCompleter
from utils.files import check_writable

_SETTING = re.compile(r"[a-z_]+(\.[a-z0-9_]+)+=")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Complete RGB-D frames of your own camera.")
    add = parser.add_argument
    add("--rgb", type=Path, nargs="+", help="colour images, or folder of them")
    add("--depth", type=Path, nargs="+", help="depth images (16-bit, or .npy), or folder")
    add("--list", type=Path, help="file with `rgb depth [pose]` of a frame a line")
    add("--pretrained_path", required=True, help="checkpoint of a student")
    add("--output", type=Path, default="predictions", help="folder to write to")
    add("--camera", choices=cameras.PRESETS, help="typical intrinsics and depth unit of a camera")
    add("--intrinsics", nargs="+", metavar="FILE|fx fy cx cy", help="3x3 text, JSON, or numbers")
    unit = "of the depth image, or its units in a metre; default: mm, and metres for floats"
    add("--depth-unit", metavar="|".join(UNITS) + "|NUMBER", help=unit)
    pose = "4x4 camera to world (Z up, floor at 0) or gravity's direction; default: estimated"
    add("--pose", type=Path, help=pose)
    add("--camera-height", type=float, help="metres above the floor, where no floor is in view")
    add("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    add("--mesh", action="store_true", help="the .ply has cubes, not points")
    add("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    args = parse_settings(parser)
    for words in filter(None, (args.rgb, args.depth)):  # settings that follow belong to no option
        settings = [word for word in words if _SETTING.match(str(word)) and not word.exists()]
        args.overrides += map(str, settings)
        words[:] = [word for word in words if word not in settings]
    if (args.list is None) == (args.rgb is None or args.depth is None):
        parser.error("give --rgb and --depth, or --list")
    if args.camera and args.intrinsics:
        parser.error("give --camera or --intrinsics, not both")
    return args


def check_output(frames: list[FrameFiles], args: argparse.Namespace) -> None:
    """Raise InputError for an output that cannot be written, or that would replace an input."""
    inputs = {path.resolve() for frame in frames for path in (frame.rgb, frame.depth)}
    for name, kind in itertools.product((frame.name for frame in frames), args.formats):
        if (args.output / f"{name}.{kind}").resolve() in inputs:
            raise InputError(f"{args.output}: {name}.{kind} is an input: use another --output")
    check_writable(args.output / "frame")


def intrinsics_of(args: argparse.Namespace, shape: tuple[int, int]) -> np.ndarray:
    """Intrinsics (3, 3) for images of this shape; without any on the command line NYUv2's."""
    if args.camera:
        return cameras.preset_intrinsics(args.camera, shape)
    if args.intrinsics is None:
        if shape != IMAGE_SIZE:
            raise InputError("give the camera by --camera or --intrinsics")
        return NYU_INTRINSICS
    if len(args.intrinsics) == 1:
        return cameras.read_intrinsics(args.intrinsics[0], shape)
    try:
        fx, fy, cx, cy = map(float, args.intrinsics)
    except ValueError:
        raise InputError("--intrinsics: give a file, or four numbers fx fy cx cy") from None
    return cameras.check_intrinsics([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], shape, "--intrinsics")


def complete_frame(
    completer: SceneCompleter, files: FrameFiles, args: argparse.Namespace
) -> list[str]:
    """Read, complete and write one frame; returns lines on what was believed."""
    rgb, raw = read_rgb(files.rgb), read_depth_image(files.depth)
    unit = args.depth_unit
    if unit is None and raw.dtype.kind != "f":
        unit = cameras.PRESET_DEPTH_UNITS.get(args.camera)
    depth, belief = to_metres(raw, unit, files.depth)
    K, beliefs = intrinsics_of(args, raw.shape), [belief]
    if args.camera is None and args.intrinsics is None:
        beliefs.insert(0, "camera: neither --camera nor --intrinsics given, taken as nyu")
    pose = cameras.read_pose(files.pose) if isinstance(files.pose, Path) else files.pose
    scene = completer(rgb, depth, K, pose, args.camera_height, files.name)
    estimate = scene.frame.estimate
    if estimate is not None:
        beliefs.append(estimate.belief)
        if estimate.confidence < 0.5:
            beliefs.append("low confidence: look at the picture, or give --pose")
    formats = args.formats
    if not scene.occupied.any():
        beliefs.append("no voxel is occupied: nothing to write as .ply and .glb")
        formats = [kind for kind in formats if kind not in ("ply", "glb")]
    for kind in formats:
        scene.save(args.output / f"{files.name}.{kind}", mesh=args.mesh)
    return beliefs


@exit_on_input_error
def main() -> None:
    args = parse_arguments()
    frames, lacking, notes = find_frames(args.rgb, args.depth, args.list, args.pose)
    check_output(frames, args)
    for note in notes:
        print(note)
    for line in lacking:
        print(f"error: {line}", file=sys.stderr)
    completer = SceneCompleter.from_checkpoint(args.pretrained_path, args.device, args.overrides)
    total, refused = len(frames) + len(lacking), len(lacking)
    for files in tqdm(frames, disable=len(frames) == 1, unit="frame"):
        try:
            lines = complete_frame(completer, files, args)
        except InputError as error:
            if total == 1:
                raise
            refused += 1
            tqdm.write(f"error: {files.name}: {error}", file=sys.stderr)
        else:
            tqdm.write("\n".join(f"{files.name}: {line}" for line in lines))
    print(f"written: {total - refused} of {total} frames to {args.output}")
    if refused:
        raise InputError(f"{refused} of {total} frames were refused, see above")


if __name__ == "__main__":
    main()
