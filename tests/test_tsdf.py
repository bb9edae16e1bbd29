from dataclasses import replace

import numpy as np
import pytest
from raw_scene import (
    NYU,
    REAL_BIN,
    REAL_DEPTH,
    SHARED,
    camera_pose,
    fine,
    needs_real_data,
    room,
    room_frame,
)

from benchmarks.reference_data import plain_tsdf
from datasets.geometry import NYU_INTRINSICS, NYUCAD_INTRINSICS, Frame, grid_origin
from datasets.poses import read_poses
from datasets.raycast import raycast_labels
from datasets.tsdf import fine_tsdf, frame_tsdf, tsdf_from_depth, tsdf_from_labels
from datasets.voxels import read_bin, read_depth
from errors import InputError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
POSE = camera_pose(yaw=12, pitch=18, height=1.3)
ORIGIN = grid_origin(POSE)


@needs_real_data
def test_real_scene_gives_the_published_tsdf():
    scene = read_bin(REAL_BIN)
    tsdf = tsdf_from_depth(read_depth(REAL_DEPTH), NYU_INTRINSICS, scene.pose, scene.origin)
    assert tsdf.shape == (60, 36, 60)
    assert tsdf.dtype == np.float32
    published = np.load(NYU / "TSDF" / "0003.npz")["arr_0"].reshape(60, 36, 60)
    off = np.abs(tsdf - published)
    assert (off > 1e-5).sum() <= 5
    assert off.max() <= 2 / 64


def brute_force(depth, K, pose, origin, low, high):
    """The definition, voxel by voxel in double precision, for the box [low, high)."""
    K, pose, origin = (np.asarray(a, dtype=np.float64) for a in (K, pose, origin))
    v, u = np.indices(depth.shape)
    camera = np.stack([(u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth, depth], -1)
    points = (camera.reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3] - origin) / 0.02
    cells = np.unique(np.floor(points).astype(int)[:, [0, 2, 1]], axis=0)
    cells = cells[((cells >= 0) & (cells < (240, 144, 240))).all(axis=1)]
    occupied = set(map(tuple, cells.tolist()))
    cells = cells[((cells >= np.subtract(low, 12)) & (cells < np.add(high, 12))).all(axis=1)]
    box = np.zeros(np.subtract(high, low), np.float64)
    for index in np.ndindex(box.shape):
        i, j, k = voxel = tuple(int(n) for n in np.add(index, low))
        if voxel in occupied:
            continue
        x, y, z = (origin + 0.02 * np.array([i, k, j]) - pose[:3, 3]) @ pose[:3, :3]
        if z <= 0:
            continue
        column = int(np.floor(K[0, 0] * x / z + K[0, 2] + 0.5))
        row = int(np.floor(K[1, 1] * y / z + K[1, 2] + 0.5))
        if not (0 <= column < 640 and 0 <= row < 480) or not 0.5 <= depth[row, column] <= 8:
            continue
        sign = 1 if depth[row, column] > z or abs(depth[row, column] - z) < 1e-4 else -1
        window = cells[(np.abs(cells - voxel) <= 12).all(axis=1)]
        r = min(np.sqrt(((window - voxel) ** 2).sum(axis=1)), default=12)
        box[index] = sign * min(1, r / 12)
    return box


@pytest.mark.parametrize(
    "corner",
    [(100, 20, 72), (144, 0, 84), (204, 16, 120), (180, 20, 172)],
    ids=["table", "bed", "edge of the image", "wall"],
)
def test_fine_tsdf_against_the_definition(corner):
    depth = room_frame(NYU_INTRINSICS, POSE)
    depth[300:330, 200:420] = 0  # not measured
    depth[:60, :200] = 9  # too far
    high = np.add(corner, (12, 28, 12))
    expected = brute_force(depth, NYU_INTRINSICS, POSE, ORIGIN, corner, high)
    made = fine_tsdf(Frame(depth, NYU_INTRINSICS, POSE, ORIGIN)).numpy()
    box = tuple(slice(a, b) for a, b in zip(corner, high, strict=True))
    np.testing.assert_allclose(made[box], expected, atol=1e-6)
    assert np.ptp(expected) > 0
    coarse = tsdf_from_depth(depth, NYU_INTRINSICS, POSE, ORIGIN)
    block = made[corner[0] : corner[0] + 4, corner[1] : corner[1] + 4, corner[2] : corner[2] + 4]
    assert coarse[tuple(np.array(corner) // 4)] == pytest.approx(block.mean(), abs=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("shift", "kept"), [(0, False), (2, True)])
def test_whole_grid_against_the_definition(device, shift, kept):
    """Every voxel, also beside the image; shifted, the camera is in the grid."""
    depth = room_frame(NYU_INTRINSICS, POSE)
    depth[300:330, 200:420] = 0
    depth[:60, :200] = 9
    origin = ORIGIN - np.float32([0, shift, 0])
    frame = Frame(depth, NYU_INTRINSICS, POSE, origin, kept)
    made = frame_tsdf(replace(frame, device=device)).cpu().numpy()
    off = np.abs(made - plain_tsdf(frame))
    # A corner on the border of two pixels, or at the surface itself, may fall to either side.
    assert (off > 1e-6).sum() < 5 and off.max() < 3 / 64
    assert len(np.unique(made.round(2))) > 150


@pytest.mark.parametrize(("metres", "value"), [(0.8, -1), (7.9, 1), (8.1, 0), (0.4, 0), (0, 0)])
def test_surface_outside_the_grid(metres, value):
    pose = camera_pose()  # level: the grid is 1.0 to 5.8 m away
    depth = np.full((480, 640), metres, np.float32)
    tsdf = fine_tsdf(Frame(depth, NYUCAD_INTRINSICS, pose, grid_origin(pose))).numpy()
    assert tsdf[120, 60, 100] == value
    assert tsdf[0, 60, 0] == 0  # outside the image
    assert set(np.unique(tsdf)) == {0, value}


def test_unmeasured_pixels_are_a_surface_at_the_camera_only_if_kept():
    pose = camera_pose(pitch=60)
    depth = np.full((480, 640), 1.2, np.float32)
    depth[0, 0] = 0
    x, y, z = np.floor((pose[:3, 3] - grid_origin(pose)) / 0.02).astype(int)
    kept = fine_tsdf(Frame(depth, NYU_INTRINSICS, pose, grid_origin(pose))).numpy()
    dropped = fine_tsdf(
        Frame(depth, NYU_INTRINSICS, pose, grid_origin(pose), keep_unmeasured=False)
    ).numpy()
    assert kept[x, z, y] == 0
    near = (x, z - 4, y + 3)  # in view, free, 5 voxels from the camera
    assert kept[near] == pytest.approx(5 / 12)
    assert dropped[near] == 1


@pytest.mark.parametrize("bad", [np.full((480, 640), np.nan), np.full((480, 640), -1.0)])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(InputError, match="depth"):
        tsdf_from_depth(bad, NYU_INTRINSICS, POSE, ORIGIN)
    with pytest.raises(InputError, match="rigid"):
        tsdf_from_depth(np.ones((480, 640)), NYU_INTRINSICS, POSE * 2, ORIGIN)
    with pytest.raises(InputError, match="labels"):
        tsdf_from_labels(np.zeros((60, 60, 36)), POSE, ORIGIN)


# ---- TSDF-CAD


def slab_depth(labels, K, pose, origin, pixels):
    """Depth of some pixels by testing every solid 8 cm voxel, in double precision."""
    K, pose, origin = (np.asarray(a, dtype=np.float64) for a in (K, pose, origin))
    low = np.argwhere((labels > 0) & (labels < 255))[:, [0, 2, 1]] * 0.08 + origin - pose[:3, 3]
    depths = []
    for pixel in pixels:
        v, u = divmod(int(pixel), 640)
        ray = pose[:3, :3] @ np.linalg.inv(K) @ [u, v, 1]
        sides = np.sort(np.stack([low, low + 0.08]) / ray, axis=0)
        enter, leave = sides[0].max(axis=1), sides[1].min(axis=1)
        hit = (enter < leave) & (enter > 0)
        depths.append(enter[hit].min(initial=np.inf))
    return np.where(np.isinf(depths), 0, depths)


@pytest.mark.parametrize("factor", [1, 4], ids=["8 cm", "2 cm"])
def test_ray_casting_against_every_voxel(factor):
    labels, pose = room(), camera_pose(yaw=12, pitch=-15)
    volume = fine(labels) if factor == 4 else labels
    depth = raycast_labels(volume, NYUCAD_INTRINSICS, pose, grid_origin(pose))
    pixels = np.random.default_rng(0).choice(480 * 640, 300, replace=False)
    expected = slab_depth(labels, NYUCAD_INTRINSICS, pose, grid_origin(pose), pixels)
    off = np.abs(depth.reshape(-1)[pixels] - expected)
    assert (expected == 0).sum() > 10
    assert (expected > 0).sum() > 100
    # A ray that grazes an edge may be decided by rounding.
    assert (off > 2e-4).sum() <= 1


def test_camera_inside_a_solid_voxel_sees_out_of_it():
    pose = camera_pose(pitch=60)
    origin = grid_origin(pose)
    labels = np.zeros((60, 36, 60), np.uint8)
    labels[:, 0] = 2
    expected = raycast_labels(labels, NYUCAD_INTRINSICS, pose, origin)
    x, y, z = ((pose[:3, 3] - origin) / 0.08).astype(int)
    labels[x, z, y] = 3
    np.testing.assert_array_equal(raycast_labels(labels, NYUCAD_INTRINSICS, pose, origin), expected)


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_solid_is_nothing_known(value):
    labels = np.full((60, 36, 60), value)
    assert not raycast_labels(labels, NYUCAD_INTRINSICS, POSE, ORIGIN).any()
    assert not tsdf_from_labels(labels, POSE, ORIGIN).any()


def test_perfect_depth_lands_in_solid_voxels():
    labels = room()
    depth = raycast_labels(labels, NYUCAD_INTRINSICS, POSE, ORIGIN)
    pixels, voxels = Frame(
        depth, NYUCAD_INTRINSICS, POSE, ORIGIN, keep_unmeasured=False
    ).pixel_voxels
    assert len(pixels) == (depth > 0).sum()
    hit = labels[tuple((voxels // 4).T)]
    assert ((hit > 0) & (hit < 255)).mean() > 0.9998


@needs_real_data
@pytest.mark.parametrize(("scene", "at_least"), [("0524", 0.915), ("1385", 0.875)])
def test_made_of_labels_it_is_close_to_nyucad(scene, at_least):
    real = np.load(SHARED / "raw" / "nyucad_tsdf" / f"{scene}.npz")["arr_0"]
    measured = np.load(NYU / "TSDF" / f"{scene}.npz")["arr_0"]
    labels = np.load(NYU / "Label" / f"{scene}.npz")["arr_0"].reshape(60, 36, 60)
    pose, origin = read_poses(SHARED / "nyu" / "poses_recovered.npz")[scene]
    made = tsdf_from_labels(labels, pose, origin).reshape(-1)
    correlation = np.corrcoef(made, real)[0, 1]
    assert correlation >= at_least
    assert correlation > np.corrcoef(measured, real)[0, 1]
