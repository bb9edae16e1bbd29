"""Complete RGB-D frames of your own camera: labelled voxels, point clouds, meshes and pictures.

    python predict.py --rgb a.png --depth b.png --camera kinect-v2 \\
        --pretrained_path checkpoint/nyu_small_student.pth --output out
    python predict.py --rgb frames --depth frames --intrinsics camera.json --depth-unit mm ...
    python predict.py --list frames.txt --fuse room.npz ...   # a walk with poses into one map

Colour and depth must show the same view, in the same proportions. Folders are read as pairs of
files whose names differ in words like rgb, color and depth; --list names the pairs one a line.
Writes NAME.npz, .ply, .glb, .png and .html for each frame; docs/YOUR_FRAME.md says what is in them,
and docs/SEQUENCES.md what becomes of a walk.
"""

import argparse
import itertools
import re
import sys
from pathlib import Path

from config import parse_settings
from constants import SCENE_FORMATS
from datasets.frames.cameras import PRESETS
from datasets.frames.depth import UNITS
from datasets.frames.finding import FrameFiles, find_frames
from datasets.frames.reading import FrameReader, stated_camera
from datasets.frames.turning import TURNS
from errors import InputError, exit_on_input_error
from utils.files import check_writable

_SETTING = re.compile(r"[a-z_]+(\.[a-z0-9_]+)+=")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Complete RGB-D frames of your own camera.")
    add = parser.add_argument
    add("--rgb", type=Path, nargs="+", help="colour images, or folder of them")
    add("--depth", type=Path, nargs="+", help="depth images (16-bit, or .npy), or folder")
    add("--list", type=Path, help="file with `rgb depth [pose]` of a frame a line")
    add("--pretrained_path", required=True, help="checkpoint of a student")
    add("--output", type=Path, help="folder to write to; default: predictions")
    fuse = "fuse all frames, each with a 4x4 pose, into one map: this file and its other --formats"
    add("--fuse", type=Path, metavar="ROOM.npz", help=fuse)
    up = "with --fuse: the direction of up in the world of the poses; default: 0 0 1"
    add("--up", nargs=3, type=float, metavar=("X", "Y", "Z"), help=up)
    add("--camera", choices=PRESETS, help="typical intrinsics and depth unit of a camera")
    add("--intrinsics", nargs="+", metavar="FILE|fx fy cx cy", help="camera file, or numbers")
    add("--crop", action="store_true", help="the images are a part of what --intrinsics are for")
    rectified = "the images are without the distortion that --intrinsics state (ROS: P, not K)"
    add("--rectified", action="store_true", help=rectified)
    unit = "of the depth image, or its units in a metre; default: mm, and metres for floats"
    add("--depth-unit", metavar="|".join(UNITS) + "|NUMBER", help=unit)
    pose = "4x4 camera to world (Z up, floor at 0) or gravity's direction; default: estimated"
    add("--pose", type=Path, help=pose)
    add("--camera-height", type=float, help="metres above the floor, where no floor is in view")
    turn = "degrees clockwise by which the images as stored (whatever EXIF says) are to be turned "
    turn += "to be upright; default: EXIF's, or as gravity, image and depth say"
    add("--rotate", type=int, choices=TURNS, help=turn)
    add("--formats", nargs="+", choices=SCENE_FORMATS, default=SCENE_FORMATS)
    add("--mesh", action="store_true", help="the .ply has cubes, not points")
    add("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")
    # As it comes, -1e-3 would be an option to argparse, not a number.
    parser._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.I)
    args = parse_settings(parser)
    for words in filter(None, (args.rgb, args.depth)):  # settings that follow belong to no option
        settings = [word for word in words if _SETTING.match(str(word)) and not word.exists()]
        args.overrides += map(str, settings)
        words[:] = [word for word in words if word not in settings]
    if args.fuse is None:
        if args.up is not None:
            parser.error("--up is of --fuse; for single frames give --pose")
        args.output = args.output or Path("predictions")
    else:
        if args.output is not None:
            parser.error("--fuse says where to write: leave --output out")
        if args.fuse.suffix[1:] not in SCENE_FORMATS:
            parser.error(f"--fuse {args.fuse}: a map is written as .{', .'.join(SCENE_FORMATS)}")
        args.output, args.formats = args.fuse.parent, {args.fuse.suffix[1:], *args.formats}
    if (args.list is None) == (args.rgb is None or args.depth is None):
        parser.error("give --rgb and --depth, or --list")
    if args.camera and args.intrinsics:
        parser.error("give --camera or --intrinsics, not both")
    return args


def check_output(frames: list[FrameFiles], args: argparse.Namespace) -> None:
    """Raise InputError for an output that cannot be written, or that would replace an input."""
    inputs = {path.resolve() for frame in frames for path in (frame.rgb, frame.depth)}
    names = [frame.name for frame in frames] if args.fuse is None else [args.fuse.stem]
    for name, kind in itertools.product(names, args.formats):
        if (args.output / f"{name}.{kind}").resolve() in inputs:
            raise InputError(f"{args.output}: {name}.{kind} is an input: use another --output")
    check_writable(args.output / "frame")


def frame_reader(args: argparse.Namespace) -> FrameReader:
    camera, name = None, "--intrinsics"
    if args.intrinsics is not None:
        camera = stated_camera(args.intrinsics, args.rectified)
        name = args.intrinsics[0] if len(args.intrinsics) == 1 else name
    return FrameReader(args.camera, camera, name, args.depth_unit, args.crop, args.rotate)


@exit_on_input_error
def main() -> None:
    args = parse_arguments()
    frames, lacking, notes = find_frames(args.rgb, args.depth, args.list, args.pose)
    check_output(frames, args)
    read = frame_reader(args)
    for note in notes:
        print(note)
    for line in lacking:
        print(f"error: {line}", file=sys.stderr)
    # Imported here, as they take seconds: --help and a wrong word are answered at once.
    from utils.completing import Completion
    from utils.completion import SceneCompleter

    completer = SceneCompleter.from_checkpoint(args.pretrained_path, args.device, args.overrides)
    how = args.output, args.formats, args.mesh, args.camera_height
    completion = Completion(completer, read, *how)
    if args.fuse is None:
        completion.complete_all(frames, len(lacking))
    else:
        completion.fuse(frames, args.up or (0, 0, 1), args.fuse.stem)


if __name__ == "__main__":
    main()
