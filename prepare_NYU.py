"""Raw NYUv2 and SSCNet files -> the folders that training reads (docs/DATA.md).

    # everything, from the SSCNet release and the images of NYUv2
    python prepare_NYU.py raw --depthbin depthbin --rgb nyu_depth_v2_labeled.mat --out data/NYU
    # TSDF-CAD from the ground-truth voxels, where NYUCAD's depth is not at hand
    python prepare_NYU.py cad --root data/NYU --out data/NYUCAD
    # is a prepared folder sound? and a picture of a few scenes
    python prepare_NYU.py check --root data/NYU

All scenes in parallel. What exists and is intact is kept, so a run that was stopped goes on.
"""

# ruff: noqa: E402  (threads are limited before NumPy is imported)
import argparse
import io
import itertools
import math
import os
import re
import sys
import zlib
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

# Scenes are the unit of parallel work: more threads inside a worker would only get in the way.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from constants import CLASS_NAMES, IGNORE_INDEX, NO_PIXEL, NUM_CLASSES
from datasets import nyu
from datasets.arrays import one_line
from datasets.geometry import NYU_INTRINSICS, NYUCAD_INTRINSICS
from datasets.poses import missed_voxels, read_poses, recover_pose, scene_id
from datasets.tsdf import tsdf_from_depth, tsdf_from_labels
from datasets.voxels import (
    downsample_labels,
    label_weight,
    mapping_from_depth,
    read_bin,
    read_depth,
)
from errors import InputError, exit_on_input_error
from utils.files import atomic_file, check_writable, write_text
from utils.pictures.overview import draw_overview

MAX_CHUNK = 1 << 26  # values that HDF5 unpacks at once
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}

OFFICIAL_COUNTS = {"train": 795, "test": 654}


@exit_on_input_error
def main():
    args = parse_args()
    args.command(args)


# ---- raw ------------------------------------------------------------------------------------


def raw(args):
    depthbin, out = Path(args.depthbin), Path(args.out)
    out_cad = Path(args.out_cad) if args.out_cad else out.parent / "NYUCAD"
    if out_cad.resolve() == out.resolve():
        raise InputError(f"--out {out} is also the folder of NYUCAD: give --out-cad another one")
    nyu_frames = {split: find_frames(depthbin / f"NYU{split}") for split in nyu.SPLITS}
    cad_frames = {split: find_frames(depthbin / f"NYUCAD{split}") for split in nyu.SPLITS}
    if not any((*nyu_frames.values(), *cad_frames.values())):
        raise InputError(
            f"{depthbin}: no NYUxxxx_0000.png and .bin in its folders NYUtrain, NYUtest, "
            "NYUCADtrain, NYUCADtest; is --depthbin right?"
        )
    images = find_images(Path(args.rgb))

    tasks, missing = [], defaultdict(list)
    for split in nyu.SPLITS:
        for scene in sorted(nyu_frames[split].keys() | cad_frames[split].keys()):
            frame, cad_frame = nyu_frames[split].get(scene, {}), cad_frames[split].get(scene, {})
            for what, found in (
                ("NYU depth .png", ".png" in frame),
                ("NYU .bin", ".bin" in frame),
                ("RGB image", scene in images),
                ("NYUCAD depth .png", ".png" in cad_frame),
                ("NYUCAD .bin", ".bin" in cad_frame),
            ):
                if not found:
                    missing[split, what].append(scene)
            if len(frame) == 2:
                tasks.append((scene, prepare_nyu, frame, scene, out))
            if len(cad_frame) == 2:
                tasks.append((scene, prepare_nyucad, cad_frame, scene, out_cad))
            if scene in images:
                tasks.append((scene, prepare_image, images[scene], scene, out / split / "RGB"))
    try:
        run_parallel(tasks, args.workers)
    finally:
        for split in nyu.SPLITS:
            complete = [scene for scene in sorted(nyu_frames[split]) if is_whole(out, split, scene)]
            if complete:
                write_text(out / f"{split}.txt", "".join(f"{scene}\n" for scene in complete))
            print(f"{split}: {len(complete)} of {OFFICIAL_COUNTS[split]} scenes complete")
        for (split, what), scenes in missing.items():
            more = ", ..." if len(scenes) > 5 else ""
            print(
                f"missing: {what} of {len(scenes)} {split} scenes ({', '.join(scenes[:5])}{more})"
            )


def find_frames(folder):
    """{scene: {".png": path, ".bin": path}} of a folder of the SSCNet release; empty without it."""
    frames = defaultdict(dict)
    for path in sorted(folder.glob("NYU*_0000.*")):
        match = re.fullmatch(r"NYU([0-9]{4})_0000(\.png|\.bin)", path.name)
        if match:
            frames[match[1]][match[2]] = path
    return frames


class BoundedFile(io.FileIO):
    """A file for HDF5, which else reads as much as a damaged file asks for, past its end too."""

    def readinto(self, buffer):
        size = memoryview(buffer).nbytes
        if size > MAX_CHUNK or super().readinto(buffer) != size:
            raise OSError(f"{size} bytes are to be read at once, or behind the end")
        return size


def open_images(file):
    """The data set `images` of an open .mat, if it lies in it and can be unpacked within bounds."""
    if not isinstance(file.get("images", getlink=True), h5py.HardLink):
        raise ValueError("images lies in another file, or nowhere")
    images = file["images"]
    if images.is_virtual or images.external:
        raise ValueError("images lies in another file")
    if math.prod(images.chunks or ()) > MAX_CHUNK:
        raise ValueError(f"images has chunks of more than {MAX_CHUNK} values")
    if not set(filters := filters_of(images)) <= FILTERS or len(filters) > len(set(filters)):
        raise ValueError("images is packed by other methods than MATLAB's")
    return images


def filters_of(dataset):
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


def read_frame(images, index):
    """Image `index`, (3, 640, 480), once its chunks are known to unpack to what they should.

    HDF5 itself unpacks as much as there is.
    """
    filters = filters_of(images)
    if h5py.h5z.FILTER_DEFLATE in filters:
        skipped = 1 << filters.index(h5py.h5z.FILTER_DEFLATE)
        size = math.prod(images.chunks)
        first, *others = images.chunks
        starts = [range(0, n, c) for n, c in zip(images.shape[1:], others, strict=True)]
        for start in itertools.product([index // first * first], *starts):
            mask, packed = images.id.read_direct_chunk(start)
            unpacked = b"" if mask & skipped else zlib.decompressobj().decompress(packed, size + 1)
            if len(unpacked) > size:
                raise ValueError("a chunk is longer than it should be")
    return images[index]


def find_images(source):
    """{scene: image file, or (mat file, index)}; source: nyu_depth_v2_labeled.mat or a folder."""
    if source.is_dir():
        suffixes = "|".join(map(re.escape, nyu.IMAGE_SUFFIXES))
        name = re.compile(f"NYU([0-9]{{4}})(?:{suffixes})")
        paths = sorted(source.rglob("NYU*"))
        images = {match[1]: path for path in paths if (match := name.fullmatch(path.name))}
        if not images:
            raise InputError(f"{source}: no images NYUxxxx_rgb.png or .jpg in it; is --rgb right?")
        return images
    try:
        with BoundedFile(source) as raw, h5py.File(raw) as file:
            shape, dtype = open_images(file).shape, file["images"].dtype
    except Exception as error:  # whatever HDF5 has in store for damaged files
        raise InputError(
            f"{source}: neither a folder nor the HDF5 file nyu_depth_v2_labeled.mat with images "
            f"({one_line(error)}); is --rgb right?"
        ) from None
    if len(shape) != 4 or shape[1:] != (3, 640, 480) or dtype != np.uint8 or shape[0] > 9999:
        raise InputError(f"{source}: images is {dtype} {shape}, expected uint8 (n, 3, 640, 480)")
    return {f"{index + 1:04d}": (source, index) for index in range(shape[0])}


def prepare_nyu(frame, scene, out):
    """Label, Mapping, TSDF and label weight of a raw frame. False if they were there already."""
    files = [Path(out, folder, f"{scene}.npz") for folder in ("Label", "Mapping", "TSDF")]
    label_file, mapping_file, tsdf_file = files
    readers = (nyu.read_label, nyu.read_mapping, nyu.read_tsdf, nyu.read_label_weight)
    if all(map(is_intact, (*files, tsdf_file), readers)):
        return False
    depth, (labels, pose, origin) = read_depth(frame[".png"]), read_bin(frame[".bin"])
    label = downsample_labels(labels)
    mapping = mapping_from_depth(depth, NYU_INTRINSICS, pose, origin)
    tsdf = tsdf_from_depth(depth, NYU_INTRINSICS, pose, origin)
    weight = label_weight(label, tsdf)
    write_arrays(label_file, label.reshape(-1))
    write_arrays(mapping_file, mapping.reshape(-1))
    write_arrays(tsdf_file, tsdf.reshape(-1), weight.reshape(-1).astype(np.uint8))
    return True


def prepare_nyucad(frame, scene, out):
    """TSDF-CAD of a frame of NYUCAD. False if it was there already."""
    file = Path(out, "TSDF", f"{scene}.npz")
    if is_intact(file, nyu.read_tsdf):
        return False
    depth, (_, pose, origin) = read_depth(frame[".png"]), read_bin(frame[".bin"])
    write_arrays(file, tsdf_from_depth(depth, NYUCAD_INTRINSICS, pose, origin).reshape(-1))
    return True


def prepare_image(source, scene, folder):
    """Copy an image, or take it out of the .mat. False if it was there already."""
    from_mat = isinstance(source, tuple)
    file = Path(folder, f"NYU{scene}_rgb{'.png' if from_mat else source.suffix}")
    if is_intact(file, nyu.read_image):
        return False
    if from_mat:
        path, index = source
        try:
            with BoundedFile(path) as raw, h5py.File(raw) as mat:
                image = read_frame(open_images(mat), index).transpose(
                    2, 1, 0
                )  # MATLAB's axes are reversed
        except Exception as error:  # whatever HDF5 has in store for damaged files
            raise InputError(f"{path}: image {index} cannot be read ({one_line(error)})") from None
        data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    else:
        nyu.read_image(source)
        data = source.read_bytes()
    with atomic_file(file) as target:
        target.write(data)
    return True


def is_whole(root, split, scene):
    images = [root / split / "RGB" / f"NYU{scene}_rgb{suffix}" for suffix in (".png", ".jpg")]
    arrays = [root / folder / f"{scene}.npz" for folder in ("Label", "Mapping", "TSDF")]
    return any(map(Path.exists, images)) and all(map(Path.exists, arrays))


# ---- cad ------------------------------------------------------------------------------------


def cad(args):
    root, out = Path(args.root), Path(args.out)
    label_files = {
        scene_id(path.stem): path
        for folder in ("Label", "Mapping/trainset/GT", "Mapping/testset/GT")
        for path in sorted((root / folder).glob("*.npz"))
    }
    if not label_files:
        raise InputError(f"{root}/Label: no label files xxxx.npz in it; is --root right?")
    cameras, bins = {}, {}
    if args.poses and Path(args.poses).is_dir():
        # Sorted, NYUCADtrain comes before NYUtrain: NYU's own camera and labels win.
        paths = sorted(Path(args.poses).rglob("NYU*_0000.bin"))
        bins = {scene_id(path.name.removesuffix("_0000.bin")): path for path in paths}
        if not bins:
            raise InputError(f"{args.poses}: no NYUxxxx_0000.bin in it")
    elif args.poses:
        cameras = read_poses(args.poses)
    if args.fine and not bins:
        raise InputError(
            "--fine needs --poses FOLDER with the .bin files that hold the 2 cm labels"
        )
    run_parallel(
        [
            (
                scene, prepare_cad, label_file, root / "Mapping" / f"{scene}.npz",
                cameras.get(scene), bins.get(scene), args.fine, out / "TSDF" / f"{scene}.npz",
            )
            for scene, label_file in label_files.items()
        ],
        args.workers,
    )  # fmt: skip


def prepare_cad(label_file, mapping_file, camera, bin_file, fine, file):
    """TSDF-CAD of a scene from its labels. False if it was there already."""
    if is_intact(file, nyu.read_tsdf):
        return False
    if bin_file:
        labels, *camera = read_bin(bin_file)
    elif fine:
        raise InputError("no .bin file with its 2 cm labels in the folder of --poses")
    if not fine:
        labels = nyu.read_label(label_file)
    if camera is None:
        mapping = nyu.read_mapping(mapping_file)
        try:
            camera = recover_pose(mapping)
        except InputError as error:
            raise InputError(f"{mapping_file}: {error}; or give --poses") from None
    write_arrays(file, tsdf_from_labels(labels, *camera).reshape(-1))
    return True


# ---- check ----------------------------------------------------------------------------------


def check(args):
    root = Path(args.root)
    cad_root = Path(args.cad_root or nyu.cad_folder(root))
    if not args.cad_root and not cad_root.is_dir():
        cad_root = None
    scenes = {split: nyu.find_scenes(root, split, cad_root) for split in nyu.SPLITS}
    both = {s.id for s in scenes["train"]} & {s.id for s in scenes["test"]}
    if both:
        raise InputError(f"{root}: scene {min(both)} is in train and in test")

    known = {scene.id: scene for split in nyu.SPLITS for scene in scenes[split]}
    unknown = [name for name in map(scene_id, args.scenes) if name not in known]
    if unknown:
        raise InputError(f"{root}: no scene {unknown[0]} in it to draw")
    check_writable(args.picture)

    results = {}
    tasks = [(scene.id, check_scene, scene) for split in nyu.SPLITS for scene in scenes[split]]
    try:
        run_parallel(tasks, args.workers, results)
    finally:
        for split in nyu.SPLITS:
            sound = [results[scene.id] for scene in scenes[split] if scene.id in results]
            print_summary(split, len(scenes[split]), sound)
    ids = [scene_id(name) for name in args.scenes] or list(results)[:: max(1, len(results) // 3)][
        :3
    ]
    figure = draw_overview([known[name] for name in ids])
    with atomic_file(args.picture) as file:
        figure.savefig(file, format="png", dpi=80)
    print(f"overview of {', '.join(ids)}: {args.picture}")


def check_scene(scene):
    """Counts of a sound scene, as a dict. Raises InputError for the first thing that is wrong."""
    nyu.read_image(scene.image)
    label, mapping = nyu.read_label(scene.label), nyu.read_mapping(scene.mapping)
    tsdf, weight = nyu.read_tsdf(scene.tsdf), nyu.read_label_weight(scene.tsdf)
    nyu.invert_mapping(mapping, scene.mapping)
    wrong = int((weight != label_weight(label, tsdf)).sum())
    if wrong:
        raise InputError(
            f"{scene.tsdf}: label weight (arr_1) is not 1 exactly on objects and where the TSDF is "
            f"below -0.5 ({wrong} voxels); was it made with other labels?"
        )
    try:
        pose, _ = recover_pose(mapping)
    except InputError as error:
        raise InputError(f"{scene.mapping}: {error}") from None
    if scene.tsdf_cad is not None:
        nyu.read_tsdf(scene.tsdf_cad)
    scored = weight & (label != IGNORE_INDEX)
    return {
        "classes": np.bincount(label.reshape(-1), minlength=256)[
            [*range(NUM_CLASSES), IGNORE_INDEX]
        ],
        "mapped": int((mapping != NO_PIXEL).sum()),
        "ssc": int(scored.sum()),
        "sc": int((scored & (mapping == NO_PIXEL)).sum()),
        "misses": missed_voxels(mapping, pose),
        "cad": scene.tsdf_cad is not None,
    }


def print_summary(split, count, sound):
    print(f"{split}: {count} scenes (NYUv2 has {OFFICIAL_COUNTS[split]}), {len(sound)} sound")
    if not sound:
        return
    mapped = [result["mapped"] for result in sound]
    print(
        f"  mapped pixels {min(mapped)}..{max(mapped)}, mean {np.mean(mapped):.0f}; rays that miss "
        f"their voxel: at most {max(result['misses'] for result in sound):.2%} of a scene\n"
        f"  voxels scored: SSC {sum(result['ssc'] for result in sound)}, "
        f"SC {sum(result['sc'] for result in sound)}; "
        f"TSDF-CAD of {sum(result['cad'] for result in sound)} scenes"
    )
    totals = sum(result["classes"] for result in sound)
    names = (*CLASS_NAMES, "ignored")
    print("  " + ", ".join(f"{n} {total}" for n, total in zip(names, totals, strict=True)))


# ---- shared ---------------------------------------------------------------------------------


def is_intact(file, read):
    """Whether a prepared file exists and can be read."""
    try:
        read(file)
    except InputError:
        return False
    return True


def write_arrays(path, *arrays):
    """Write arr_0, arr_1, ... as a compressed .npz."""
    with atomic_file(path) as file:
        np.savez_compressed(file, *arrays)


def run_parallel(tasks, workers, results=None):
    """function(*args) for every task (scene, function, *args); results[scene] = what it returns.

    A scene that fails gives one line; the others go on, and an InputError at the end says how many
    failed.
    """
    failed = kept = 0
    executor = ProcessPoolExecutor if workers > 1 else ThreadPoolExecutor
    with executor(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        futures = {pool.submit(*task[1:]): task[0] for task in tasks}
        try:
            for future in tqdm(as_completed(futures), total=len(tasks)):
                scene = futures[future]
                try:
                    result = future.result()
                except (InputError, OSError) as error:
                    failed += 1
                    tqdm.write(f"error: scene {scene}: {error}", file=sys.stderr)
                    continue
                kept += result is False
                if results is not None:
                    results[scene] = result
        except BrokenProcessPool:
            raise InputError(
                "a worker process died, probably for lack of memory: run again with fewer "
                "--workers; what is done is kept"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if kept:
        print(f"{kept} of {len(tasks)} were there already")
    if failed:
        raise InputError(f"{failed} of {len(tasks)} failed (named above); the others are done")


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="{raw,cad,check}")

    command = commands.add_parser("raw", help="everything, from the SSCNet release and NYUv2")
    command.add_argument(
        "--depthbin", required=True, help="folder with NYUtrain, NYUtest, NYUCAD..."
    )
    command.add_argument(
        "--rgb", required=True, help="nyu_depth_v2_labeled.mat, or a folder of images"
    )
    command.add_argument("--out", required=True, help="the folder to make")
    command.add_argument("--out-cad", help="the folder for TSDF-CAD; default: NYUCAD beside --out")
    command.set_defaults(command=raw)

    command = commands.add_parser("cad", help="TSDF-CAD, from ground-truth voxels")
    command.add_argument("--root", required=True, help="prepared folder with Label and Mapping")
    command.add_argument("--out", required=True, help="the folder for TSDF-CAD")
    command.add_argument(
        "--poses",
        help=".npz with ids, cam_pose, vox_origin, or a folder with the .bin files; "
        "default: recovered from Mapping",
    )
    command.add_argument(
        "--fine", action="store_true", help="take the 2 cm labels of the .bin files"
    )
    command.set_defaults(command=cad)

    command = commands.add_parser("check", help="validate a prepared folder, draw a few scenes")
    command.add_argument("--root", required=True, help="prepared folder")
    command.add_argument(
        "--cad-root", help="default: ROOT/cad, or NYUCAD beside ROOT, if it exists"
    )
    command.add_argument(
        "--scenes", nargs="*", default=[], help="the scenes to draw; default: three"
    )
    command.add_argument(
        "--picture", default="visual_pred/check_NYU.png", help="where to draw them"
    )
    command.set_defaults(command=check)

    for command in commands.choices.values():
        command.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


if __name__ == "__main__":
    main()
