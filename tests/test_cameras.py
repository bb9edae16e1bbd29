"""Intrinsics, depth units, images of any size, and resampling to NYUv2's view."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.files import read_depth_image, read_rgb
from datasets.frames.cameras import (
    PRESETS,
    check_intrinsics,
    preset_intrinsics,
    read_intrinsics,
    read_pose,
    scale_intrinsics,
    to_nyu_view,
)
from datasets.frames.depth import to_metres
from datasets.geometry import NYU_INTRINSICS
from errors import InputError

VGA = (480, 640)
K525 = [[525, 0, 319.5], [0, 525, 239.5], [0, 0, 1]]


def metres(seed=0, shape=VGA):
    """Depths of a room, 1 to 4 m, whole millimetres, a corner not measured."""
    depth = np.random.default_rng(seed).uniform(1, 4, shape).round(3).astype(np.float32)
    depth[:50, :50] = 0
    return depth


# Resampling


def test_the_view_of_nyus_own_camera_is_the_frame():
    rgb = np.random.default_rng(1).integers(0, 256, (*VGA, 3), dtype=np.uint8)
    view = to_nyu_view(rgb, metres(), NYU_INTRINSICS)
    np.testing.assert_array_equal(view.image, rgb)
    np.testing.assert_array_equal(view.depth, metres())
    np.testing.assert_array_equal(view.wide_depth, metres())
    np.testing.assert_array_equal(view.wide_intrinsics, NYU_INTRINSICS)


@pytest.mark.parametrize(
    ("shape", "K"),
    [
        (VGA, K525),
        ((424, 512), preset_intrinsics("kinect-v2", (424, 512))),
        ((1080, 1920), preset_intrinsics("kinect-v2", (1080, 1920))),
        ((240, 320), scale_intrinsics(K525, VGA, (240, 320))),
        ((720, 960), [[700, 0, 470], [0, 720, 350], [0, 0, 1]]),
    ],
)
def test_a_point_lands_where_nyus_camera_sees_it(shape, K):
    """Image and depth of a smooth scene, against its own formula in each pixel of the view."""
    K = np.asarray(K, float)
    v, u = np.indices(shape)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    rgb = np.stack([128 + 150 * x, 128 + 150 * y, 128 + 100 * x * y], axis=-1)
    rgb, depth = rgb.round().clip(0, 255).astype(np.uint8), (2 + x + y).astype(np.float32)
    view = to_nyu_view(rgb, depth, K)

    for K_view, seen in ((NYU_INTRINSICS, view.depth), (view.wide_intrinsics, view.wide_depth)):
        v, u = np.indices(seen.shape)
        x, y = (u - K_view[0, 2]) / K_view[0, 0], (v - K_view[1, 2]) / K_view[1, 1]
        column, row = x * K[0, 0] + K[0, 2], y * K[1, 1] + K[1, 2]
        inside = (
            (column > -0.49) & (column < shape[1] - 0.51) & (row > -0.49) & (row < shape[0] - 0.51)
        )
        outside = (
            (column < -0.51) | (column > shape[1] - 0.49)
            | (row < -0.51) | (row > shape[0] - 0.49)
        )  # fmt: skip
        assert inside.sum() > 0.4 * seen.size
        half_pixel = 0.5 / K[0, 0] + 0.5 / K[1, 1]
        assert np.abs(seen - (2 + x + y))[inside].max() <= half_pixel + 1e-5
        assert (seen[outside] == 0).all()
        if seen is view.depth:
            deep = cv2.erode(inside.astype(np.uint8), np.ones((9, 9))) > 0
            expected = np.stack([128 + 150 * x, 128 + 150 * y, 128 + 100 * x * y], axis=-1)
            assert np.abs(view.image - expected)[deep].max() < 2.5
            beyond = cv2.erode(outside.astype(np.uint8), np.ones((7, 7))) > 0
            assert (view.image[beyond] == [124, 116, 104]).all()
    # Nothing of the frame is lost in the wide view: its four corners are in it.
    for u, v in ((0, 0), (shape[1] - 1, 0), (0, shape[0] - 1), (shape[1] - 1, shape[0] - 1)):
        ray = np.linalg.inv(K) @ [u, v, 1]
        column, row, _ = view.wide_intrinsics @ ray
        height, width = view.wide_depth.shape
        assert -0.5 <= column <= width and -0.5 <= row <= height


def test_depth_is_never_interpolated():
    depth = np.where(np.indices(VGA)[1] < 320, 1, 3).astype(np.float32)
    view = to_nyu_view(np.zeros((*VGA, 3), np.uint8), depth, K525)
    assert set(np.unique(view.wide_depth)) == {0, 1, 3}


# Intrinsics


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_cameras_of_their_sizes(name):
    for width, height, fx, fy, cx, cy in PRESETS[name]:
        K = preset_intrinsics(name, (height, width))
        np.testing.assert_allclose(K, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], rtol=1e-6)
        check_intrinsics(K, (height, width))


def test_a_preset_is_scaled_to_half_the_size_but_not_to_other_proportions():
    K = preset_intrinsics("kinect-v1", (240, 320))
    # A point at the right end of the image stays there: pixel 319.5 + 320 = 639.5 is the border.
    assert K[0, 0] == 262.5
    assert (319.5 - K[0, 2]) / K[0, 0] == pytest.approx((639.5 - 319.5) / 525)
    with pytest.raises(InputError, match="512x424.*1000x1000.*--intrinsics"):
        preset_intrinsics("kinect-v2", (1000, 1000))
    with pytest.raises(InputError, match="nyu, kinect-v1"):
        preset_intrinsics("leica", VGA)


@pytest.mark.parametrize(
    "text",
    [
        "525 0 319.5\n0 525 239.5\n0 0 1\n",
        "525, 525, 319.5, 239.5",
        json.dumps(K525),
        json.dumps({"fx": 525, "fy": 525, "cx": 319.5, "cy": 239.5}),
        json.dumps({"fx": 525, "fy": 525, "ppx": 319.5, "ppy": 239.5}),
        json.dumps({"K": [525, 0, 319.5, 0, 525, 239.5, 0, 0, 1], "D": [0, 0, 0, 0, 0]}),
        json.dumps(
            {"width": 640, "height": 480,
             "intrinsic_matrix": [525, 0, 0, 0, 525, 0, 319.5, 239.5, 1]}
        ),
        json.dumps(
            {"width": 1280, "height": 960, "fx": 1050, "fy": 1050, "cx": 639.5, "cy": 479.5}
        ),
    ],
    ids=["matrix", "numbers", "json", "names", "realsense", "ros", "open3d", "scaled"],
)  # fmt: skip
def test_intrinsics_files(text, tmp_path):
    path = tmp_path / "camera"
    path.write_text(text)
    np.testing.assert_allclose(read_intrinsics(path, VGA), K525, atol=0.26)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "no camera intrinsics"),
        ("1 2 3", "no camera intrinsics"),
        ('{"fx": 1}', "no camera intrinsics"),
        ("[" * 10000, "no camera intrinsics"),
        ('{"fx": 525, "fy": 525, "cx": {}, "cy": 1}', "cannot be read"),
        ("1050 1050 639.5 479.5", "another resolution"),
        ("262 262 159.5 119.5", "another resolution"),
        ("365 365 255 212", "another resolution"),
        ("5250 5250 319.5 239.5", "another resolution"),
        ("525 nan 319.5 239.5", "finite"),
        ("-525 525 319.5 239.5", "pixels"),
        ("525 3 319.5 0 525 239.5 0 0 1", "skew"),
        ('{"width": 640, "height": 360, "fx": 5, "fy": 5, "cx": 3, "cy": 2}', "640x360.*640x480"),
        (" " * 100000, "too large"),
    ],
)
def test_wrong_intrinsics_are_refused(text, reason, tmp_path):
    path = tmp_path / "camera.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=f"camera.txt.*{reason}"):
        read_intrinsics(path, VGA)
    with pytest.raises(InputError, match="absent"):
        read_intrinsics(tmp_path / "absent", VGA)


def test_pose_files(tmp_path):
    path = tmp_path / "pose.txt"
    np.savetxt(path, np.diag([1, -1, -1, 1]))
    np.testing.assert_array_equal(read_pose(path), np.diag([1, -1, -1, 1]))
    path.write_text("0 9.81 0\n")
    np.testing.assert_allclose(read_pose(path), [0, 9.81, 0])
    for text in ("1 2 3 4", "a b c", "0 nan 0", ""):
        path.write_text(text)
        with pytest.raises(InputError, match="pose.txt.*4x4"):
            read_pose(path)
    path.write_bytes(b"\xff\xfe\x00")  # half a letter of UTF-16
    with pytest.raises(InputError, match="not text"):
        read_pose(path)


# Depth units


def sscnet(depth):
    mm = np.rint(depth * 1000).astype(np.uint16)
    return (mm << 3) | (mm >> 13)


CODED = {
    "mm": lambda depth: np.rint(depth * 1000).astype(np.uint16),
    "tum": lambda depth: (np.rint(depth * 1000) * 5).astype(np.uint16),
    "sscnet": sscnet,
    "m": lambda depth: depth,
}


@pytest.mark.parametrize("unit", CODED)
def test_units_are_read_back(unit):
    depth, belief = to_metres(CODED[unit](metres()), unit)
    np.testing.assert_allclose(depth, metres(), atol=1e-6)
    assert "median 2.49" in belief and "1% not measured" in belief


@pytest.mark.parametrize(
    ("right", "wrong"),
    [(a, b) for a in CODED for b in CODED if a != b and (a, b) != ("sscnet", "tum")],
)
def test_a_wrong_unit_is_refused_and_the_right_one_named(right, wrong):
    raw = CODED[right](metres())
    with pytest.raises(InputError, match=f"depth.png.*--depth-unit {right}"):
        to_metres(raw, wrong, "depth.png")


def test_without_a_unit_integers_are_millimetres_and_floats_metres():
    np.testing.assert_allclose(to_metres(CODED["mm"](metres())).metres, metres(), atol=1e-6)
    np.testing.assert_array_equal(to_metres(metres()).metres, metres())
    with pytest.raises(InputError, match="--depth-unit mm"):
        to_metres(metres() * 1000)
    near = metres() / 2.5  # 0.4 to 1.6 m
    for unit in ("tum", "sscnet"):  # of these, millimetres would be plausible too
        with pytest.raises(InputError, match=f"--depth-unit {unit}, or --depth-unit mm"):
            to_metres(CODED[unit](near))
        to_metres(CODED[unit](near), "mm")


def test_a_given_unit_that_is_plausible_is_taken_but_doubted():
    """SSCNet's eighths of a millimetre are not far from fifths."""
    depth, belief = to_metres(CODED["sscnet"](metres()), "tum")
    assert depth.max() == pytest.approx(4 * 8 / 5, abs=0.01) and "rotated left" in belief
    for same in ("tum", "5000"):
        assert "but the numbers" not in to_metres(CODED["tum"](metres()), same).belief


def test_a_number_of_units_in_a_metre():
    np.testing.assert_allclose(to_metres(metres() * 4000, "4000").metres, metres(), rtol=1e-6)
    for unit in ("cm", "0", "-5", "nan"):
        with pytest.raises(InputError, match="depth unit"):
            to_metres(metres(), unit)


def test_what_is_not_measured_becomes_zero():
    raw = CODED["mm"](metres())
    raw[100:200] = 65535
    depth = to_metres(raw).metres
    assert (depth[100:200] == 0).all() and depth.max() < 4.1
    floats = metres()
    floats[0, :3] = np.nan, np.inf, -np.inf
    floats[60:80] = np.nan
    assert (to_metres(floats).metres[60:80] == 0).all()


def test_rounding_is_that_of_the_published_arrays():
    """Single-precision division, as datasets.voxels.decode_depth has it."""
    mm = np.arange(1000, 1000 + 480 * 4, 4, dtype=np.uint16)[:, None].repeat(9, axis=1)
    expected = mm.astype(np.float32) / np.float32(1000)
    np.testing.assert_array_equal(to_metres(mm, "mm").metres, expected)
    np.testing.assert_array_equal(to_metres((mm << 3) | (mm >> 13), "sscnet").metres, expected)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (np.zeros(VGA, np.uint16), "0 of 307200 pixels are measured"),
        (np.full(VGA, 65535, np.uint16), "0 of 307200 pixels are measured"),
        (np.full(VGA, np.nan), "0 of 307200 pixels are measured"),
        (np.eye(640, dtype=np.uint16)[:480] * 1500, "480 of 307200"),
        (np.zeros((0, 0)), "0 of 0"),
        (-metres(), "negative"),
        (np.full(VGA, 1500, np.uint16), "same depth"),
        (np.zeros((*VGA, 3)), r"\(height, width\)"),
        (metres() * 1e9, "no known unit would fit"),
    ],
)
def test_depth_that_is_none_is_refused(raw, reason):
    with pytest.raises(InputError, match=f"frame7.*{reason}"):
        to_metres(raw, name="frame7")


def test_raw_disparity_is_refused():
    disparity = np.random.default_rng(0).integers(400, 1050, VGA).astype(np.uint16)
    disparity[:100] = 2047
    with pytest.raises(InputError, match="disparity"):
        to_metres(disparity)


# Image files


def test_images_are_read_as_they_are(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), rgb)
    rgba = np.dstack([rgb, np.full((30, 50), 9, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.png"), rgb)
    # The same decoder as of the data set, and no turning by metadata.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(tmp_path / "c.jpg", exif=exif)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    expected = cv2.imread(str(tmp_path / "c.jpg"), flags)[..., ::-1]
    np.testing.assert_array_equal(read_rgb(tmp_path / "c.jpg"), expected)


def test_depth_images_of_every_kind(tmp_path):
    raw = CODED["mm"](metres(shape=(40, 60)))
    for name in ("d.png", "d.tif", "d.pgm"):
        cv2.imwrite(str(tmp_path / name), raw)
        np.testing.assert_array_equal(read_depth_image(tmp_path / name), raw)
    np.save(tmp_path / "d.npy", metres())
    np.testing.assert_array_equal(read_depth_image(tmp_path / "d.npy"), metres())
    cv2.imwrite(str(tmp_path / "f.tif"), metres())
    np.testing.assert_array_equal(read_depth_image(tmp_path / "f.tif"), metres())


def test_wrong_image_files_are_refused(tmp_path):
    def refusal(read, name):
        with pytest.raises(InputError, match=name) as info:
            read(tmp_path / name)
        return str(info.value)

    rgb = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb)
    cv2.imwrite(str(tmp_path / "grey.png"), rgb[..., 0])
    cv2.imwrite(str(tmp_path / "depth.png"), CODED["mm"](metres()))
    assert "swapped" in refusal(read_depth_image, "rgb.png")
    assert "8 bits" in refusal(read_depth_image, "grey.png")
    assert "is it the depth" in refusal(read_rgb, "depth.png")
    assert "colour" in refusal(read_rgb, "grey.png")
    for name, read in (("rgb.png", read_rgb), ("depth.png", read_depth_image)):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"half_{name}").write_bytes(data[: len(data) // 2])
        assert "damaged" in refusal(read, f"half_{name}")
    cv2.imwrite(str(tmp_path / "rgb.jpg"), rgb)
    data = (tmp_path / "rgb.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) * 2 // 3])
    assert "damaged" in refusal(read_rgb, "half.jpg")
    (tmp_path / "text.png").write_text("hello")
    assert "not an image" in refusal(read_rgb, "text.png")
    assert "no such file" in refusal(read_rgb, "absent.png")
    assert "no such file" in refusal(read_depth_image, "absent.npy")
    (tmp_path / "text.npy").write_text("hello")
    assert "NumPy" in refusal(read_depth_image, "text.npy")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    assert "object.npy" in refusal(read_depth_image, "object.npy")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    assert "height, width" in refusal(read_depth_image, "cube.npy")


def test_texts_of_windows_are_read(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "camera.txt").write_text("525 525 319.5 239.5", encoding=encoding)
        np.testing.assert_array_equal(read_intrinsics(tmp_path / "camera.txt", VGA), K525)


def test_images_that_are_to_be_converted_first(tmp_path):
    (tmp_path / "a.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(99))
    (tmp_path / "a.heic").write_bytes(bytes(3) + b"\x18ftypheic" + bytes(99))
    for read, name, advice in (
        (read_depth_image, "a.exr", r"EXR.*\.npy"), (read_rgb, "a.heic", "HEIC.*JPEG")
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{name}: an? {advice}"):
            read(tmp_path / name)
    np.save(tmp_path / "d.npy", metres()[..., None])
    np.testing.assert_array_equal(read_depth_image(tmp_path / "d.npy"), metres())


def test_a_header_that_promises_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="9000x9000"):
        read_rgb(tmp_path / "huge.png")
