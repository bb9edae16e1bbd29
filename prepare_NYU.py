"""Raw NYUv2 and SSCNet files -> the folders that training reads (docs/DATA.md).

    # everything, from the SSCNet release and the images of NYUv2
    python prepare_NYU.py raw --depthbin depthbin --rgb nyu_depth_v2_labeled.mat --out data/NYU
    # TSDF-CAD from the ground-truth voxels, where NYUCAD's depth is not at hand
    python prepare_NYU.py cad --root data/NYU --out data/NYUCAD
    # is a prepared folder sound? and a picture of a few scenes
    python prepare_NYU.py check --root data/NYU

All scenes in parallel. What exists and is intact is kept, so a run that was stopped goes on.
"""

import argparse
import os
from pathlib import Path

from errors import exit_on_input_error


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="{raw,cad,check}", dest="command")
    raw = commands.add_parser("raw", help="everything, from the SSCNet release and NYUv2")
    cad = commands.add_parser("cad", help="TSDF-CAD, from ground-truth voxels")
    check = commands.add_parser("check", help="validate a prepared folder, draw a few scenes")
    path, needed = {"type": Path}, {"type": Path, "required": True}

    add = raw.add_argument
    add("--depthbin", **needed, help="folder with NYUtrain, NYUtest, NYUCAD...")
    add("--rgb", **needed, help="nyu_depth_v2_labeled.mat, or a folder of images")
    add("--out", **needed, help="the folder to make")
    add("--out-cad", **path, help="the folder for TSDF-CAD; default: NYUCAD beside --out")

    add = cad.add_argument
    add("--root", **needed, help="prepared folder with Label and Mapping")
    add("--out", **needed, help="the folder for TSDF-CAD")
    poses = ".npz with ids, cam_pose, vox_origin, or a folder with the .bin files; "
    add("--poses", **path, help=poses + "default: recovered from Mapping")
    add("--fine", action="store_true", help="take the 2 cm labels of the .bin files")

    add = check.add_argument
    add("--root", **needed, help="prepared folder")
    add("--cad-root", **path, help="default: ROOT/cad, or NYUCAD beside ROOT, if it exists")
    add("--scenes", nargs="*", default=[], help="the scenes to draw; default: three")
    add("--picture", **path, default="visual_pred/check_NYU.png", help="where to draw them")

    for command in raw, cad, check:
        command.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


@exit_on_input_error
def main() -> None:
    args = parse_args()
    # Imported here, as they take seconds: --help and a wrong word are answered at once.
    from utils.checking import check_folder
    from utils.preparation import prepare_cad, prepare_raw

    if args.command == "raw":
        out_cad = args.out_cad or args.out.parent / "NYUCAD"
        prepare_raw(args.depthbin, args.rgb, args.out, out_cad, args.workers)
    elif args.command == "cad":
        prepare_cad(args.root, args.out, args.poses, args.fine, args.workers)
    else:
        check_folder(args.root, args.cad_root, args.scenes, args.picture, args.workers)


if __name__ == "__main__":
    main()
