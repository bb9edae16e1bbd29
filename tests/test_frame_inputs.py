"""What predict.py makes of a frame's files before it is completed."""

import re
import sys

import cv2
import numpy as np
import pytest
from raw_scene import camera_pose, room_frame

from datasets.frames.cameras import preset_intrinsics, read_pose
from datasets.frames.finding import FrameFiles
from datasets.geometry import NYU_INTRINSICS
from errors import InputError
from predict import frame_reader, parse_arguments

K = np.array([[585, 0, 320], [0, 585, 240], [0, 0, 1]])


def read(folder, monkeypatch, *words, depth=None, rgb=None):
    """An image whose colour is its column, and a depth that grows with the row, as read."""
    if rgb is None:
        rgb = np.repeat(np.tile(np.arange(640) // 4, (480, 1))[..., None], 3, axis=2)
    if depth is None:
        depth = np.tile(np.linspace(1500, 4000, 480)[:, None], (1, 640))
    cv2.imwrite(str(folder / "rgb.png"), rgb.astype(np.uint8))
    cv2.imwrite(str(folder / "depth.png"), depth.astype(np.uint16))
    paths = folder / "rgb.png", folder / "depth.png"
    command = ["predict.py", "--rgb", paths[0], "--depth", paths[1], "--pretrained_path", "x"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), *map(str, words)])
    frame = frame_reader(parse_arguments())(FrameFiles("frame", *paths, None))
    return frame.rgb, frame.depth, frame.K, frame.beliefs


@pytest.mark.parametrize("words", [("585,585,320,240",), ("585", "585", "320", "240")])
def test_four_numbers(words, tmp_path, monkeypatch):
    np.testing.assert_allclose(read(tmp_path, monkeypatch, "--intrinsics", *words)[2], K)


@pytest.mark.parametrize("camera", ["585 585 320 240", "1184.6 1184.6 648 484"])
def test_colour_of_another_size_with_a_camera_for_either(camera, tmp_path, monkeypatch):
    """As ScanNet's: colour 1296x968, depth 640x480."""
    (tmp_path / "camera.txt").write_text(camera)
    small = np.repeat(np.tile(np.arange(640) // 4, (480, 1))[..., None], 3, axis=2)
    large = cv2.resize(small.astype(np.uint8), (1296, 968))
    rgb, depth, found, lines = read(
        tmp_path, monkeypatch, "--intrinsics", tmp_path / "camera.txt", rgb=large
    )
    assert rgb.shape == (480, 640, 3) and depth.shape == (480, 640)
    np.testing.assert_allclose(found, K, atol=3)  # 968 rows are not quite 1296 * 3 / 4
    assert abs(rgb[240, :, 0].astype(int) - np.arange(640) // 4).max() <= 2
    assert any("resized" in line for line in lines)


def test_lens_distortion_is_undone_and_said(tmp_path, monkeypatch):
    (tmp_path / "camera.json").write_text(
        '{"width": 640, "height": 480, "K": [585, 0, 320, 0, 585, 240, 0, 0, 1], '
        '"distortion_model": "plumb_bob", "D": [0.1, 0, 0, 0, 0]}'
    )
    rgb, _, _, lines = read(tmp_path, monkeypatch, "--intrinsics", tmp_path / "camera.json")
    x = (400 - 320) / 585
    u = 320 + 585 * x * (1 + 0.1 * x**2)  # where the lens saw what belongs to column 400, row 240
    assert abs(int(rgb[240, 400, 0]) - u / 4) <= 1
    assert any("Brown-Conrady" in line for line in lines)


def test_a_crop_is_to_be_said(tmp_path, monkeypatch):
    words = "--intrinsics", "585,585,120,240"
    with pytest.raises(InputError, match="far from the centre"):
        read(tmp_path, monkeypatch, *words)
    assert read(tmp_path, monkeypatch, *words, "--crop")[2][0, 2] == 120


def test_poses_as_tools_write_them(tmp_path):
    half = np.sqrt(0.5)  # a quarter turn about z
    expected = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], np.float32)
    path = tmp_path / "pose.txt"
    for numbers in (
        expected.ravel(),
        expected[:3].ravel(),
        [1, 2, 3, 0, 0, half, half],
        [1305031102.1, 1, 2, 3, 0, 0, half, half],
    ):
        path.write_text("# a pose\n" + " ".join(map(str, numbers)))
        np.testing.assert_allclose(read_pose(path), expected, atol=1e-6)
    np.save(tmp_path / "pose.npy", expected)
    np.testing.assert_allclose(read_pose(tmp_path / "pose.npy"), expected)
    path.write_text("1 0 0 0\n0 1 O 0\n0 0 1 0\n0 0 0 1\n")
    with pytest.raises(InputError, match="pose.txt, line 2: 'O' is no number"):
        read_pose(path)
    path.write_text("-inf " * 16)
    with pytest.raises(InputError, match="pose.txt: the pose of this frame was lost"):
        read_pose(path)


def test_presets_know_their_cameras_sizes():
    assert preset_intrinsics("realsense-d435", (480, 848))[0, 2] == pytest.approx(423.5)
    arkit = preset_intrinsics("iphone-lidar", (192, 256))
    assert arkit[0, 0] == pytest.approx(192)


# Depth units


@pytest.mark.parametrize(
    ("per_metre", "others"),
    [
        # 1/5000 m would pass for Replica's unit too, in a room 31 % too large.
        (6553.5, {"tum": 1.80, "10000": 0.90}),
        (10000, {"6553.5": 2.09, "tum": 2.74}),
        (100, {"256": 0.54}),
    ],
)
def test_units_that_fit_are_ranked_by_the_cameras_height(per_metre, others, tmp_path, monkeypatch):
    """Of a camera 1.37 m above the floor: the right unit first, the others with their heights."""
    depth = room_frame(NYU_INTRINSICS, camera_pose(yaw=15, pitch=40, height=1.4))
    raw = np.rint(depth * per_metre)
    raw[raw > 65534] = 0
    K = ",".join(map(str, NYU_INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]]))
    with pytest.raises(InputError, match="cannot say which is right.*NUMBER") as error:
        read(tmp_path, monkeypatch, "--intrinsics", K, depth=raw)
    named = re.findall(r"--depth-unit (\S+) \([^)]*camera ([\d.]+) m above", str(error.value))
    assert named[0][0] == f"{per_metre:g}" and float(named[0][1]) == pytest.approx(1.37, abs=0.03)
    heights = {unit: float(height) for unit, height in named[1:]}
    assert heights == pytest.approx(others, abs=0.06)
    # Lying on its side, there is no floor; with --rotate there is.
    turned = np.ascontiguousarray(np.rot90(raw))
    K = "519.4696,518.8579,253.74,313.42"
    rgb = np.zeros((640, 480, 3), np.uint8)
    words = ["--intrinsics", K, "--rotate", "90"]
    with pytest.raises(InputError) as error:
        read(tmp_path, monkeypatch, *words, depth=turned, rgb=rgb)
    assert re.search(rf"--depth-unit {per_metre:g} \([^)]*camera 1.3\d m", str(error.value))
