import numpy as np
import pytest
from raw_scene import NYU, REAL_BIN, SHARED, camera_pose, needs_real_data, room_frame

from datasets.geometry import NYU_INTRINSICS, NYUCAD_INTRINSICS, grid_origin
from datasets.poses import missed_voxels, read_poses, recover_pose, scene_id
from datasets.voxels import mapping_from_depth, read_bin
from errors import InputError


def difference(a, b):
    """Degrees and metres between two poses."""
    cosine = (np.trace(a[:3, :3].astype(float).T @ b[:3, :3].astype(float)) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))), np.abs(a[:3, 3] - b[:3, 3]).max()


@pytest.mark.parametrize("K", [NYU_INTRINSICS, NYUCAD_INTRINSICS], ids=["real", "virtual"])
@pytest.mark.parametrize(("yaw", "pitch", "height"), [(0, 10, 1.2), (-40, 25, 1.5), (30, 45, 1.8)])
def test_camera_of_a_generated_room_is_recovered(K, yaw, pitch, height):
    pose = camera_pose(yaw, pitch, height)
    mapping = mapping_from_depth(room_frame(K, pose), K, pose, grid_origin(pose))
    found, origin = recover_pose(mapping, K)
    degrees, metres = difference(found, pose)
    assert degrees < 0.2
    assert metres < 0.01
    np.testing.assert_allclose(origin, grid_origin(pose), atol=0.02)


@needs_real_data
def test_camera_of_the_real_scene_is_recovered():
    mapping = np.load(NYU / "Mapping" / "0003.npz")["arr_0"]
    scene = read_bin(REAL_BIN)
    pose, origin = recover_pose(mapping)
    degrees, metres = difference(pose, scene.pose)
    assert degrees < 0.06
    assert metres < 0.004
    np.testing.assert_allclose(origin, scene.origin, atol=0.005)


@needs_real_data
def test_agrees_with_independently_recovered_poses():
    known = read_poses(SHARED / "nyu" / "poses_recovered.npz")
    differences = []
    for scene in list(known)[::80]:
        mapping = np.load(NYU / "Mapping" / f"{scene}.npz")["arr_0"]
        pose, _ = recover_pose(mapping)
        differences.append(difference(pose, known[scene][0]))
        assert missed_voxels(mapping, pose) < 0.01
    degrees, metres = np.transpose(differences)
    assert np.median(degrees) < 0.05
    assert degrees.max() < 0.3
    assert np.median(metres) < 0.003
    assert metres.max() < 0.015


def test_a_mapping_of_another_camera_is_noticed():
    pose = camera_pose(yaw=10, pitch=20)
    K = NYUCAD_INTRINSICS * [[0.8], [0.8], [1]]
    mapping = mapping_from_depth(room_frame(K, pose), K, pose, grid_origin(pose))
    with pytest.raises(InputError, match="no camera fits"):
        recover_pose(mapping, NYU_INTRINSICS)


def test_noise_and_emptiness_have_no_camera():
    mapping = np.full(129600, 307200)
    with pytest.raises(InputError, match="too few"):
        recover_pose(mapping)
    rng = np.random.default_rng(0)
    mapping[rng.choice(129600, 2000, replace=False)] = rng.choice(307200, 2000, replace=False)
    with pytest.raises(InputError, match="no camera fits"):
        recover_pose(mapping)


def test_poses_file(tmp_path):
    path = tmp_path / "poses.npz"
    pose = camera_pose(yaw=5)
    np.savez(path, ids=["0003", "NYU0007"], cam_pose=[pose, pose], vox_origin=np.ones((2, 3)))
    poses = read_poses(path)
    assert list(poses) == ["0003", "0007"]
    np.testing.assert_array_equal(poses["0007"][0], pose)
    np.testing.assert_array_equal(poses["0007"][1], [1, 1, 1])


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"ids": ["0003"], "cam_pose": [np.eye(3)], "vox_origin": np.ones((1, 3))},
        {"ids": ["0003"], "cam_pose": [2 * np.eye(4)], "vox_origin": np.ones((1, 3))},
        {"ids": ["../3"], "cam_pose": [np.eye(4)], "vox_origin": np.ones((1, 3))},
        {"ids": np.array(["0003"], object), "cam_pose": [np.eye(4)], "vox_origin": np.ones((1, 3))},
        {"ids": ["0003"], "cam_pose": [np.eye(4)], "vox_origin": [["a", "b", "c"]]},
    ],
)
def test_bad_poses_file_is_refused(tmp_path, arrays):
    path = tmp_path / "poses.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="poses.npz"):
        read_poses(path)


def test_poses_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "poses.npz"
    for data in (b"", b"text"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="poses.npz"):
            read_poses(path)
    with pytest.raises(InputError, match="nowhere.npz: no such file"):
        read_poses(tmp_path / "nowhere.npz")


def test_scene_names():
    assert scene_id("0003") == scene_id("NYU0003") == "0003"
    for name in ("3", "00003", "../0003", "0003\n", "NYU", "", "٠٠٠٣"):
        with pytest.raises(InputError, match="not a scene"):
            scene_id(name)
