"""Damaged and hostile files: every reader gives a valid result or an InputError naming the file.

One child process makes a small valid file of each format, forks for it, changes the file again and
again and reads it. Whatever kills the fork (a crash, a read of more than LIMIT_SECONDS, memory) or
escapes the reader is a failure. The number of the change is the seed of its randomness:

    python tests/test_fuzz.py FOLDER 2000 [FORMAT ...]  # what the tests run: JSON lines
"""

import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

LIMIT_SECONDS = 20  # of one read, on a busy machine
LIMIT_RESIDENT = 200 << 20  # bytes by which a format's process may grow over all its reads
LIMIT_VIRTUAL = 8 << 30
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = {
    "preset": (
        "&a ", "*a", "!!python/name:os.system ", "!!binary ", "!!timestamp ", "!!int ", "!!set ",
        "[", "{", "}", "]", "? ", ": ", "- ", "<<: ", "\t", "\n", "'", '"', "|", ">", "---\n",
        "0x", "1:2:3", "9" * 5000, "~", ".nan", "1e999", "[" * 3000, "train:\n  lr: ", "\\ud800",
    ),
    "metrics": (
        ",", "\n", '"', "\r", "nan", "1e999", "-", "epoch", ",,", "9" * 5000, "٣", "x" * 200000,
    ),
    "ids": ("\n", "NYU", "../", "/", "0", " ", "_rgb.png", "٣", "\x0b", "\u2028", "9" * 5000),
}  # fmt: skip


# ---- valid files, and how they are read ----------------------------------------------------------


def save_npz(path, packing=zipfile.ZIP_DEFLATED, **arrays):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for key, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array)
            archive.writestr(f"{key}.npy", file.getvalue())


def make_label(path):
    save_npz(path, arr_0=np.arange(129600, dtype=np.int32) // 20000)


def read_label(path):
    from datasets.nyu import read_label

    assert read_label(path).shape == (60, 36, 60)


def make_mapping(path):
    mapping = np.full(129600, 307200)
    mapping[::70] = np.arange(0, 307200, 165)[: len(mapping[::70])]
    save_npz(path, arr_0=mapping)


def read_mapping(path):
    from datasets.nyu import invert_mapping, read_mapping

    assert invert_mapping(read_mapping(path), path).shape == (480, 640)


def make_tsdf(path):
    tsdf = np.linspace(-1, 1, 129600, dtype=np.float32).round(1)
    save_npz(path, zipfile.ZIP_LZMA, arr_0=tsdf, arr_1=(tsdf < -0.5).astype(np.float64))


def read_tsdf(path):
    from datasets.nyu import read_label_weight, read_tsdf

    assert np.abs(read_tsdf(path)).max() <= 1
    assert read_label_weight(path).dtype == bool


def make_poses(path):
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    ids = np.array(["0001", "0002", "NYU0003"])
    save_npz(path, ids=ids, cam_pose=poses, vox_origin=np.zeros((3, 3)))


def read_poses(path):
    from datasets.poses import read_poses

    for scene, (pose, origin) in read_poses(path).items():
        assert len(scene) == 4 and np.isfinite(pose).all() and np.isfinite(origin).all()


def make_bin(path):
    from datasets.voxels import write_bin

    labels = np.zeros((240, 144, 240), np.uint8)
    labels[:, :8], labels[200:], labels[50:70, 8:40, 9:60] = 2, 255, 7
    write_bin(path, labels, np.eye(4), np.zeros(3))


def read_bin(path):
    from datasets.voxels import downsample_labels, read_bin

    scene = read_bin(path)
    assert scene.labels.shape == (240, 144, 240) and scene.labels.dtype == np.uint8
    if len(path.read_bytes()) % 5 == 0:  # takes most of the time
        downsample_labels(scene.labels)


def smooth(shape, dtype, largest):
    rows, columns = np.indices((480, 640))
    values = (rows * 3 + columns) * largest // (3 * 480 + 640)
    return values.astype(dtype).reshape(480, 640, 1).repeat(shape[-1], 2).reshape(shape)


def make_image(path):
    import cv2

    image = smooth((480, 640, 3), np.uint8, 255)
    image[100:300:7] = 200
    assert cv2.imwrite(str(path), image)


def read_image(path):
    from datasets.nyu import read_image

    assert read_image(path).shape == (480, 640, 3)


def make_progressive(path):
    import cv2

    image = smooth((480, 640, 3), np.uint8, 255)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])


def make_depth(path):
    import cv2

    from datasets.voxels import encode_depth

    depth = smooth((480, 640, 1), np.float32, 6)[..., 0] + 1
    assert cv2.imwrite(str(path), encode_depth(depth))


def read_depth(path):
    from datasets.voxels import read_depth

    assert read_depth(path).shape == (480, 640)


def make_mat(path):
    import h5py

    with h5py.File(path, "w") as file:
        shape = 2, 3, 640, 480
        file.create_dataset("images", shape, np.uint8, chunks=(1, 1, 80, 60), compression="gzip")
        file["images"][:] = 7
        file["names"] = np.arange(6)


def read_mat(path):
    import cv2

    from datasets.nyu import prepared_files
    from utils.preparation import find_images, prepare_image

    for scene, source in sorted(find_images(path).items())[-1:]:
        files = prepared_files(path.parent, "train", scene)
        assert prepare_image(source, files)
        assert cv2.imread(str(files.image)).shape == (480, 640, 3)
        files.image.unlink()


def checkpoint():
    import torch

    return {
        "format": "cleaners-1",
        "model": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
        "meta": {"config": {"seed": 0}, "input": "tsdf", "epoch": 3, "history": [{"loss": 0.5}]},
        "training": {"optimizer": {"state": {0: torch.ones(4)}}, "scaler": {}},
    }


def make_ours(path):
    import torch

    torch.save(checkpoint(), path)


def make_original(path):
    import torch

    state = {"TSDFNet.a.weight": torch.ones(2, 3), "encoder.b": torch.zeros(5).half()}
    torch.save({"model": state, "epoch": 7, "best_val": np.float32(1.5)}, path)


def make_legacy(path):
    import torch

    state = {"TSDFNet.a.weight": torch.ones(2, 3), "c": torch.nn.Parameter(torch.zeros(5))}
    torch.save({"net": state}, path, _use_new_zipfile_serialization=False)


def make_safetensors(path):
    import torch
    from safetensors.torch import save_file

    save_file({"TSDFNet.a.weight": torch.ones(2, 3), "encoder.b": torch.zeros(5).half()}, path)


def read_weights(path):
    import torch

    from errors import InputError
    from models.checkpoints import load_strictly, read_checkpoint

    found = read_checkpoint(path)
    assert all(isinstance(value, torch.Tensor) for value in found.state.values())
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    try:
        load_strictly(network, found.state, path)
    except InputError as error:
        assert str(path) in str(error)
    if found.meta is not None:
        json.dumps(found.meta, default=repr)


def make_preset(path):
    path.write_text((Path(__file__).parents[1] / "configs" / "debug.yaml").read_text())


def read_preset(path):
    from config import flatten, load_config

    assert dict(flatten(load_config(path)))["train.lr"] >= 0


def make_ids(path):
    path.write_text("0001\nNYU0003\nNYU0007_rgb.png\n0012.npz\n")


def read_ids(path):
    from datasets.nyu import _read_ids

    assert all(len(scene) == 4 and scene.isdecimal() for scene in _read_ids(path))


# Format: (name of the file, make, read, how it is changed)
FORMATS = {
    "label": ("0001.npz", make_label, read_label, "zip"),
    "mapping": ("0002.npz", make_mapping, read_mapping, "zip"),
    "tsdf": ("0003.npz", make_tsdf, read_tsdf, "zip"),
    "poses": ("poses.npz", make_poses, read_poses, "zip"),
    "bin": ("NYU0001_0000.bin", make_bin, read_bin, "bytes"),
    "png": ("NYU0001_rgb.png", make_image, read_image, "png"),
    "jpeg": ("NYU0001_rgb.jpg", make_image, read_image, "bytes"),
    "progressive jpeg": ("NYU0002_rgb.jpg", make_progressive, read_image, "bytes"),
    "depth": ("NYU0001_0000.png", make_depth, read_depth, "png"),
    "mat": ("nyu_depth.mat", make_mat, read_mat, "bytes"),
    "checkpoint": ("ours.pth", make_ours, read_weights, "zip"),
    "original checkpoint": ("original.pth", make_original, read_weights, "zip"),
    "legacy checkpoint": ("legacy.pth", make_legacy, read_weights, "bytes"),
    "safetensors": ("a.safetensors", make_safetensors, read_weights, "bytes"),
    "preset": ("preset.yaml", make_preset, read_preset, "text"),
    "ids": ("train.txt", make_ids, read_ids, "text"),
}


# ---- changes -------------------------------------------------------------------------------------


def change_bytes(data, rng, words=()):
    """1..4 random changes of bytes, most of them near the start or the end."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        near = int(rng.choice([64, 512, len(data) + 1]))
        position = int(rng.integers(min(len(data) + 1, near)))
        if rng.random() < 0.3:
            position = len(data) - position
        kind = rng.integers(7)
        length = int(rng.integers(1, 40))
        if kind == 0:  # flip bits
            for at in range(position, min(position + int(rng.integers(1, 5)), len(data))):
                data[at] ^= int(rng.integers(1, 256))
        elif kind == 1:  # a number of a header
            value = int(rng.choice(INTERESTING))
            code = str(rng.choice(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]))
            size = struct.calcsize(code)
            packed = (value % (1 << 8 * size)).to_bytes(size, "big" if code[0] == ">" else "little")
            data[position : position + size] = packed
        elif kind == 2:
            del data[position : len(data) if rng.random() < 0.3 else position + length]
        elif kind == 3:
            data[position:position] = rng.bytes(length)
        elif kind == 4:  # a part of the file once more
            source = int(rng.integers(len(data) + 1))
            data[position:position] = data[source : source + length * int(rng.integers(1, 50))]
        elif kind == 5 and words:
            data[position:position] = str(rng.choice(words)).encode()
        else:
            data[position : position + length] = bytes([int(rng.choice([0, 255]))]) * length
    return bytes(data)


def change_zip(data, rng):
    """Change the bytes, or the members and how they are packed, with right checksums."""
    if rng.random() < 0.35:
        return change_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [[i.filename, archive.read(i), i.compress_type] for i in archive.infolist()]
    chosen = int(rng.integers(len(members)))
    other = int(rng.integers(len(members)))
    pickles = [n for n, member in enumerate(members) if member[0].endswith(".pkl")]
    if pickles and rng.random() < 0.6:
        chosen = pickles[0]
    kind = rng.integers(8)
    if kind <= 3:
        members[chosen][1] = change_bytes(members[chosen][1], rng)
    elif kind == 4:  # swap
        members[chosen][1], members[other][1] = members[other][1], members[chosen][1]
    elif kind == 5:  # twice, missing, or under another name
        if rng.random() < 0.5:
            members.append(list(members[other]))
        elif rng.random() < 0.5:
            del members[chosen]
        else:
            names = ["arr_0.npy", "../evil", "x" * 3000, "", "data.pkl"]
            members[chosen][0] = str(rng.choice(names))
    elif kind == 6 and rng.random() < 0.1:  # a bomb
        packing = int(rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
        members[chosen][1:] = members[chosen][1] + bytes(9 << 20), packing
    else:
        for member in members:
            member[2] = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compresslevel=1) as archive:
        for name, content, packing in members:
            archive.writestr(name or "empty", content, packing)
    data = file.getvalue()
    return change_bytes(data, rng) if rng.random() < 0.1 else data


def change_png(data, rng):
    """Change the bytes, or the chunks, with right checksums."""
    if rng.random() < 0.35:
        return change_bytes(data, rng)
    chunks, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        chunks.append([kind, data[position + 8 : position + 8 + length]])
        position += 12 + length
    chosen = int(rng.integers(len(chunks)))
    kind = rng.integers(6)
    if kind <= 2:
        chunks[chosen][1] = change_bytes(chunks[chosen][1], rng)
    elif kind == 3:
        names = [b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iCCP"]
        content = rng.bytes(int(rng.integers(40)))
        chunks.insert(chosen, [names[rng.integers(len(names))], content])
    elif kind == 4:
        chunks.insert(int(rng.integers(len(chunks))), chunks[chosen])
    else:  # other pixels, or far more of them
        pixels = b"".join(content for kind, content in chunks if kind == b"IDAT")
        pixels = zlib.decompress(pixels)
        pixels = pixels + bytes(20 << 20) if rng.random() < 0.1 else change_bytes(pixels, rng)
        chunks = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
        chunks.insert(1, [b"IDAT", zlib.compress(pixels, 1)])
    return data[:8] + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def changed(name, data, number):
    """The file `data` of a format after change `number`."""
    rng = np.random.default_rng((list(FORMATS).index(name), number))
    how = FORMATS[name][3]
    if how == "zip":
        return change_zip(data, rng)
    if how == "png":
        return change_png(data, rng)
    return change_bytes(data, rng, WORDS.get(name, ()))


# ---- the child process ---------------------------------------------------------------------------


def resident():
    """Largest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def fuzz(name, folder, count):
    """Change and read a file `count` times. Returns outcomes: counts and what went wrong."""
    from errors import InputError

    file_name, make, read, _ = FORMATS[name]
    folder = Path(folder, name.replace(" ", "_"))
    folder.mkdir()
    path = folder / file_name
    make(path)
    read(path)
    data, before = path.read_bytes(), resident()
    outcome = {"valid": 0, "refused": 0, "wrong": [], "slowest": 0.0, "grown": 0}
    for number in range(count):
        path.write_bytes(changed(name, data, number))
        (folder / "number").write_text(str(number))  # for whoever looks for the cause of a crash
        signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)  # ends the process
        start = time.monotonic()
        try:
            read(path)
            outcome["valid"] += 1
        except InputError as error:
            outcome["refused"] += 1
            message = str(error)
            if file_name not in message or not message.isprintable() or len(message) > 1000:
                outcome["wrong"].append(f"{number}: message {message[:200]!r}")
        except BaseException:
            outcome["wrong"].append(f"{number}: {traceback.format_exc()[-600:]}")
        outcome["slowest"] = max(outcome["slowest"], time.monotonic() - start)
        signal.setitimer(signal.ITIMER_REAL, 0)
    outcome["grown"] = resident() - before
    return outcome


def main(folder, count, names):
    """Fork for each format, after the imports that all share; print outcomes as JSON lines."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import torch

    import datasets.nyu  # noqa: F401
    import models.checkpoints  # noqa: F401
    import utils.preparation  # noqa: F401

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_VIRTUAL, LIMIT_VIRTUAL))
    for name in names:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            outcome = fuzz(name, folder, count)
            print(json.dumps({"format": name, **outcome}), flush=True)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if status != 0:
            number = Path(folder, name.replace(" ", "_"), "number")
            number = number.read_text() if number.exists() else "none"
            dead = f"{number}: the process died with status {status}"
            print(json.dumps({"format": name, "wrong": [dead]}), flush=True)


# ---- tests ---------------------------------------------------------------------------------------


def run_child(folder, count, names=tuple(FORMATS)):
    """{format: outcome} of `count` changes each."""
    command = [sys.executable, __file__, str(folder), str(count), *names]
    child = subprocess.run(command, capture_output=True, text=True, errors="replace")
    outcomes = map(json.loads, filter(lambda line: line.startswith("{"), child.stdout.splitlines()))
    outcomes = {outcome.pop("format"): outcome for outcome in outcomes}
    assert outcomes.keys() == set(names), child.stderr[-2000:]
    return outcomes


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """`outcomes(count)`: of all formats; the child process runs once for each count."""
    known = {}

    def get(count):
        if count not in known:
            known[count] = run_child(tmp_path_factory.mktemp("fuzz"), count)
        return known[count]

    return get


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [150, pytest.param(2500, marks=pytest.mark.slow)])
def test_every_change_is_a_valid_result_or_an_input_error(name, count, outcomes):
    outcome = outcomes(count)[name]
    assert outcome["wrong"] == []
    assert outcome["valid"] + outcome["refused"] == count
    assert outcome["refused"] > count / 20, "the changes hardly change anything"
    assert outcome["grown"] < LIMIT_RESIDENT


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(FORMATS))
