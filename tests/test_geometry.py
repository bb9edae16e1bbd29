import numpy as np
import pytest
from raw_scene import REAL_BIN, camera_pose, needs_real_data

from datasets.geometry import (
    NYU_INTRINSICS,
    NYUCAD_INTRINSICS,
    Frame,
    check_depth,
    check_pose,
    grid_origin,
)
from datasets.voxels import read_bin
from errors import InputError


def one_pixel(row, column, metres):
    depth = np.zeros((480, 640), np.float32)
    depth[row, column] = metres
    return depth


def test_origin_of_a_level_camera():
    np.testing.assert_allclose(grid_origin(camera_pose()), [-2.4, 1.0, -0.05], atol=1e-6)


@needs_real_data
def test_origin_is_that_of_the_real_scene():
    scene = read_bin(REAL_BIN)
    np.testing.assert_allclose(grid_origin(scene.pose), scene.origin, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "column", "metres", "voxel"),
    [
        (240, 320, 2.01, (120, 62, 50)),  # straight ahead: (0 + 2.4, 1.2 + 0.05, 2.01 - 1) / 0.02
        (240, 420, 2.01, (139, 62, 50)),  # 100 pixels right: 100 * 2.01 / 518.8579 = 0.387 m
        (340, 320, 2.01, (120, 43, 50)),  # 100 pixels down
    ],
)
def test_pixel_falls_in_voxel(row, column, metres, voxel):
    pose = camera_pose()
    pixels, voxels = Frame(
        one_pixel(row, column, metres), NYUCAD_INTRINSICS, pose, grid_origin(pose)
    ).pixel_voxels
    assert pixels.tolist() == [row * 640 + column]
    assert voxels.tolist() == [list(voxel)]


def test_points_outside_the_grid_are_left_out():
    pose = camera_pose()
    for metres in (0.9, 6.0):  # the grid reaches from 1.0 to 5.8 m
        depth = one_pixel(240, 320, metres)
        assert len(Frame(depth, NYUCAD_INTRINSICS, pose, grid_origin(pose)).pixel_voxels[0]) == 0


def test_unmeasured_pixels_lie_at_the_camera_only_if_kept():
    pose = camera_pose(pitch=60)  # looks down so much that the camera is inside the grid
    origin = grid_origin(pose)
    depth = np.zeros((480, 640), np.float32)
    pixels, voxels = Frame(depth, NYU_INTRINSICS, pose, origin).pixel_voxels
    x, y, z = np.floor((pose[:3, 3] - origin) / 0.02).astype(int)
    assert len(pixels) == 640 * 480
    assert (voxels == [x, z, y]).all()
    assert (
        len(Frame(depth, NYU_INTRINSICS, pose, origin, keep_unmeasured=False).pixel_voxels[0]) == 0
    )


def test_agrees_with_the_textbook_in_double_precision():
    pose = camera_pose(yaw=20, pitch=15)
    origin = grid_origin(pose)
    depth = np.random.default_rng(0).uniform(1, 6, (480, 640)).astype(np.float32)
    pixels, voxels = Frame(depth, NYU_INTRINSICS, pose, origin).pixel_voxels
    found = dict(zip(pixels.tolist(), voxels.tolist(), strict=True))
    for pixel in range(0, 640 * 480, 997):
        v, u = divmod(pixel, 640)
        ray = np.linalg.inv(NYU_INTRINSICS.astype(float)) @ [u, v, 1]
        point = pose.astype(float) @ [*(ray * depth[v, u]), 1]
        x, y, z = (point[:3] - origin) / 0.02
        inside = 0 <= x < 240 and 0 <= y < 240 and 0 <= z < 144
        assert inside == (pixel in found)
        if inside:
            assert found[pixel] == [int(x), int(z), int(y)]


def broken(change):
    pose = camera_pose(yaw=10)
    change(pose)
    return pose


@pytest.mark.parametrize(
    "pose",
    [
        np.eye(3),
        broken(lambda p: p.__setitem__((0, 3), np.nan)),
        broken(lambda p: p.__imul__(2)),
        broken(lambda p: p.__setitem__((slice(3), 0), -p[:3, 0])),  # a mirror
        broken(lambda p: p.__setitem__((3, 0), 1)),
    ],
    ids=["3x3", "nan", "scaled", "mirrored", "projective"],
)
def test_pose_that_is_not_rigid_is_refused(pose):
    with pytest.raises(InputError, match="scene.bin.*pose"):
        check_pose(pose, "scene.bin")


@pytest.mark.parametrize("depth", [[[np.nan]], [[-1.0]], [[np.inf]], [1.0]])
def test_unusable_depth_is_refused(depth):
    with pytest.raises(InputError, match="depth"):
        check_depth(depth)
