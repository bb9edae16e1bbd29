"""The commands, on a generated release of three scenes."""

import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from raw_scene import ROOM_CLASSES, camera_pose, fine, room, room_frame

import prepare_NYU
from datasets.files import MAX_CHUNK, _BoundedFile
from datasets.geometry import NYU_INTRINSICS, NYUCAD_INTRINSICS, grid_origin
from datasets.nyu import NYUDataset, prepared_files
from datasets.tsdf import tsdf_from_labels
from datasets.voxels import encode_depth, write_bin
from errors import InputError
from utils.preparation import find_images, prepare_image

ROOT = Path(__file__).resolve().parents[1]
SCENES = {"0002": "train", "0003": "train", "0005": "test"}
POSES = {"0002": camera_pose(0, 15), "0003": camera_pose(20, 25), "0005": camera_pose(-15, 20)}
CLASSES = np.vectorize(ROOM_CLASSES.get)(room())


def command_line(*args):
    """The command as users run it, in parallel."""
    command = [sys.executable, "prepare_NYU.py", *map(str, args), "--workers", "2"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def prepare(monkeypatch, capsys):
    """The command in this process, which spares the imports."""

    def run(*args):
        argv = ["prepare_NYU.py", *map(str, args), "--workers", "1"]
        monkeypatch.setattr(sys, "argv", argv)
        status = 0
        try:
            prepare_NYU.main()
        except SystemExit as error:
            status = error.code
        return subprocess.CompletedProcess(argv, status, *capsys.readouterr())

    return run


def assert_fails(result, *words):
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert any(all(word in line for word in words) for line in errors), result.stderr


def array(path, key="arr_0"):
    with np.load(path) as file:
        return file[key].reshape(60, 36, 60)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A folder with depthbin/ and the .mat of three scenes."""
    folder = tmp_path_factory.mktemp("release")
    for scene, split in SCENES.items():
        pose = POSES[scene]
        for name, K in (("NYU", NYU_INTRINSICS), ("NYUCAD", NYUCAD_INTRINSICS)):
            stem = folder / "depthbin" / f"{name}{split}" / f"NYU{scene}_0000"
            stem.parent.mkdir(parents=True, exist_ok=True)
            write_bin(f"{stem}.bin", fine(room()), pose, grid_origin(pose))
            cv2.imwrite(f"{stem}.png", encode_depth(room_frame(K, pose)))
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as file:
        images = np.random.default_rng(0).integers(0, 255, (5, 3, 640, 480), dtype=np.uint8)
        file.create_dataset("images", data=images, chunks=(1, 3, 640, 480))
    return folder


@pytest.fixture(scope="module")
def prepared(release):
    """The same after `raw`: NYU and NYUCAD beside each other."""
    result = command_line(
        "raw", "--depthbin", release / "depthbin", "--rgb", release / "nyu_depth_v2_labeled.mat",
        "--out", release / "NYU",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "train: 2 of 795 scenes complete" in result.stdout
    assert "test: 1 of 654 scenes complete" in result.stdout
    assert "missing" not in result.stdout
    return release


@pytest.fixture
def copy(prepared, tmp_path):
    for name in ("NYU", "NYUCAD"):
        shutil.copytree(prepared / name, tmp_path / name)
    return tmp_path


def test_raw_gives_back_labels_and_images(prepared):
    root = prepared / "NYU"
    assert (root / "train.txt").read_text().split() == ["0002", "0003"]
    assert (root / "test.txt").read_text().split() == ["0005"]
    with h5py.File(prepared / "nyu_depth_v2_labeled.mat") as file:
        images = file["images"][:]
    for scene, split in SCENES.items():
        np.testing.assert_array_equal(array(root / "Label" / f"{scene}.npz"), CLASSES)
        image = cv2.imread(str(root / split / "RGB" / f"NYU{scene}_rgb.png"))
        red, row, column = 0, 100, 600
        assert image[row, column, 2 - red] == images[int(scene) - 1, red, column, row]
        tsdf, weight = (array(root / "TSDF" / f"{scene}.npz", k) for k in ("arr_0", "arr_1"))
        solid = (CLASSES > 0) & (CLASSES < 255)
        np.testing.assert_array_equal(weight == 1, solid | (tsdf < -0.5))


def test_mapped_pixels_lie_on_solid_voxels(prepared):
    """With NYU's intrinsics in Mapping, and NYUCAD's in TSDF-CAD."""
    mapped = CLASSES[array(prepared / "NYU" / "Mapping" / "0003.npz") != 307200]
    assert ((mapped > 0) & (mapped < 255)).mean() > 0.98
    cad = array(prepared / "NYUCAD" / "TSDF" / "0003.npz")
    pose, origin = POSES["0003"], grid_origin(POSES["0003"])
    perfect = tsdf_from_labels(CLASSES, pose, origin, NYUCAD_INTRINSICS)
    wrong = tsdf_from_labels(CLASSES, pose, origin, NYU_INTRINSICS)
    assert np.abs(cad - perfect).mean() < 0.01  # depth is rounded to millimetres
    assert np.abs(cad - perfect).mean() < np.abs(cad - wrong).mean() / 3


def test_the_data_set_reads_it(prepared):
    samples = NYUDataset(prepared / "NYU", "train", prepared / "NYUCAD")
    assert [samples[i]["name"] for i in range(len(samples))] == ["NYU0002", "NYU0003"]


def test_raw_goes_on_where_it_stopped(prepare, prepared, copy):
    root = copy / "NYU"
    kept = root / "Label" / "0003.npz"
    before = kept.stat().st_mtime_ns
    broken = root / "TSDF" / "0002.npz"
    good = array(broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    (copy / "NYUCAD" / "TSDF" / "0005.npz").unlink()
    result = prepare(
        "raw", "--depthbin", prepared / "depthbin", "--rgb", prepared / "nyu_depth_v2_labeled.mat",
        "--out", root,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "7 of 9 were there already" in result.stdout
    np.testing.assert_array_equal(array(broken), good)
    assert (copy / "NYUCAD" / "TSDF" / "0005.npz").exists()
    assert kept.stat().st_mtime_ns == before
    assert not list(copy.rglob("*.tmp"))


def test_one_bad_scene_does_not_stop_the_others(release, tmp_path):
    depthbin = tmp_path / "depthbin"
    shutil.copytree(release / "depthbin", depthbin)
    images = tmp_path / "images"
    images.mkdir()
    for name in ("NYU0002_rgb.png", "NYU0003_colors.png", "NYU0005_0000_color.jpg"):
        cv2.imwrite(str(images / name), np.full((480, 640, 3), 99, np.uint8))
    bad_bin = depthbin / "NYUtrain" / "NYU0003_0000.bin"
    bad_bin.write_bytes(bad_bin.read_bytes()[:-8])
    millimetres = np.random.default_rng(0).integers(1000, 4000, (480, 640)).astype(np.uint16)
    cv2.imwrite(str(depthbin / "NYUCADtrain" / "NYU0002_0000.png"), millimetres)
    (depthbin / "NYUtest" / "NYU0005_0000.png").unlink()
    (depthbin / "NYUtrain" / ".DS_Store").write_bytes(b"")
    args = ("--depthbin", depthbin, "--rgb", images, "--out", tmp_path / "NYU")
    result = command_line("raw", *args)
    assert_fails(result, "scene 0003", "NYU0003_0000.bin", "add up")
    assert_fails(result, "scene 0002", "NYU0002_0000.png", "millimetres")
    assert_fails(result, "2 of 8 failed")
    assert "missing: NYU depth .png of 1 test scenes (0005)" in result.stdout
    assert "train: 1 of 795 scenes complete" in result.stdout
    assert (tmp_path / "NYU" / "train.txt").read_text() == "0002\n"
    assert (tmp_path / "NYU" / "test" / "RGB" / "NYU0005_rgb.jpg").exists()
    assert (tmp_path / "NYUCAD" / "TSDF" / "0005.npz").exists()


def test_wrong_sources_are_named(prepare, release, tmp_path):
    out = ("--out", tmp_path / "NYU")
    depthbin, mat = release / "depthbin", release / "nyu_depth_v2_labeled.mat"
    assert_fails(prepare("raw", "--depthbin", tmp_path, "--rgb", mat, *out), "--depthbin")
    (tmp_path / "text.mat").write_text("no HDF5")
    for rgb in (tmp_path / "text.mat", tmp_path / "nowhere.mat", tmp_path):
        assert_fails(prepare("raw", "--depthbin", depthbin, "--rgb", rgb, *out), str(rgb), "--rgb")
    assert_fails(
        prepare("raw", "--depthbin", depthbin, "--rgb", mat, *out, "--out-cad", tmp_path / "NYU"),
        "--out-cad",
    )


def test_cad_with_known_and_with_recovered_cameras(prepare, copy, prepared, tmp_path):
    np.savez(
        tmp_path / "poses.npz",
        ids=list(POSES),
        cam_pose=list(POSES.values()),
        vox_origin=[grid_origin(pose) for pose in POSES.values()],
    )
    sources = {
        "npz": ("--poses", tmp_path / "poses.npz"),
        "bin": ("--poses", prepared / "depthbin"),
        "fine": ("--poses", prepared / "depthbin", "--fine"),
        "mapping": (),
    }
    for scene in ("0002", "0005"):
        (copy / "NYU" / "Label" / f"{scene}.npz").unlink()
    perfect = tsdf_from_labels(CLASSES, POSES["0003"], grid_origin(POSES["0003"])).reshape(-1)
    for name, options in sources.items():
        result = prepare("cad", "--root", copy / "NYU", "--out", tmp_path / name, *options)
        assert result.returncode == 0, result.stderr
        with np.load(tmp_path / name / "TSDF" / "0003.npz") as file:
            made = file["arr_0"]
        assert made.dtype == np.float32
        assert made.shape == (129600,)
        assert np.corrcoef(made, perfect)[0, 1] > (0.98 if name == "mapping" else 0.999999)


def test_cad_without_what_it_needs(prepare, copy, tmp_path):
    assert_fails(prepare("cad", "--root", tmp_path / "no", "--out", tmp_path / "out"), "Label")
    (copy / "NYU" / "Mapping" / "0002.npz").unlink()
    label = copy / "NYU" / "Label" / "0003.npz"
    label.write_bytes(label.read_bytes()[:500])
    result = prepare("cad", "--root", copy / "NYU", "--out", tmp_path / "out")
    assert_fails(result, "scene 0002", "Mapping/0002.npz")
    assert_fails(result, "scene 0003", "Label/0003.npz")
    assert (tmp_path / "out" / "TSDF" / "0005.npz").exists()
    assert_fails(
        prepare("cad", "--root", copy / "NYU", "--out", tmp_path / "out", "--fine"), "--fine"
    )
    (copy / "NYU" / "Label" / "..0003.npz").write_bytes(b"")
    assert_fails(prepare("cad", "--root", copy / "NYU", "--out", tmp_path / "out"), "not a scene")


def test_a_folder_without_poses_is_named(prepare, prepared, tmp_path):
    words = "cad", "--root", prepared / "NYU", "--out", tmp_path / "out", "--poses", tmp_path
    assert_fails(prepare(*words), "no NYUxxxx_0000.bin")


def test_check_of_a_sound_folder(prepare, prepared, tmp_path):
    picture = tmp_path / "check.png"
    result = prepare("check", "--root", prepared / "NYU", "--picture", picture)
    assert result.returncode == 0, result.stderr
    assert "train: 2 scenes (NYUv2 has 795), 2 sound" in result.stdout
    assert "TSDF-CAD of 2 scenes" in result.stdout
    bed = 2 * int((CLASSES == 6).sum())
    assert f"bed {bed}," in result.stdout
    assert cv2.imread(str(picture)).std() > 20


def test_check_finds_what_is_wrong(prepare, copy, tmp_path):
    root, picture = copy / "NYU", ("--picture", tmp_path / "check.png")
    with np.load(root / "TSDF" / "0002.npz") as file:
        tsdf, weight = file["arr_0"], file["arr_1"]
    weight[np.flatnonzero(weight == 0)[0]] = 1
    np.savez(root / "TSDF" / "0002.npz", tsdf, weight)
    with np.load(root / "Mapping" / "0003.npz") as file:
        mapping = file["arr_0"]
    mapped = np.flatnonzero(mapping != 307200)
    mapping[mapped] = mapping[np.random.default_rng(0).permutation(mapped)]
    np.savez(root / "Mapping" / "0003.npz", mapping)
    np.savez(copy / "NYUCAD" / "TSDF" / "0005.npz", np.full(129600, np.nan, np.float32))
    result = prepare("check", "--root", root, *picture)
    assert_fails(result, "TSDF/0002.npz", "label weight", "1 voxels")
    assert_fails(result, "Mapping/0003.npz", "no camera fits")
    assert_fails(result, "NYUCAD/TSDF/0005.npz", "NaN")
    assert_fails(result, "3 of 3 failed")

    shutil.copy(root / "train.txt", root / "test.txt")
    assert_fails(prepare("check", "--root", root, *picture), "missing")
    shutil.copytree(root / "train" / "RGB", root / "test" / "RGB", dirs_exist_ok=True)
    result = prepare("check", "--root", root, *picture)
    assert_fails(result, "scene 0002 is in train and in test")


def external(file, path):
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as target:
        target.create_dataset("images", (1, 3, 640, 480), np.uint8)
    file["images"] = h5py.ExternalLink(other, "images")


def virtual(file, path):
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as target:
        target.create_dataset("images", (1, 3, 640, 480), np.uint8)
    layout = h5py.VirtualLayout((1, 3, 640, 480), np.uint8)
    layout[:] = h5py.VirtualSource(other, "images", (1, 3, 640, 480))
    file.create_virtual_dataset("images", layout)


def raw_elsewhere(file, path):
    parts = [(str(path.with_name("raw")), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("images", (1, 3, 640, 480), np.uint8, external=parts)


def huge_chunks(file, path):
    shape = 1000, 3, 640, 480
    file.create_dataset("images", shape, np.uint8, chunks=shape, compression="gzip")


def other_packing(file, path):
    file.create_dataset("images", (1, 3, 640, 480), np.uint8, compression="lzf")


def too_many(file, path):
    file.create_dataset("images", (10**6, 3, 640, 480), np.uint8, chunks=(1, 3, 640, 480))


def a_group(file, path):
    file.create_group("images")


@pytest.mark.parametrize(
    "make, words",
    [
        (external, "another file"),
        (virtual, "another file"),
        (raw_elsewhere, "another file"),
        (huge_chunks, "chunks"),
        (other_packing, "packed"),
        (too_many, "1000000"),
        (a_group, "Group"),
    ],
)
def test_hostile_mat_files(make, words, tmp_path):
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        make(file, path)
    with pytest.raises(InputError, match=words) as caught:
        find_images(path)
    assert str(path) in str(caught.value)


def test_a_chunk_of_a_mat_file_that_unpacks_to_more(tmp_path):
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        shape = 2, 3, 640, 480
        images = file.create_dataset(
            "images", shape, np.uint8, chunks=(1, 3, 320, 480), compression="gzip", shuffle=True
        )
        images[0] = 5
        for start in (0, 320):
            images.id.write_direct_chunk((1, 0, start, 0), zlib.compress(bytes(10**8)))
    sources = find_images(path)
    first, second = (prepared_files(tmp_path, "train", scene) for scene in sources)
    assert prepare_image(sources["0001"], first)
    assert (cv2.imread(str(first.image)) == 5).all()
    with pytest.raises(InputError, match="longer than it should be"):
        prepare_image(sources["0002"], second)


@pytest.mark.parametrize("position, size", [(0, MAX_CHUNK + 1), (90, 11), (200, 1)])
def test_hdf5_gets_no_more_than_there_is(position, size, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with _BoundedFile(path) as file:
        file.seek(position)
        with pytest.raises(OSError, match=f"{size} bytes"):
            file.readinto(bytearray(size))
        file.seek(90)
        assert file.readinto(bytearray(10)) == 10
