"""Generated rooms, prepared as NYUv2 is (docs/ROOMS.md): a data set without any download.

    python prepare_rooms.py --out data/rooms --train 200 --test 60 --seed 0
    python train_teacher.py --config ... data.root=data/rooms

All rooms in parallel. What exists and is intact is kept, so a run that was stopped goes on, and
larger numbers add rooms.
"""

# ruff: noqa: E402  (prepare_NYU limits threads before NumPy is imported)
import argparse
import json
import os
import tempfile
from pathlib import Path

from prepare_NYU import (
    is_intact,
    is_whole,
    prepare_image,
    prepare_nyu,
    prepare_nyucad,
    run_parallel,
)

# isort: split
import cv2

from datasets import nyu
from datasets.rooms import VERSION, make_room
from datasets.voxels import encode_depth, write_bin
from errors import InputError, exit_on_input_error
from utils.files import write_text

# Four digits name a scene, training rooms from 0001 on, test rooms from 5001 on: more rooms can be
# added to either.
FIRST_ID = {"train": 1, "test": 5001}
MAX_ROOMS = {"train": 5000, "test": 4999}


@exit_on_input_error
def main():
    args = parse_args()
    prepare_rooms(
        Path(args.out), {"train": args.train, "test": args.test}, args.seed, args.workers,
        args.keep_raw,
    )  # fmt: skip


def prepare_rooms(out, counts, seed=0, workers=1, keep_raw=False):
    """Make a folder of rooms: NYU's layout in `out`, TSDF-CAD in `out`/cad, raw files in `out`/raw.

    counts: {"train": rooms, "test": rooms}. Raises InputError for bad counts, a folder that cannot
    be written or was made with another seed or version, and if a room failed.
    """
    for split, count in counts.items():
        if not 0 <= count <= MAX_ROOMS[split]:
            raise InputError(f"--{split} {count}: use 0 to {MAX_ROOMS[split]} rooms")
    if not any(counts.values()):
        raise InputError("--train 0 --test 0: nothing to do")
    if seed < 0:
        raise InputError(f"--seed {seed}: use a whole number >= 0")
    _claim(out, {"seed": seed, "version": VERSION})
    names = {
        split: [f"{FIRST_ID[split] + index:04d}" for index in range(count)]
        for split, count in counts.items()
    }
    tasks = [
        (name, prepare_room, seed, split, index, name, out, keep_raw)
        for split in nyu.SPLITS
        for index, name in enumerate(names[split])
    ]
    try:
        run_parallel(tasks, workers)
    finally:
        for split in nyu.SPLITS:
            complete = [
                name
                for name in names[split]
                if is_whole(out, split, name) and (out / "cad" / "TSDF" / f"{name}.npz").exists()
            ]
            if complete:
                write_text(out / f"{split}.txt", "".join(f"{name}\n" for name in complete))
            print(f"{split}: {len(complete)} of {len(names[split])} rooms complete in {out}")


def prepare_room(seed, split, index, scene, out, keep_raw=False):
    """One room: raw files, then what prepare_NYU.py makes of them. False if all was there."""
    kept = {name: out / "raw" / path for name, path in raw_files(split, scene).items()}
    if _is_prepared(split, scene, out) and (not keep_raw or all(map(Path.exists, kept.values()))):
        return False
    # Raw files are made elsewhere, so that no half-written one is ever among the kept.
    with tempfile.TemporaryDirectory(dir=out, prefix=".raw-") as folder:
        files = {name: Path(folder, path) for name, path in raw_files(split, scene).items()}
        write_raw(make_room(seed, split, index), files)
        prepare_nyu({".png": files["depth"], ".bin": files["labels"]}, scene, out)
        prepare_nyucad({".png": files["CAD depth"], ".bin": files["labels"]}, scene, out / "cad")
        prepare_image(files["image"], scene, out / split / "RGB")
        for name in kept if keep_raw else ():
            kept[name].parent.mkdir(parents=True, exist_ok=True)
            files[name].replace(kept[name])
    return True


def raw_files(split, scene):
    """Where the raw files of a scene are, by SSCNet's naming: what `prepare_NYU.py raw` reads."""
    return {
        "depth": f"NYU{split}/NYU{scene}_0000.png",
        "labels": f"NYU{split}/NYU{scene}_0000.bin",
        "CAD depth": f"NYUCAD{split}/NYU{scene}_0000.png",
        "CAD labels": f"NYUCAD{split}/NYU{scene}_0000.bin",
        "image": f"rgb/NYU{scene}_rgb.png",
    }


def write_raw(room, files):
    """Write a datasets.rooms.Room to the files of raw_files, making their folders."""
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    for name, pixels in (
        ("depth", encode_depth(room.depth)),
        ("CAD depth", encode_depth(room.cad_depth)),
        ("image", room.rgb[..., ::-1]),
    ):
        files[name].write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    for name in ("labels", "CAD labels"):
        write_bin(files[name], room.labels, room.pose, room.origin)


def _is_prepared(split, scene, out):
    return all(
        is_intact(out / file, read)
        for file, read in (
            (f"Label/{scene}.npz", nyu.read_label),
            (f"Mapping/{scene}.npz", nyu.read_mapping),
            (f"TSDF/{scene}.npz", nyu.read_tsdf),
            (f"TSDF/{scene}.npz", nyu.read_label_weight),
            (f"cad/TSDF/{scene}.npz", nyu.read_tsdf),
            (f"{split}/RGB/NYU{scene}_rgb.png", nyu.read_image),
        )
    )


def _claim(out, made_by):
    """Note in the folder what its rooms are made by; refuse one that holds others."""
    note = out / "rooms.json"
    if note.exists():
        try:
            found = json.loads(note.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{note}: unreadable ({error}); delete the folder {out}") from None
        if found != made_by:
            raise InputError(
                f"{out} holds rooms of {found}, not of {made_by}: delete it, or use another --out"
            )
    elif (out / "Label").exists():
        raise InputError(f"{out} holds other data (no {note.name} in it): choose another --out")
    else:
        write_text(note, json.dumps(made_by) + "\n")


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="data/rooms", help="the folder to make")
    parser.add_argument("--train", type=int, default=200, help="rooms to train on")
    parser.add_argument("--test", type=int, default=60, help="rooms to test on")
    parser.add_argument("--seed", type=int, default=0, help="other rooms for another number")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--keep-raw", action="store_true", help="keep the raw files (2 MB a room) in OUT/raw"
    )
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    return args


if __name__ == "__main__":
    main()
