"""Poses from depth alone, on the rooms of raw_scene.py whose poses are known."""

import numpy as np
import pytest
from raw_scene import NYU, REAL_BIN, REAL_DEPTH, camera_pose, needs_real_data, room_frame
from scipy.spatial.transform import Rotation

from datasets.frames.gravity import (
    check_gravity,
    estimate_pose,
    find_faces,
    grid_pose,
    pose_from_gravity,
)
from datasets.geometry import NYU_INTRINSICS
from datasets.voxels import read_bin, read_depth
from errors import InputError


def angle(a, b):
    """Degrees between two vectors."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))


def rolled(pose, degrees):
    """The pose after turning the camera about its viewing axis."""
    turned = pose.copy()
    turned[:3, :3] = pose[:3, :3] @ Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return turned


def with_noise(depth, seed=0):
    """Noise that grows with the square of the depth as a Kinect's does, and missing patches."""
    rng = np.random.default_rng(seed)
    noisy = depth + 0.003 * depth**2 * rng.standard_normal(depth.shape)
    lost = np.kron(rng.random((24, 32)) < 0.1, np.ones((20, 20), bool))
    return np.where(lost | (depth == 0), 0, noisy).astype(np.float32)


def plane_depth(normal, distance, K=NYU_INTRINSICS):
    """Depth of the plane normal . p = distance, (480, 640); 0 where it is not in front."""
    v, u = np.indices((480, 640))
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], axis=-1)
    with np.errstate(divide="ignore"):
        depth = distance / (rays @ np.asarray(normal, float))
    return np.where((depth > 0) & (depth < 8), depth, 0).astype(np.float32)


@pytest.mark.parametrize(
    ("yaw", "pitch", "height", "roll"),
    [(0, 15, 1.2, 0), (20, 20, 1.4, 4), (-35, 25, 1.5, -6), (43, 12, 1.0, 3)],
)
def test_pose_of_a_noisy_room(yaw, pitch, height, roll):
    pose = rolled(camera_pose(yaw, pitch, height), roll)
    estimate = estimate_pose(with_noise(room_frame(NYU_INTRINSICS, pose)), NYU_INTRINSICS)
    assert angle(estimate.pose[2, :3], pose[2, :3]) < 1
    assert estimate.pose[2, 3] == pytest.approx(height - 0.03, abs=0.03)  # its floor is 3 cm thick
    assert "turned with the walls" in estimate.belief and estimate.confidence > 0.5
    forward, true_forward = estimate.pose[:3, 2], pose[:3, 2]
    assert angle(forward, true_forward) < 2


def test_faces_of_a_plane():
    normal = np.array([0.1, -0.6, -0.7]) / np.linalg.norm([0.1, -0.6, -0.7])
    depth = plane_depth(-normal, 2.0)
    faces = find_faces(depth, NYU_INTRINSICS.astype(float))
    assert np.abs(faces.normals - normal).max() < 1e-4
    np.testing.assert_allclose(faces.points @ normal, -2.0, atol=1e-4)
    assert (faces.normals[:, 2] < 0).all()
    # The area of all pixels: of the quadrilaterals between neighbouring points.
    v, u = np.nonzero(depth)
    K = NYU_INTRINSICS
    points = np.zeros((480, 640, 3))
    z = depth[v, u]
    points[v, u] = np.stack([(u - K[0, 2]) * z / K[0, 0], (v - K[1, 2]) * z / K[1, 1], z], axis=1)
    a, b = points[1:, :-1] - points[:-1, :-1], points[:-1, 1:] - points[:-1, :-1]
    whole = (depth[1:, :-1] > 0) & (depth[:-1, 1:] > 0) & (depth[:-1, :-1] > 0)
    area = np.linalg.norm(np.cross(a, b), axis=-1)[whole].sum()
    assert faces.areas.sum() == pytest.approx(area, rel=0.1)


def test_edges_make_no_faces():
    depth = np.full((480, 640), 2.0, np.float32)
    depth[:, ::2] = 2.5
    assert not len(find_faces(depth, NYU_INTRINSICS.astype(float)).points)


def test_given_gravity_is_kept_and_the_height_found():
    pose = rolled(camera_pose(10, 20, 1.3), 5)
    depth = with_noise(room_frame(NYU_INTRINSICS, pose))
    estimate = estimate_pose(depth, NYU_INTRINSICS, gravity=-9.81 * pose[2, :3])
    assert angle(estimate.pose[2, :3], pose[2, :3]) < 1e-3
    assert estimate.pose[2, 3] == pytest.approx(1.27, abs=0.02)


@pytest.mark.parametrize("axis", ["x", "z"])
@pytest.mark.parametrize("degrees", [-4, 4])
def test_a_gravity_that_is_some_degrees_off_still_finds_the_floor(axis, degrees):
    pose = camera_pose(20, 20, 1.4)
    gravity = Rotation.from_euler(axis, degrees, degrees=True).apply(-pose[2, :3])
    depth = with_noise(room_frame(NYU_INTRINSICS, pose))
    estimate = estimate_pose(depth, NYU_INTRINSICS, gravity=gravity)
    assert angle(-estimate.pose[2, :3], gravity) < 0.01  # which is kept
    assert estimate.pose[2, 3] == pytest.approx(1.37, abs=0.15)  # 2 m of floor times sin(4)


def test_a_wall_alone_is_refused():
    with pytest.raises(InputError, match="no floor"):
        estimate_pose(plane_depth([0, 0, 1], 2.5), NYU_INTRINSICS)


def test_a_table_before_a_wall_is_not_taken_for_the_floor():
    """The wall goes on below the table's height, so there must be a floor further down."""
    depth = plane_depth([0, 0, 1], 2.5)
    table = plane_depth([0, 1, 0], 0.5)
    table[(table < 0.9) | (table > 1.6)] = 0
    depth = np.where((table > 0) & (np.arange(640) < 400), table, depth)
    with pytest.raises(InputError, match="no floor in view.*height"):
        estimate_pose(depth, NYU_INTRINSICS)
    estimate = estimate_pose(depth, NYU_INTRINSICS, height=1.2)
    assert angle(estimate.pose[2, :3], [0, -1, 0]) < 1 and estimate.pose[2, 3] == np.float32(1.2)


@pytest.mark.parametrize(("distance", "text"), [(0.2, "0.20 m"), (3.0, "3.00 m")])
def test_an_implausible_height_is_refused(distance, text):
    depth = plane_depth([0, np.cos(0.6), np.sin(0.6)], distance)  # looks down at the bare floor
    with pytest.raises(InputError, match=f"no plausible room.*{text}"):
        estimate_pose(depth, NYU_INTRINSICS)


def test_noise_is_refused():
    depth = np.random.default_rng(0).uniform(0.5, 5, (480, 640)).astype(np.float32)
    with pytest.raises(InputError, match="no room"):
        estimate_pose(depth, NYU_INTRINSICS)


def test_pose_from_gravity_is_that_of_the_camera():
    for yaw, pitch, roll in ((0, 0, 0), (30, 20, 0), (-40, 35, 10)):
        pose = rolled(camera_pose(yaw, pitch, 1.3), roll)
        made = pose_from_gravity(-pose[2, :3], 1.3, yaw)
        np.testing.assert_allclose(made, pose, atol=1e-5)


@pytest.mark.parametrize("gravity", [[0, -9.81, 0], [0, 0, 1], [0, 0, 0], [np.nan, 1, 0], [1, 2]])
def test_unusable_gravity_is_refused(gravity):
    with pytest.raises(InputError, match="gravity"):
        check_gravity(gravity)


def test_grid_pose_keeps_the_poses_of_the_data():
    poses = NYU.parent / "poses_recovered.npz"
    if not poses.exists():
        pytest.skip("needs ../shared")
    for pose in np.load(poses)["cam_pose"]:
        np.testing.assert_array_equal(grid_pose(pose), pose)


@pytest.mark.parametrize("yaw", [95, 130, 180, -75, -120])
def test_grid_pose_looks_forward_and_keeps_the_walls(yaw):
    pose = camera_pose(yaw, 20, 1.4)
    pose[:2, 3] = [3, -2]
    placed = grid_pose(pose)
    assert placed[:3, 3].tolist() == [0, 0, pose[2, 3]]
    assert abs(np.degrees(np.arctan2(placed[0, 2], placed[1, 2]))) <= 50
    turn = placed[:3, :3].astype(float) @ pose[:3, :3].T.astype(float)
    quarters = Rotation.from_matrix(turn).as_euler("zxy", degrees=True)
    assert np.allclose(quarters[1:], 0, atol=1e-3)
    assert abs((quarters[0] + 45) % 90 - 45) < 1e-3


def test_grid_pose_refuses_another_world():
    y_down = np.eye(4, dtype=np.float32)
    high = camera_pose(0, 10, 7)
    for pose in (y_down, high):
        with pytest.raises(InputError, match="Z up"):
            grid_pose(pose)


def test_a_pose_of_another_convention_is_named():
    pose = camera_pose(30, 15, 1.4).astype(float)
    pose[:2, 3] = [2, 1]
    with pytest.raises(InputError, match="OpenGL.*negate its second and third columns"):
        grid_pose(pose @ np.diag([1, -1, -1, 1]))
    with pytest.raises(InputError, match="world to camera: invert it"):
        grid_pose(np.linalg.inv(pose))


@needs_real_data
def test_gravity_and_walls_of_a_real_frame_without_a_floor():
    scene, depth = read_bin(REAL_BIN), read_depth(REAL_DEPTH)
    with pytest.raises(InputError, match="no floor in view"):
        estimate_pose(depth, NYU_INTRINSICS)
    estimate = estimate_pose(depth, NYU_INTRINSICS, height=float(scene.pose[2, 3]))
    assert angle(estimate.pose[2, :3], scene.pose[2, :3]) < 2
    assert angle(estimate.pose[:3, 2], scene.pose[:3, 2]) < 2


def test_what_may_be_a_table_has_low_confidence():
    """A bare level face 0.6 m below the camera, and nothing else: predict.py warns below 0.5."""
    estimate = estimate_pose(plane_depth([0, np.cos(0.6), np.sin(0.6)], 0.6), NYU_INTRINSICS)
    assert estimate.pose[2, 3] == pytest.approx(0.6, abs=0.02) and estimate.confidence < 0.5
