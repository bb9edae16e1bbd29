"""Folders become samples; broken files become one clear line."""

import hashlib
import io
import os
import resource
import shutil
import struct
import time
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from make_nyu import make_nyu_root, make_scene
from torch.utils.data import DataLoader

from constants import NYU_CLASS_VOXELS
from datasets import nyu
from datasets.nyu import NYUDataset
from errors import InputError, exit_on_input_error

REAL = Path(__file__).parents[2] / "shared" / "nyu" / "NYU"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="no NYUv2 data beside the project")


@pytest.fixture
def root(tmp_path):
    """Test scenes 0001 and 0002, training scenes 0003 and 0004, with NYUCAD beside it."""
    return make_nyu_root(tmp_path)


def cad_of(root):
    return root.parent / "NYUCAD"


def to_original_readme_tree(root):
    """Move a folder of layout 1 into the tree of the original README."""
    for split in ("train", "test"):
        target = root / "Mapping" / f"{split}set"
        (target / "GT").mkdir(parents=True)
        (root / split / "RGB").rename(target / "RGB")
        (root / split).rmdir()
        for image in (target / "RGB").iterdir():
            name = f"{image.name[3:7]}.npz"
            (root / "Label" / name).rename(target / "GT" / name)
    (root / "Label").rmdir()


def assert_refused(call, *fragments):
    """`call` raises InputError, on one line, with these fragments in it."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert str(fragment) in message


def assert_same(sample, other):
    assert sample.keys() == other.keys()
    for key, value in sample.items():
        assert torch.equal(value, other[key]) if torch.is_tensor(value) else value == other[key]


# --- samples ---


def test_sample(root):
    dataset = NYUDataset(root, "train", cad_root=cad_of(root))
    assert len(dataset) == 2
    sample = dataset[0]
    scene = make_scene(3)
    grid = (60, 36, 60)

    assert sample["name"] == "NYU0003"
    expected = {
        "image": ((3, 480, 640), torch.float32),
        "mapping2d": ((480, 640), torch.int64),
        "mapping": (grid, torch.int64),
        "tsdf": ((1, *grid), torch.float32),
        "tsdf_cad": ((1, *grid), torch.float32),
        "label3d": (grid, torch.int64),
        "label_weight": (grid, torch.bool),
    }
    assert {k: (tuple(v.shape), v.dtype) for k, v in sample.items() if k != "name"} == expected

    rgb = scene["image"][..., ::-1].astype(np.float64)
    image = (rgb - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    assert np.allclose(sample["image"], image.transpose(2, 0, 1), atol=1e-5)
    for key, name in [("mapping", "mapping"), ("label3d", "label"), ("label_weight",) * 2]:
        assert np.array_equal(sample[key].reshape(-1), scene[name])
    assert np.array_equal(sample["tsdf"].reshape(-1), scene["tsdf"])
    assert np.array_equal(sample["tsdf_cad"].reshape(-1), scene["tsdf_cad"])

    inverse = np.full(480 * 640, -1)
    for voxel, pixel in enumerate(scene["mapping"]):
        if pixel != 307200:
            inverse[pixel] = voxel
    assert np.array_equal(sample["mapping2d"].reshape(-1), inverse)


def test_tsdf_cad_is_there_only_with_a_cad_root(root):
    shutil.rmtree(cad_of(root))
    assert "tsdf_cad" not in NYUDataset(root, "test")[0]
    assert_refused(
        lambda: NYUDataset(root, "test", cad_root=cad_of(root)),
        cad_of(root) / "TSDF" / "0001.npz",
        "python prepare_NYU.py cad",
    )


def test_batches(root):
    loader = DataLoader(NYUDataset(root, "test", cad_root=cad_of(root)), batch_size=2)
    batch = next(iter(loader))
    assert batch["name"] == ["NYU0001", "NYU0002"]
    assert batch["tsdf"].shape == (2, 1, 60, 36, 60)


def test_other_shapes_and_types_of_arrays(root):
    """Volumes may be stored flat or not, in either memory order, and in any numeric type."""
    expected = NYUDataset(root, "test")[0]
    for folder, kinds in [("Label", (np.uint8,)), ("Mapping", (np.float64,))]:
        path = root / folder / "0001.npz"
        volume = np.load(path)["arr_0"].reshape(60, 36, 60)
        for kind in kinds:
            np.savez_compressed(path, np.asfortranarray(volume.astype(kind)))
    path = root / "TSDF" / "0001.npz"
    with np.load(path) as arrays:
        tsdf, weight = arrays["arr_0"], arrays["arr_1"]
    np.savez(path, tsdf.astype(">f8").reshape(1, 60, 36, 60), weight.astype(bool))
    assert_same(NYUDataset(root, "test")[0], expected)


# --- layouts and id lists ---


@pytest.mark.parametrize("label_folder", ["GT", "Label"])
@pytest.mark.parametrize("cad_folder", ["TSDF", "TSDF/testset/depth"])
def test_tree_of_the_original_readme(root, label_folder, cad_folder):
    expected = NYUDataset(root, "test", cad_root=cad_of(root))[1]
    to_original_readme_tree(root)
    if label_folder == "Label":
        (root / "Mapping" / "testset" / "GT").rename(root / "Label")
    cad_dir = cad_of(root) / cad_folder
    cad_dir.mkdir(parents=True, exist_ok=True)
    for path in (cad_of(root) / "TSDF").glob("*.npz"):
        path.rename(cad_dir / path.name)
    dataset = NYUDataset(root, "test", cad_root=cad_of(root))
    assert len(dataset) == 2
    assert_same(dataset[1], expected)


@pytest.mark.parametrize("name", ["rgb.jpg", "colors.png", "colors.jpg", "0000_color.jpg"])
def test_names_of_images(root, name):
    folder = root / "test" / "RGB"
    image = cv2.imread(str(folder / "NYU0001_rgb.png"))
    for number in (1, 2):
        (folder / f"NYU{number:04d}_rgb.png").unlink()
        cv2.imwrite(str(folder / f"NYU{number:04d}_{name}"), image)
    (folder / "NYU0001_0000.png").write_text("a depth image, not read")
    dataset = NYUDataset(root, "test")
    assert [sample["name"] for sample in dataset] == ["NYU0001", "NYU0002"]


def test_id_lists(root, tmp_path):
    ids = tmp_path / "ids.txt"
    for line in ("4", "0004", "NYU0004", "NYU0004_0000", "NYU0004_rgb.png", "0004.npz"):
        ids.write_text(f"{line}\r\n\r\n  0003  \n")
        dataset = NYUDataset(root, "train", ids=ids)
        assert [scene.id for scene in dataset.scenes] == ["0004", "0003"]

    (root / "train.txt").write_text("0004\n")
    assert [scene.id for scene in NYUDataset(root, "train").scenes] == ["0004"]
    assert len(NYUDataset(root, "train", ids=ids)) == 2
    assert len(NYUDataset(root, "test")) == 2


@pytest.mark.parametrize(
    "line", ["../0003", "NYU0003/../x", "/etc/passwd", "abc", "00003", "-3", "٣", "0003 0004"]
)
def test_bad_ids(root, tmp_path, line):
    ids = tmp_path / "ids.txt"
    ids.write_text(f"0004\n{line}\n", encoding="utf-8")
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids, "line 2")


def test_bad_id_lists(root, tmp_path):
    ids = tmp_path / "ids.txt"
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids)
    ids.write_text("\n \n")
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids, "no scene ids")
    ids.write_bytes(b"\xff\xfe\x00")
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids)
    ids.write_text("3\nNYU0003\n")
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids, "0003 is listed twice")
    ids.write_text("0003\n0777\n")
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), "NYU0777_rgb.png: missing")


def test_folders_of_no_layout(root, tmp_path):
    layout = "/{train,test}/RGB/NYUxxxx_rgb.png"
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    empty.mkdir()
    assert_refused(lambda: NYUDataset(nowhere), nowhere, layout)
    assert_refused(
        lambda: NYUDataset(empty), empty, layout, "train/RGB, Mapping, TSDF, Label missing"
    )
    shutil.rmtree(root / "Label")
    assert_refused(lambda: NYUDataset(root), "Label missing", layout)


def test_folder_without_images(root):
    for image in (root / "train" / "RGB").iterdir():
        image.unlink()
    layout = "/{train,test}/RGB/NYUxxxx_rgb.png"
    assert_refused(lambda: NYUDataset(root), root / "train" / "RGB", layout)


@pytest.mark.parametrize("folder", ["Label", "Mapping", "TSDF"])
def test_missing_file(root, folder):
    (root / folder / "0003.npz").unlink()
    assert_refused(lambda: NYUDataset(root), root / folder / "0003.npz", "missing")
    assert len(NYUDataset(root, "test")) == 2


def test_bad_arguments(root):
    assert_refused(lambda: NYUDataset(root, "val"), "val", "train or test")
    assert_refused(lambda: NYUDataset(root, augmentation="yes"), "yes", "original or standard")


# --- broken files ---


def changed(key, position, value, dtype=None):
    """Damage: one value of an array."""

    def damage(path):
        with np.load(path) as arrays:
            arrays = dict(arrays)
        arrays[key] = arrays[key].astype(dtype or arrays[key].dtype)
        arrays[key][position] = value
        np.savez(path, **arrays)

    return damage


def shared_pixel(path):
    mapping = np.load(path)["arr_0"]
    voxels = np.flatnonzero(mapping != 307200)
    mapping[voxels[0]] = mapping[voxels[1]]
    np.savez(path, mapping)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def corrupt(path):
    """Damage: one byte inside the stored array, which only the checksum shows."""
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(bytes(data))


def stored_as(header_shape, data, compression=zipfile.ZIP_STORED):
    """Damage: an array whose header doesn't fit what follows it."""

    def damage(path):
        npy = io.BytesIO()
        header = {"descr": "<i4", "fortran_order": False, "shape": header_shape}
        np.lib.format.write_array_header_1_0(npy, header)
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("arr_0.npy", npy.getvalue() + data)

    return damage


@pytest.mark.parametrize(
    "folder, damage, fragment",
    [
        ("Label", truncated, "no usable array arr_0"),
        ("Label", corrupt, "CRC"),
        ("Label", lambda path: path.write_bytes(b""), "no usable"),
        ("Label", lambda path: path.write_text("a page that says 404"), "no usable"),
        ("Label", lambda path: np.savez(path, label=np.zeros(129600)), "arr_0"),
        ("Label", lambda path: np.savez(path, np.zeros(129599, np.int32)), "129600"),
        ("Label", lambda path: np.savez(path, np.full(129600, None)), "Object arrays"),
        ("Label", stored_as((10**12,), b""), "no usable array arr_0"),
        ("Label", stored_as((129600,), b"1234"), "no usable"),
        ("Label", stored_as((129600,), bytes(10**8), zipfile.ZIP_DEFLATED), "bytes"),
        ("Label", stored_as((129600,), bytes(4 * 129601), zipfile.ZIP_DEFLATED), "longer"),
        ("Label", stored_as((129600,), bytes(4 * 129600), zipfile.ZIP_BZIP2), "method 12"),
        ("Label", changed("arr_0", 7, 12), "0..11 and 255"),
        ("Label", changed("arr_0", 7, -1), "0..11 and 255"),
        ("Label", changed("arr_0", 7, 1.5, np.float32), "whole numbers"),
        ("Label", changed("arr_0", 7, np.nan, np.float32), "whole numbers"),
        ("Mapping", truncated, "no usable"),
        ("Mapping", changed("arr_0", 7, -1), "307200"),
        ("Mapping", changed("arr_0", 7, 307201), "307200"),
        ("Mapping", shared_pixel, "one pixel in two voxels"),
        ("TSDF", truncated, "no usable"),
        ("TSDF", changed("arr_0", 7, np.nan), "NaN"),
        ("TSDF", changed("arr_0", 7, np.inf), "outside -1..1"),
        ("TSDF", changed("arr_0", 7, 1.01), "outside -1..1"),
        ("TSDF", changed("arr_0", 7, 1e300, np.float64), "outside -1..1"),
        ("TSDF", changed("arr_1", 7, 2), "arr_1"),
        ("TSDF", changed("arr_1", 7, np.nan), "arr_1"),
        ("TSDF", lambda path: np.savez(path, np.zeros(129600)), "arr_1"),
        ("../NYUCAD/TSDF", truncated, "no usable"),
        ("../NYUCAD/TSDF", changed("arr_0", 7, np.nan), "NaN"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_damaged_volume(root, folder, damage, fragment):
    path = root / folder / "0001.npz"
    damage(path)
    dataset = NYUDataset(root, "test", cad_root=root / "../NYUCAD")
    assert_refused(lambda: dataset[0], path, fragment)
    assert dataset[1]["name"] == "NYU0002"


def huge_png(path):
    """Damage: a PNG header of 2**30 x 2**30 pixels."""
    header = b"IHDR" + (2**30).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    chunk = (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)


@pytest.mark.parametrize(
    "damage, fragment",
    [
        (truncated, "damaged"),
        (huge_png, "not an image"),
        (lambda path: path.write_bytes(b""), "not an image"),
        (lambda path: path.write_text("no image"), "not an image"),
        (lambda path: cv2.imwrite(str(path), np.zeros((240, 320, 3), np.uint8)), "320x240"),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_image(root, suffix, damage, fragment):
    path = root / "test" / "RGB" / "NYU0001_rgb.png"
    image = cv2.imread(str(path))
    path.unlink()
    path = path.with_suffix(suffix)
    cv2.imwrite(str(path), image)
    damage(path)
    assert_refused(lambda: NYUDataset(root, "test")[0], path, fragment)


def test_file_that_vanishes_later(root):
    dataset = NYUDataset(root, "test")
    for path in (root / "Label" / "0001.npz", root / "test" / "RGB" / "NYU0001_rgb.png"):
        path.unlink()
        assert_refused(lambda: dataset[0], path)


def test_a_worker_reports_a_broken_file_on_one_line(root, capsys):
    path = root / "Label" / "0001.npz"
    truncated(path)

    @exit_on_input_error
    def main():
        list(DataLoader(NYUDataset(root, "test"), num_workers=1))

    with pytest.raises(SystemExit) as caught:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code != 0
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {path}: ")


# --- augmentation ---


def test_augmentation_changes_the_image_plane_only(root):
    plain = NYUDataset(root, cad_root=cad_of(root))
    for flavour in ("original", "standard"):
        augmented = NYUDataset(root, cad_root=cad_of(root), augmentation=flavour)
        for index in range(2):
            sample, expected = augmented[index], plain[index]
            assert sample["image"].shape == expected["image"].shape
            assert not torch.equal(sample["image"], expected["image"])
            for key in ("image", "mapping2d"):
                assert sample[key].dtype == expected.pop(key).dtype
                del sample[key]
            assert_same(sample, expected)


def test_draws_depend_on_seed_epoch_and_index(root):
    def images(seed, epoch):
        dataset = NYUDataset(root, augmentation="standard", seed=seed)
        dataset.set_epoch(epoch)
        return [dataset[index]["image"] for index in (0, 1, -1)]

    first = images(seed=0, epoch=1)
    assert torch.equal(first[1], first[2])
    assert all(map(torch.equal, first, images(seed=0, epoch=1)))
    assert not any(map(torch.equal, first, images(seed=0, epoch=2)))
    assert not any(map(torch.equal, first, images(seed=1, epoch=1)))


def test_the_epoch_reaches_persistent_workers(root):
    dataset = NYUDataset(root, augmentation="original", seed=5)
    loader = DataLoader(dataset, num_workers=2, persistent_workers=True, batch_size=None)
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        for index, sample in enumerate(loader):
            assert_same(sample, dataset[index])
    fresh = NYUDataset(root, augmentation="original", seed=5)
    fresh.set_epoch(1)
    assert not torch.equal(fresh[0]["image"], dataset[0]["image"])


# --- facts about the real data ---


def facts(scene):
    """Of one scene: voxels per class (255 last), SSC voxels, SC voxels, occupied SC voxels."""
    tsdf, weight = nyu.read_tsdf(scene.tsdf), nyu.read_label_weight(scene.tsdf)
    label, mapping = nyu.read_label(scene.label), nyu.read_mapping(scene.mapping)
    nyu.invert_mapping(mapping, scene.mapping)

    assert np.array_equal(weight, ((label > 0) & (label < 255)) | (tsdf < -0.5)), scene.name
    pixels = mapping[mapping != 307200]
    assert len(np.unique(pixels)) == len(pixels), scene.name
    assert 245 <= len(pixels) <= 7055, scene.name

    ssc = weight & (label != 255)
    sc = ssc & (mapping == 307200)
    counts = np.bincount(np.where(label == 255, 12, label).reshape(-1), minlength=13)
    return np.array([*counts, ssc.sum(), sc.sum(), (sc & (label > 0)).sum()])


@needs_real_data
@pytest.mark.parametrize(
    "split, scenes, totals",
    [
        (
            "train",
            795,
            [44616281, 80205, 1072333, 907680, 116952, 180994, 436852, 282264, 255113, 28247]
            + [1806927, 852366, 52395786]
            + [13069879, 11716415, 4666469],
        ),
        (
            "test",
            490,
            [26041683, 46354, 638267, 555491, 79473, 90901, 241371, 227219, 169821, 14368]
            + [935113, 479943, 33983996]
            + [7335316, 6566710, 2709715],
        ),
    ],
)
def test_real_totals(split, scenes, totals):
    dataset = NYUDataset(REAL, split)
    assert len(dataset) == scenes
    with ThreadPoolExecutor(2) as pool:  # unpacking, the slow part, lets other threads run
        assert np.array_equal(sum(pool.map(facts, dataset.scenes)), totals)
    if split == "train":  # every voxel of an object is trained on
        assert (totals[13] - sum(totals[1:12]), *totals[1:12]) == NYU_CLASS_VOXELS


@needs_real_data
@pytest.mark.parametrize(
    "split, index, name, digests",
    [
        ("test", 0, "NYU0001", ["17d8b0a04b0b3880", "69b6be57e03cdf5d", "1019b2daa09fdfaf"]),
        ("train", 0, "NYU0003", ["c7bc1cc9a35bae11", "8c604362902787d8", "4f33f33b6a2cbcb5"]),
    ],
)
def test_real_scene(split, index, name, digests):
    sample = NYUDataset(REAL, split)[index]
    assert sample["name"] == name
    arrays = [
        sample["label3d"].numpy().astype(np.int32),
        sample["mapping"].numpy(),
        sample["label_weight"].numpy().astype(np.uint8),
    ]
    assert [hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in arrays] == digests


# --- files that were made to do harm ---


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("honest", [True, False])
def test_bombs_take_no_memory(root, packing, honest):
    """100 MB of zeros in some 15 kB, with a header that says so or not."""
    path = root / "Label" / "0001.npz"
    stored_as((129600,), bytes(10**8), packing)(path)
    if not honest:  # the size in the directory of the archive
        data = path.read_bytes()
        assert data.count(struct.pack("<I", 10**8 + 128)) == 2
        small = struct.pack("<I", 129600 * 4 + 128)
        path.write_bytes(data.replace(struct.pack("<I", 10**8 + 128), small))
    tracemalloc.start()
    assert_refused(lambda: nyu.read_label(path), path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6


@pytest.mark.parametrize("length", [1 << 28, 0xFF800000, 0xFFFFFFFF])
@pytest.mark.parametrize("chunk", [b"IDAT", b"tEXt"])
def test_chunks_of_a_png_that_claim_to_be_huge(root, length, chunk):
    path = root / "test" / "RGB" / "NYU0001_rgb.png"
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", length) + chunk + data[at + 8 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(lambda: nyu.read_image(path), path, "not an image, or damaged")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


def huge_jpeg(path):
    """Damage: a JPEG header of 60000 x 60000 pixels, behind a comment that looks like another."""
    data = path.read_bytes()
    at = data.index(b"\xff\xc0")
    comment = b"\xff\xfe\x00\x0b" + b"\xff\xc0\x00\x11\x08\x01\xe0\x02\x80"
    huge = data[at : at + 5] + struct.pack(">HH", 60000, 60000)
    path.write_bytes(data[:at] + comment + huge + data[at + 9 :])


def many_scans(path):
    """Damage: a progressive JPEG whose last scan comes a thousand times."""
    image = np.zeros((480, 640, 3), np.uint8)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    data = path.read_bytes()
    at = data.rindex(b"\xff\xda")
    path.write_bytes(data[:at] + data[at:-2] * 1000 + data[-2:])


@pytest.mark.parametrize(
    "damage, fragment",
    [
        (huge_jpeg, f"{60000 * 60000} pixels"),
        (many_scans, "not an image, or damaged"),
        (lambda path: path.write_bytes(b"BM" + bytes(100)), "not an image"),
        (lambda path: os.truncate(path, 1 << 30), "larger than"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "no file"),
    ],
)
def test_hostile_images(tmp_path, damage, fragment):
    path = tmp_path / "NYU0001_rgb.jpg"
    cv2.imwrite(str(path), np.zeros((480, 640, 3), np.uint8))
    assert nyu.read_image(path).shape == (480, 640, 3)
    damage(path)
    start = time.monotonic()
    assert_refused(lambda: nyu.read_image(path), path, fragment)
    assert time.monotonic() - start < 5


def test_progressive_jpegs_are_read(tmp_path):
    image = np.indices((480, 640)).sum(axis=0)[..., None].repeat(3, 2) % 250
    path = tmp_path / "NYU0001_rgb.jpg"
    cv2.imwrite(str(path), image.astype(np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert nyu.read_image(path).shape == (480, 640, 3)


def test_hostile_id_lists(root, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_bytes(b"0003\n" * 10**6)
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids, "larger than")
    ids.unlink()
    os.mkfifo(ids)
    assert_refused(lambda: NYUDataset(root, "train", ids=ids), ids, "no file")
