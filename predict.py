"""Complete RGB-D frames of your own camera: labelled voxels, point clouds, meshes and pictures.

    python predict.py --rgb a.png --depth b.png --camera kinect-v2 \\
        --pretrained_path checkpoint/nyu_small_student.pth --output out
    python predict.py --rgb frames --depth frames --intrinsics camera.json --depth-unit mm ...

Colour and depth must show the same view in the same size. Folders are read as pairs of files whose
names differ in words like rgb, color and depth; --list names the pairs one a line. Writes
NAME.npz, .ply, .glb, .png and .html for each frame; docs/YOUR_FRAME.md says what is in them.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from config import parse_settings
from datasets.files import read_depth_image, read_rgb
from datasets.frames.cameras import (
    PRESET_DEPTH_UNITS,
    PRESETS,
    check_intrinsics,
    preset_intrinsics,
    read_intrinsics,
    read_pose,
)
from datasets.frames.depth import UNITS, to_metres
from datasets.geometry import NYU_INTRINSICS
from errors import InputError, exit_on_input_error
from utils.completion import FORMATS, SceneCompleter

LOW_CONFIDENCE = 0.5
_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".ppm", ".bmp", ".npy"}
_KIND = re.compile(r"(?:^|[._-])(?:(rgb|colou?rs?|image)|(depth)|(pose))(?=$|[._-])", re.IGNORECASE)


class Files(NamedTuple):
    """One frame on disk."""

    name: str
    rgb: Path
    depth: Path
    pose: Path | None


def parse_arguments():
    parser = argparse.ArgumentParser(description="Complete RGB-D frames of your own camera.")
    parser.add_argument("--rgb", type=Path, help="colour image, or folder of them")
    parser.add_argument("--depth", type=Path, help="depth image (16-bit, or .npy), or folder")
    parser.add_argument("--list", type=Path, help="file with `rgb depth [pose]` of a frame a line")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint of a student")
    parser.add_argument("--output", type=Path, default="predictions", help="folder to write to")
    parser.add_argument(
        "--camera", choices=PRESETS, help="typical intrinsics and depth unit of a camera"
    )
    parser.add_argument(
        "--intrinsics", nargs="+", metavar="FILE|fx fy cx cy", help="3x3 text, JSON, or numbers"
    )
    parser.add_argument(
        "--depth-unit",
        metavar="|".join(UNITS) + "|NUMBER",
        help="of the depth image, or its units in a metre; default: mm, and metres for floats",
    )
    parser.add_argument(
        "--pose",
        type=Path,
        help="4x4 camera to world (Z up, floor at 0) or gravity's direction; default: estimated",
    )
    parser.add_argument(
        "--camera-height", type=float, help="metres above the floor, where no floor is in view"
    )
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--mesh", action="store_true", help="the .ply has cubes, not points")
    parser.add_argument("--device", help="cpu, cuda, ...; default: a GPU if there is one")
    args = parse_settings(parser)
    if (args.list is None) == (args.rgb is None or args.depth is None):
        parser.error("give --rgb and --depth, or --list")
    if args.camera and args.intrinsics:
        parser.error("give --camera or --intrinsics, not both")
    return args


def find_frames(args):
    """The frames of the command line, in order; InputError if there are none, or half ones."""
    if args.list is not None:
        frames = _listed_frames(args.list, args.pose)
    elif args.rgb.is_dir() and args.depth.is_dir():
        frames = _paired_frames(args.rgb, args.depth, args.pose)
    else:
        frames = [Files(_key(args.rgb) or args.rgb.stem, args.rgb, args.depth, args.pose)]
    inputs = {path.resolve() for frame in frames for path in (frame.rgb, frame.depth)}
    names = set()
    for name in (frame.name for frame in frames):
        if name in names:
            raise InputError(f"two frames would both be written as {name}: rename one")
        names.add(name)
        for kind in args.formats:
            if (args.output / f"{name}.{kind}").resolve() in inputs:
                raise InputError(f"{args.output}: {name}.{kind} is an input: use another --output")
    return frames


def _key(path):
    """What the files of a frame have in common: their name without words for what they are."""
    return _KIND.sub("", path.stem).strip("._-")


def _kind(path):
    """Whether a file's name says that it is colour (1), depth (2) or a pose (3); 0 if nothing."""
    match = _KIND.search(path.stem)
    return match.lastindex if match else 0


def _paired_frames(rgb_dir, depth_dir, pose):
    def files(folder, kind, suffixes=_IMAGES):
        paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes]
        found = {}
        for path in paths:
            # In a folder of its own, a file's name may be silent on what it is.
            if _kind(path) in ({kind} if shared else {0, kind}):
                other = found.setdefault(_key(path), path)
                if other is not path:
                    raise InputError(f"{other} and {path.name} are of the same frame: use --list")
        return found

    shared = rgb_dir.resolve() == depth_dir.resolve()
    rgb, depth = files(rgb_dir, 1), files(depth_dir, 2)
    if not rgb or not depth:
        raise InputError(
            f"{rgb_dir if not rgb else depth_dir}: no images whose names say that they are "
            f"{'colour' if not rgb else 'depth'}, like 0001_{'rgb' if not rgb else 'depth'}.png"
        )
    if rgb.keys() != depth.keys():
        lonely = sorted(rgb.keys() ^ depth.keys())
        path = rgb.get(lonely[0]) or depth[lonely[0]]
        raise InputError(f"{path}: its partner is missing, and {len(lonely) - 1} more; use --list")
    poses = {}
    if pose is not None and pose.is_dir():
        shared = pose.resolve() in (rgb_dir.resolve(), depth_dir.resolve())
        poses = files(pose, 3, {".txt"})
        if rgb.keys() - poses.keys():
            missing = min(rgb.keys() - poses.keys())
            raise InputError(f"{pose}: no pose for {rgb[missing]}")
    return [
        Files(key or rgb[key].stem, rgb[key], depth[key], poses.get(key, pose))
        for key in sorted(rgb)
    ]


def _listed_frames(path, pose):
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable list ({error})") from None
    frames = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) not in (2, 3):
            raise InputError(f"{path}, line {number}: write `rgb depth [pose]`")
        rgb, depth, *own = (path.parent / word for word in words)
        frames.append(Files(_key(rgb) or rgb.stem, rgb, depth, own[0] if own else pose))
    if not frames:
        raise InputError(f"{path}: no frames in it; write `rgb depth [pose]`, one a line")
    return frames


def intrinsics_of(args, shape):
    """Intrinsics for images of this shape, and what was believed: ((3, 3), str or None)."""
    if args.camera:
        return preset_intrinsics(args.camera, shape), None
    if args.intrinsics is None:
        if shape != (480, 640):
            raise InputError("give the camera by --camera or --intrinsics")
        return NYU_INTRINSICS, "camera: neither --camera nor --intrinsics given, taken as nyu"
    if len(args.intrinsics) == 1:
        return read_intrinsics(args.intrinsics[0], shape), None
    try:
        fx, fy, cx, cy = map(float, args.intrinsics)
    except ValueError:
        raise InputError("--intrinsics: give a file, or four numbers fx fy cx cy") from None
    return check_intrinsics([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], shape, "--intrinsics"), None


def complete_frame(completer, files, args):
    """Read, complete and write one frame; returns lines on what was believed."""
    rgb, raw = read_rgb(files.rgb), read_depth_image(files.depth)
    unit = args.depth_unit
    if unit is None and raw.dtype.kind != "f":
        unit = PRESET_DEPTH_UNITS.get(args.camera)
    depth, belief = to_metres(raw, unit, files.depth)
    beliefs = [belief]
    K, note = intrinsics_of(args, raw.shape)
    pose = None if files.pose is None else read_pose(files.pose)
    scene = completer(rgb, depth, K, pose, args.camera_height, files.name)
    estimate = scene.frame.estimate
    if estimate is not None:
        beliefs.append(estimate.belief)
        if estimate.confidence < LOW_CONFIDENCE:
            beliefs.append("low confidence: look at the picture, or give --pose")
    formats = args.formats
    if not scene.occupied.any():
        beliefs.append("no voxel is occupied: nothing to write as .ply and .glb")
        formats = [kind for kind in formats if kind not in ("ply", "glb")]
    for kind in formats:
        scene.save(args.output / f"{files.name}.{kind}", mesh=args.mesh)
    return beliefs if note is None else [note, *beliefs]


@exit_on_input_error
def main():
    args = parse_arguments()
    frames = find_frames(args)
    completer = SceneCompleter.from_checkpoint(args.pretrained_path, args.device, args.overrides)
    refused = 0
    for files in tqdm(frames, disable=len(frames) == 1, unit="frame"):
        try:
            lines = complete_frame(completer, files, args)
        except InputError as error:
            if len(frames) == 1:
                raise
            refused += 1
            tqdm.write(f"error: {files.name}: {error}", file=sys.stderr)
        else:
            tqdm.write("\n".join(f"{files.name}: {line}" for line in lines))
    print(f"written: {len(frames) - refused} of {len(frames)} frames to {args.output}")
    if refused:
        raise InputError(f"{refused} of {len(frames)} frames were refused, see above")


if __name__ == "__main__":
    main()
