"""Raw files -> the folders that training reads (docs/DATA.md): NYUv2's, and those of made rooms."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from datasets import nyu, voxels
from datasets.files import count_mat_images, read_mat_image
from datasets.geometry import NYU_INTRINSICS, NYUCAD_INTRINSICS, Frame
from datasets.nyu import SceneFiles, prepared_files, scene_places
from datasets.poses import read_poses, recover_pose, scene_id
from datasets.rooms import VERSION, Room, make_room
from datasets.tsdf import frame_tsdf, tsdf_from_labels
from errors import InputError
from utils.files import atomic_file, write_text
from utils.lock import sole_writer
from utils.parallel import run_parallel

# Four digits name a scene, training rooms from 0001 on, test rooms from 5001 on: more rooms can be
# added to either.
FIRST_ROOM = {"train": 1, "test": 5001}
MAX_ROOMS = {"train": 5000, "test": 4999}

# ---- NYUv2 and NYUCAD from raw files ----------------------------------------------------------


def prepare_raw(depthbin: Path, rgb: Path, out: Path, out_cad: Path, workers: int) -> None:
    """NYU and NYUCAD from SSCNet's release and the images of NYUv2 (a .mat or a folder)."""
    if out_cad.resolve() == out.resolve():
        raise InputError(f"--out {out} is also the folder of NYUCAD: give --out-cad another one")
    sources = {split: _find_frames(depthbin, split) for split in nyu.SPLITS}
    if not any(any(found.values()) for found in sources.values()):
        raise InputError(
            f"{depthbin}: no NYUxxxx_0000.png and .bin in its folders NYUtrain, NYUtest, "
            "NYUCADtrain, NYUCADtest; is --depthbin right?"
        )
    images = find_images(rgb)

    tasks, missing = [], defaultdict(list)
    for split, found in sources.items():
        depth, labels, cad_depth, cad_labels = found.values()
        for scene in sorted({*depth, *labels, *cad_depth, *cad_labels}):
            files = prepared_files(out, split, scene, out_cad)
            if scene in depth and scene in labels:
                tasks.append((scene, prepare_nyu, depth[scene], labels[scene], files))
            if scene in cad_depth and scene in cad_labels:
                tasks.append((scene, prepare_nyucad, cad_depth[scene], cad_labels[scene], files))
            if scene in images:
                tasks.append((scene, prepare_image, images[scene], files))
            for what, paths in {**found, "RGB image": images}.items():
                if scene not in paths:
                    missing[split, what].append(scene)
    with sole_writer(out, out_cad):
        try:
            run_parallel(tasks, workers)
        finally:
            for split, found in sources.items():
                complete = _write_list(out, split, {*found["NYU depth .png"], *found["NYU .bin"]})
                print(f"{split}: {complete} of {nyu.OFFICIAL_COUNTS[split]} scenes complete")
            for (split, what), scenes in missing.items():
                some = ", ".join(scenes[:5]) + (", ..." if len(scenes) > 5 else "")
                print(f"missing: {what} of {len(scenes)} {split} scenes ({some})")


def _find_frames(depthbin: Path, split: str) -> dict[str, dict[str, Path]]:
    """{kind of file: {scene: path}} of a split of SSCNet's release."""
    places = raw_files(depthbin, split, "[0-9]" * 4)
    del places["RGB image"]
    return {
        kind: {path.name[3:7]: path for path in place.parent.glob(place.name)}
        for kind, place in places.items()
    }


def find_images(source: Path) -> dict[str, Path | tuple[Path, int]]:
    """{scene: image file, or (mat file, index)}; source: nyu_depth_v2_labeled.mat or a folder."""
    if not source.is_dir():
        return {f"{index + 1:04d}": (source, index) for index in range(count_mat_images(source))}
    images = nyu.find_images(source, "**/NYU*")
    if not images:
        raise InputError(f"{source}: no images NYUxxxx_rgb.png or .jpg in it; is --rgb right?")
    return images


def prepare_nyu(depth: Path, bin_file: Path, files: SceneFiles) -> bool:
    """Label, Mapping, TSDF and label weight of a raw frame. False if they were there already."""
    if is_intact(files, "label", "mapping", "tsdf"):
        return False
    labels, pose, origin = voxels.read_bin(bin_file)
    frame = Frame(voxels.read_depth(depth), NYU_INTRINSICS, pose, origin)
    label, mapping, tsdf = (
        voxels.downsample_labels(labels),
        voxels.frame_mapping(frame).numpy(),
        frame_tsdf(frame).numpy(),
    )
    _write_arrays(files.label, label)
    _write_arrays(files.mapping, mapping)
    _write_arrays(files.tsdf, tsdf, voxels.label_weight(label, tsdf).astype(np.uint8))
    return True


def prepare_nyucad(depth: Path, bin_file: Path, files: SceneFiles) -> bool:
    """TSDF-CAD of a frame of NYUCAD. False if it was there already."""
    if is_intact(files, "tsdf_cad"):
        return False
    _, pose, origin = voxels.read_bin(bin_file)
    frame = Frame(voxels.read_depth(depth), NYUCAD_INTRINSICS, pose, origin)
    _write_arrays(files.tsdf_cad, frame_tsdf(frame).numpy())
    return True


def prepare_image(source: Path | tuple[Path, int], files: SceneFiles) -> bool:
    """Copy an image, or take it out of the .mat. False if it was there already."""
    from_mat = isinstance(source, tuple)
    target = files.image.with_suffix(".png" if from_mat else source.suffix)
    if is_intact(replace(files, image=target), "image"):
        return False
    if from_mat:
        data = cv2.imencode(".png", read_mat_image(*source)[..., ::-1])[1].tobytes()
    else:
        nyu.read_image(source)
        data = source.read_bytes()
    with atomic_file(target) as file:
        file.write(data)
    return True


# ---- TSDF-CAD from labels ---------------------------------------------------------------------


def prepare_cad(root: Path, out: Path, poses: Path | None, fine: bool, workers: int) -> None:
    """TSDF-CAD of a prepared folder from its ground-truth voxels.

    poses: .npz of cameras, or folder of .bin files; None: recovered from Mapping; fine: take the
    2 cm labels of the .bin files.
    """
    label_files = {
        scene_id(path.stem): path
        for split in nyu.SPLITS
        for place in reversed(scene_places(root, split, "*")["label"])
        for path in sorted(place.parent.glob(place.name))
    }
    if not label_files:
        raise InputError(f"{root}/Label: no label files xxxx.npz in it; is --root right?")
    cameras, bins = {}, {}
    if poses and poses.is_dir():
        # Sorted, NYUCADtrain comes before NYUtrain: NYU's own camera and labels win.
        paths = sorted(poses.rglob("NYU*_0000.bin"))
        bins = {scene_id(path.name.removesuffix("_0000.bin")): path for path in paths}
        if not bins:
            raise InputError(f"{poses}: no NYUxxxx_0000.bin in it")
    elif poses:
        cameras = read_poses(poses)
    if fine and not bins:
        raise InputError(
            "--fine needs --poses FOLDER with the .bin files that hold the 2 cm labels"
        )
    tasks = []
    for scene, label_file in label_files.items():
        files = replace(prepared_files(root, "train", scene, out), label=label_file)
        tasks.append((scene, _prepare_cad, files, cameras.get(scene), bins.get(scene), fine))
    with sole_writer(out):
        run_parallel(tasks, workers)


def _prepare_cad(
    files: SceneFiles, camera: tuple | None, bin_file: Path | None, fine: bool
) -> bool:
    if is_intact(files, "tsdf_cad"):
        return False
    if bin_file:
        labels, *camera = voxels.read_bin(bin_file)
    elif fine:
        raise InputError("no .bin file with its 2 cm labels in the folder of --poses")
    if not fine:
        labels = nyu.read_label(files.label)
    if camera is None:
        mapping = nyu.read_mapping(files.mapping)
        try:
            camera = recover_pose(mapping)
        except InputError as error:
            raise InputError(f"{files.mapping}: {error}; or give --poses") from None
    _write_arrays(files.tsdf_cad, tsdf_from_labels(labels, *camera))
    return True


# ---- generated rooms --------------------------------------------------------------------------


def prepare_rooms(
    out: Path, counts: dict[str, int], seed: int = 0, workers: int = 1, keep_raw: bool = False
) -> None:
    """Make a folder of rooms: NYU's layout in `out`, TSDF-CAD in `out`/cad, raw files in `out`/raw.

    counts: {"train": rooms, "test": rooms}. Raises InputError for bad counts, a folder that was
    made with another seed or version, and if a room failed.
    """
    for split, count in counts.items():
        if not 0 <= count <= MAX_ROOMS[split]:
            raise InputError(f"--{split} {count}: use 0 to {MAX_ROOMS[split]} rooms")
    if not any(counts.values()):
        raise InputError("--train 0 --test 0: nothing to do")
    if seed < 0:
        raise InputError(f"--seed {seed}: use a whole number >= 0")
    names = {
        split: [f"{FIRST_ROOM[split] + index:04d}" for index in range(count)]
        for split, count in counts.items()
    }
    tasks = [
        (scene, prepare_room, seed, split, scene, out, keep_raw)
        for split, scenes in names.items()
        for scene in scenes
    ]
    with sole_writer(out):
        _claim(out, {"seed": seed, "version": VERSION})
        try:
            run_parallel(tasks, workers)
        finally:
            for split, scenes in names.items():
                complete = _write_list(out, split, scenes, out / "cad")
                print(f"{split}: {complete} of {len(scenes)} rooms complete in {out}")


def prepare_room(seed: int, split: str, scene: str, out: Path, keep_raw: bool) -> bool:
    """One room: raw files, then what `prepare_NYU.py raw` makes of them. False if all was there."""
    files = prepared_files(out, split, scene, out / "cad")
    kept = raw_files(out / "raw", split, scene)
    if is_intact(files, *_READERS) and (not keep_raw or all(map(Path.exists, kept.values()))):
        return False
    # Raw files are made elsewhere, so that no half-written one is ever among the kept.
    with tempfile.TemporaryDirectory(dir=out, prefix=".raw-") as folder:
        raw = raw_files(Path(folder), split, scene)
        write_raw(make_room(seed, split, int(scene) - FIRST_ROOM[split]), raw)
        prepare_nyu(raw["NYU depth .png"], raw["NYU .bin"], files)
        prepare_nyucad(raw["NYUCAD depth .png"], raw["NYUCAD .bin"], files)
        prepare_image(raw["RGB image"], files)
        for name in kept if keep_raw else ():
            kept[name].parent.mkdir(parents=True, exist_ok=True)
            raw[name].replace(kept[name])
    return True


def raw_files(folder: Path, split: str, scene: str) -> dict[str, Path]:
    """Where the raw files of a scene are, by SSCNet's naming: what `prepare_NYU.py raw` reads."""
    return {
        "NYU depth .png": folder / f"NYU{split}/NYU{scene}_0000.png",
        "NYU .bin": folder / f"NYU{split}/NYU{scene}_0000.bin",
        "NYUCAD depth .png": folder / f"NYUCAD{split}/NYU{scene}_0000.png",
        "NYUCAD .bin": folder / f"NYUCAD{split}/NYU{scene}_0000.bin",
        "RGB image": folder / f"rgb/NYU{scene}_rgb.png",
    }


def write_raw(room: Room, files: dict[str, Path]) -> None:
    """Write a room to the files of raw_files, making their folders."""
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    images = {
        "NYU depth .png": voxels.encode_depth(room.depth),
        "NYUCAD depth .png": voxels.encode_depth(room.cad_depth),
        "RGB image": room.rgb[..., ::-1],
    }
    for name, pixels in images.items():
        files[name].write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    for name in ("NYU .bin", "NYUCAD .bin"):
        voxels.write_bin(files[name], room.labels, room.pose, room.origin)


def _claim(out: Path, made_by: dict[str, int]) -> None:
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


# ---- shared -----------------------------------------------------------------------------------

_READERS = {
    "image": [nyu.read_image],
    "label": [nyu.read_label],
    "mapping": [nyu.read_mapping],
    "tsdf": [nyu.read_tsdf, nyu.read_label_weight],
    "tsdf_cad": [nyu.read_tsdf],
}


def is_intact(files: SceneFiles, *fields: str) -> bool:
    """Whether these files of a scene exist and can be read."""
    try:
        for field in fields:
            for read in _READERS[field]:
                read(getattr(files, field))
    except InputError:
        return False
    return True


def _write_arrays(path: Path, *arrays: np.ndarray) -> None:
    """Write arr_0, arr_1, ... flat, as a compressed .npz."""
    with atomic_file(path) as file:
        np.savez_compressed(file, *(array.reshape(-1) for array in arrays))


def _write_list(root: Path, split: str, scenes: Iterable, cad_root: Path | None = None) -> int:
    """Write the scenes whose files are all there to the split's list, if any; their number."""
    lines = []
    for scene in sorted(scenes):
        fields = scene_places(root, split, scene, cad_root).values()
        if all(any(map(Path.exists, places)) for places in fields):
            lines.append(f"{scene}\n")
    if lines:
        write_text(root / f"{split}.txt", "".join(lines))
    return len(lines)
