"""Camera files as tools write them, of one camera; where the naive reading would be wrong too."""

import json

import numpy as np
import pytest
from raw_scene import SHARED

from datasets.frames.camera_files import read_camera
from errors import InputError

K = np.array([[585, 0, 320], [0, 580, 240], [0, 0, 1]], float)
FLAT = [585, 0, 320, 0, 580, 240, 0, 0, 1]
D = [0.1, -0.2, 0.001, 0.002, 0.03]
ROS = """image_width: 640
image_height: 480
camera_matrix: {{rows: 3, cols: 3, data: [585, 0, 320, 0, 580, 240, 0, 0, 1]}}
distortion_model: {}
distortion_coefficients: {{rows: 1, cols: {}, data: {}}}
"""
OPENCV = """%YAML:1.0
---
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 585., 0., 320., 0., 580., 240., 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ 0.1, -0.2, 0.001, 0.002, 0.03 ]
"""
KALIBR = """cam0:
  camera_model: pinhole
  distortion_coeffs: [0.1, -0.2, 0.001, 0.002]
  distortion_model: {}
  intrinsics: [585, 580, 320, 240]
  resolution: [640, 480]
"""
XML = """<?xml version="1.0"?>
<opencv_storage>
<image_width>640</image_width>
<image_height>480</image_height>
<camera_matrix type_id="opencv-matrix">
  <rows>3</rows><cols>3</cols><dt>d</dt>
  <data>
    585. 0. 320. 0. 580. 240. 0. 0. 1.</data></camera_matrix>
<distortion_coefficients type_id="opencv-matrix">
  <rows>5</rows><cols>1</cols><dt>d</dt>
  <data>
    0.1 -0.2 0.001 0.002 0.03</data></distortion_coefficients>
</opencv_storage>
"""
ECHOED = """height: 480
width: 640
distortion_model: plumb_bob
d:
- 0.1
- -0.2
- 0.001
- 0.002
- 0.03
k:
- 585.0
- 0.0
- 320.0
- 0.0
- 580.0
- 240.0
- 0.0
- 0.0
- 1.0
---
"""
ORB = """%YAML:1.0
Camera.type: "{}"
Camera1.fx: 585.0
Camera1.fy: 580.0
Camera1.cx: 320.0
Camera1.cy: 240.0
Camera1.k1: 0.1
Camera1.k2: -0.2
Camera1.{}: 0.001
Camera1.{}: 0.002
Camera.width: 640
Camera.height: 480
RGBD.DepthMapFactor: 5000.0
"""
PRINTED = """Intrinsic of "Color" / 640x480
  Width: 640
  Height: 480
  PPX: 320
  PPY: 240
  Fx: 585
  Fy: 580
  Distortion: Inverse Brown Conrady
  Coeffs: 0 0 0 0 0
"""
VGA = (480, 640)


@pytest.mark.parametrize(
    ("text", "shape", "fisheye", "coefficients"),
    [
        ("# fx fy cx cy\n585 580 320 240", None, None, ()),
        ("585,580,320,240", None, None, ()),
        ("[[585. 0. 320.]\n [0. 580. 240.]\n [0. 0. 1.]]", None, None, ()),
        ("585 0 320 0\n0 580 240 0\n0 0 1 0", None, None, ()),
        ("585 0 320 0\n0 580 240 0\n0 0 1 0\n0 0 0 1", None, None, ()),
        (json.dumps(K.T.tolist()), None, None, ()),
        (json.dumps({"K": K.T.reshape(-1).tolist(), "w": 640, "h": 480}), VGA, None, ()),
        (json.dumps({"k": FLAT, "d": D, "distortion_model": "plumb_bob"}), None, False, D),
        (json.dumps({"0": {"cam_K": FLAT}, "1": {"cam_K": FLAT}}), None, None, ()),
        (
            json.dumps({"fl_x": 585, "fl_y": 580, "cx": 320, "cy": 240, "w": 640, "h": 480,
                        "k1": 0.1, "k2": -0.2, "p1": 0.001, "p2": 0.002}),
            VGA, False, D[:4],
        ),
        (
            json.dumps({"parameters": [{"extrinsic": list(range(16)), "intrinsic": {
                "width": 640, "height": 480, "intrinsic_matrix": K.T.reshape(-1).tolist()}}]}),
            VGA, None, (),
        ),
        (ROS.format("plumb_bob", 5, D), VGA, False, D),
        (ROS.format("equidistant", 4, D[:4]), VGA, True, D[:4]),
        (ROS.format("rational_polynomial", 8, D + D[:3]), VGA, False, D + D[:3]),
        (OPENCV, None, False, D),
        (KALIBR.format("radtan"), VGA, False, D[:4]),
        (KALIBR.format("equidistant"), VGA, True, D[:4]),
        (PRINTED, VGA, None, ()),
        (XML, VGA, False, D),
        (ECHOED, VGA, False, D),
        (ECHOED + ECHOED, VGA, False, D),
        (ORB.format("PinHole", "p1", "p2"), VGA, False, D[:4]),
        (ORB.format("KannalaBrandt8", "k3", "k4"), VGA, True, D[:4]),
        ("fx,fy,cx,cy\n585,580,320,240\n", None, None, ()),
        ("K = [585 0 320; 0 580 240; 0 0 1];", None, None, ()),
        ("fx = 585 # pixels\nfy = 580 // too\ncx = 320\ncy = 240", None, None, ()),
        ("[ 640x480  p[320 240]  f[585 580]  Brown Conrady [0.1 -0.2 0.001 0.002 0.03] ]",
         VGA, False, D),
        ("fx_depth = 585\nfy_depth = 580\nmx_depth = 320\nmy_depth = 240", None, None, ()),
        ("m_calibrationColorIntrinsic = 585 0 320 0 0 580 240 0 0 0 1 0 0 0 0 1", None, None, ()),
        # COLMAP counts from the pixel's corner.
        ("1 OPENCV 640 480 585 580 320.5 240.5 0.1 -0.2 0.001 0.002", VGA, False, D[:4]),
    ],
)  # fmt: skip
def test_a_camera_is_read_whatever_wrote_it(text, shape, fisheye, coefficients, tmp_path):
    (tmp_path / "camera").write_text(text)
    camera = read_camera(tmp_path / "camera")
    np.testing.assert_allclose(camera.K, K, atol=1e-6)
    assert camera.shape == shape
    assert (camera.lens and camera.lens.fisheye) == fisheye
    kept = camera.lens.coefficients if camera.lens else ()
    np.testing.assert_allclose(kept[: len(coefficients)], coefficients)
    assert not any(kept[len(coefficients) :])


def test_rectified_images_are_those_of_p(tmp_path):
    """camera_info has both: K and D of the raw images, P of the rectified ones."""
    P = [500, 0, 310, -60, 0, 500, 250, 0, 0, 0, 1, 0]
    info = {"K": FLAT, "D": D, "P": P, "distortion_model": "plumb_bob", "width": 640, "height": 480}
    (tmp_path / "info.json").write_text(json.dumps(info))
    camera = read_camera(tmp_path / "info.json")
    np.testing.assert_array_equal(camera.K, K)
    assert camera.lens.coefficients == tuple(D)
    rectified = camera.as_rectified()
    assert rectified.lens is None and rectified.shape == VGA
    assert rectified.K.tolist() == [[500, 0, 310], [0, 500, 250], [0, 0, 1]]
    (tmp_path / "info.json").write_text(json.dumps(info | {"P": [0] * 12}))  # not calibrated
    assert read_camera(tmp_path / "info.json").as_rectified().K.tolist() == K.tolist()


def test_depth_scale_is_believed_where_its_meaning_is_certain(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"cam_K": FLAT, "depth_scale": 0.1}))  # BOP
    assert read_camera(tmp_path / "a.json").per_metre == pytest.approx(10000)
    (tmp_path / "a.json").write_text(json.dumps({"K": FLAT, "depth_scale": 0.1}))
    assert read_camera(tmp_path / "a.json").per_metre is None


def test_units_of_the_depth_by_other_names(tmp_path):
    (tmp_path / "a.yaml").write_text(ORB.format("PinHole", "p1", "p2"))
    assert read_camera(tmp_path / "a.yaml").per_metre == 5000
    slam = "cam:\n  H: 480\n  W: 640\n  fx: 585\n  fy: 580\n  cx: 320\n  cy: 240\n"
    (tmp_path / "a.yaml").write_text(f"{slam}  png_depth_scale: 6553.5\n")
    assert read_camera(tmp_path / "a.yaml").per_metre == 6553.5
    camera = {"w": 640, "h": 480, "fx": 585, "fy": 580, "cx": 320, "cy": 240}
    for scale, per_metre in (
        ({"scale": 6553.5}, 6553.5),  # Replica
        ({"scale": 1.0}, None),
        ({"depth_scale": 0.001}, 1000),  # RealSense
        ({"depth_scale": 5000}, 5000),
        ({"depth_scale": 1.0}, None),
        ({"depth_scale": "auto", "scale": [1, 2]}, None),
    ):
        (tmp_path / "a.json").write_text(json.dumps({"camera": camera | scale}))
        found = read_camera(tmp_path / "a.json").per_metre
        assert found == pytest.approx(per_metre) if per_metre else found is None


def test_arrays_of_numpy(tmp_path):
    np.savez(tmp_path / "K.npz", K=K)
    with pytest.raises(InputError, match="K.npz: an .npz"):
        read_camera(tmp_path / "K.npz")
    np.save(tmp_path / "K.npy", K)
    np.testing.assert_array_equal(read_camera(tmp_path / "K.npy").K, K)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps({"color": {"fx": 585, "fy": 585, "cx": 320, "cy": 240},
                     "depth": {"fx": 400, "fy": 400, "cx": 320, "cy": 240}}), "2 cameras"),
        ("fx_color = 1170\nfy_color = 1170\nmx_color = 640\nmy_color = 480\n"
         "fx_depth = 585\nfy_depth = 585\nmx_depth = 320\nmy_depth = 240", "colour and depth"),
        (PRINTED + PRINTED, "several cameras"),
        (PRINTED.replace("Coeffs: 0", "Coeffs: 0.1"), "not supported"),
        ("1 FOV 640 480 585 580 320 240 0.9", "FOV is not supported"),
        (json.dumps({"fx": 585, "fy": 585, "cx": 320, "cy": 240, "k4": 0.1}), "k4"),
        ("2 1 1.4 0 0 0 1", "no camera"),
        ("{" * 5000, "no camera"),
        ("585 nan 320 240", "broken intrinsics, not finite: fx = 585.0, fy = nan"),
        (json.dumps({"fx": "58o", "fy": 585, "cx": 320, "cy": 240}), "cannot be read .*58o"),
        (json.dumps({"camera_matrix": FLAT[:8]}), "cannot be read .8 numbers instead of 4, 9"),
        ("a: [", "no camera"),
    ],
)  # fmt: skip
def test_what_is_left_open_is_asked_for(text, reason, tmp_path):
    (tmp_path / "camera").write_text(text)
    with pytest.raises(InputError, match=f"camera: .*{reason}"):
        read_camera(tmp_path / "camera")


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("585 0 32o\n0 580 240\n0 0 1", 1, "32o"),
        ("# of the depth camera\n\n585 0 320\n0 S80 240 # fy\n0 0 1", 4, "S80"),
        ("[[585, 0, 320],\n [0, 580, abc],\n [0, 0, 1]]", 2, "abc"),
        ("585 580 320 240 px", 1, "px"),
        ("585,580,320,240,wide", 1, "wide"),
    ],
)
def test_a_stray_word_among_numbers_is_named(text, line, word, tmp_path):
    (tmp_path / "K.txt").write_text(text)
    with pytest.raises(InputError, match=f"K.txt, line {line}: '{word}' is no number"):
        read_camera(tmp_path / "K.txt")


def test_comments_behind_numbers(tmp_path):
    (tmp_path / "K.txt").write_text("585 0 320 # fx\n0 580 240 // fy\n0 0 1\n")
    np.testing.assert_array_equal(read_camera(tmp_path / "K.txt").K, K)


@pytest.mark.skipif(not (SHARED / "cases").exists(), reason="needs ../shared")
def test_the_collected_files():
    for path in sorted((SHARED / "cases/cameras").iterdir()):
        camera = read_camera(path)
        assert camera.K.tolist() == [[585, 0, 320], [0, 585, 240], [0, 0, 1]], path
        assert (camera.lens is not None) == ("dist" in path.name), path


def test_colour_and_depth_of_one_file_that_differ_are_asked_for(tmp_path):
    path = tmp_path / "info.txt"
    colour = "m_calibrationColorIntrinsic = 1170 0 648 0 0 1170 484 0 0 0 1 0 0 0 0 1\n"
    depth = "m_calibrationDepthIntrinsic = 577 0 318 0 0 577 242 0 0 0 1 0 0 0 0 1\n"
    path.write_text(colour + depth)
    with pytest.raises(InputError, match="colour and depth that differ"):
        read_camera(path)
    path.write_text(depth)
    assert read_camera(path).K[0, 0] == 577


def test_references_that_stand_for_a_billion_are_refused(tmp_path):
    path = tmp_path / "camera.yaml"
    lines = ["a0: &a0 [1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match="camera.yaml"):
        read_camera(path)
