"""Raw NYUv2 and SSCNet files -> the folder that training reads; see docs/DATA.md.

python prepare_NYU.py cad --root NYU --out NYUCAD [--poses poses.npz]
"""

import argparse
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

# Scenes are the unit of parallel work: more threads inside a worker would only get in the way.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from constants import GRID, NUM_VOXELS  # noqa: E402
from datasets.arrays import read_array, write_arrays  # noqa: E402
from datasets.geometry import check_pose  # noqa: E402
from datasets.tsdf import tsdf_from_labels  # noqa: E402
from errors import InputError, exit_on_input_error  # noqa: E402


@exit_on_input_error
def main():
    args = parse_args()
    args.run(args)


def cad(args):
    """TSDF-CAD of every scene with labels."""
    scenes = sorted(scene_id(path.stem) for path in Path(args.root, "Label").glob("*.npz"))
    if not scenes:
        raise InputError(f"{args.root}/Label: no xxxx.npz label files there; is --root right?")
    poses = read_poses(args.poses)
    tasks = [
        (scene, args.root, args.out, poses.get(scene))
        for scene in scenes
        if not is_intact(Path(args.out, "TSDF", f"{scene}.npz"))
    ]
    print(f"{len(scenes)} scenes, {len(scenes) - len(tasks)} done before")
    run_parallel(cad_scene, tasks, args.workers)


def cad_scene(task):
    scene, root, out, camera = task
    labels = read_array(Path(root, "Label", f"{scene}.npz"), shape=(NUM_VOXELS,)).reshape(GRID)
    if camera is None:
        raise InputError(f"{scene}: no pose")
    tsdf = tsdf_from_labels(labels, *camera)
    write_arrays(Path(out, "TSDF", f"{scene}.npz"), tsdf.reshape(-1))


def read_poses(path):
    """{scene: (pose, origin)} of an .npz with ids, cam_pose (n, 4, 4) and vox_origin (n, 3)."""
    if path is None:
        return {}
    ids = [scene_id(name) for name in read_array(path, "ids")]
    poses = read_array(path, "cam_pose", (len(ids), 4, 4))
    origins = read_array(path, "vox_origin", (len(ids), 3))
    return {
        scene: (check_pose(pose, f"{path}: scene {scene}"), origin)
        for scene, pose, origin in zip(ids, poses, origins, strict=True)
    }


def scene_id(name):
    """The four digits of a scene name such as 0003 or NYU0003. Names become paths: nothing else passes."""
    match = re.fullmatch(r"(?:NYU)?(\d{4})", str(name), re.ASCII)
    if not match:
        raise InputError(f"{name!r} is not a scene: expected four digits, as in 0003 or NYU0003")
    return match[1]


def is_intact(path, keys=("arr_0",)):
    if not path.exists():
        return False
    try:
        return all(np.isfinite(read_array(path, key, (NUM_VOXELS,))).all() for key in keys)
    except InputError:
        return False


def run_parallel(function, tasks, workers):
    """function(task) for every task, task[0] being the scene; one bad scene does not stop the others."""
    failed = 0
    with ProcessPoolExecutor(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = {pool.submit(function, task): task[0] for task in tasks}
        for future in tqdm(as_completed(futures), total=len(tasks), unit="scene"):
            try:
                future.result()
            except InputError as error:
                failed += 1
                tqdm.write(f"error: {futures[future]}: {error}", file=sys.stderr)
            except BrokenProcessPool:
                raise InputError(
                    "a worker process died, probably for lack of memory: run again with fewer "
                    "--workers; what is done is kept"
                ) from None
    if failed:
        raise InputError(f"{failed} of {len(tasks)} scenes failed, the others are done")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("cad", help="TSDF-CAD from the ground-truth voxels")
    command.add_argument("--root", required=True, help="prepared folder with Label/ and Mapping/")
    command.add_argument("--out", required=True, help="where TSDF/xxxx.npz go")
    command.add_argument("--poses", help=".npz with ids, cam_pose, vox_origin")
    command.set_defaults(run=cad)
    for command in commands.choices.values():
        command.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
