"""The map of many frames: each voxel where it lies in the world, and a fair say for each frame."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hand_made_scene import ORIGIN, hand_made_scene, moved
from scipy.spatial import cKDTree

from constants import CLASS_COLORS, GRID, IGNORE_INDEX
from errors import InputError
from utils.scene_map import SceneMap, Weights

CHAIR, BED, TABLE = 5, 6, 8


def random_scene(seed, motion=None, **fields):
    rng = np.random.default_rng(seed)
    tsdf = rng.choice([-1.0, 0.0, 0.7], GRID)
    scene = hand_made_scene(rng.integers(0, 12, GRID), tsdf, rng.random(GRID) < 0.1, **fields)
    scene.probabilities[:] = rng.dirichlet(np.ones(12), GRID).transpose(3, 0, 1, 2)
    if motion is not None:
        scene.world_pose = motion @ scene.world_pose
    return scene


def fused(*scenes, weights=None):
    scene_map = SceneMap(weights)
    for scene in scenes:
        scene_map.add(scene)
    return scene_map


def as_dict(scene_map):
    """{voxel: (probabilities, weight)}."""
    voxels, probabilities, weight = scene_map.probabilities()
    values = zip(probabilities, weight, strict=True)
    return dict(zip(map(tuple, voxels.tolist()), values, strict=True))


def test_two_grids_shifted_by_whole_voxels_are_averaged_voxel_by_voxel():
    """Against slices of one dense array in world order."""
    weights = Weights(surface=3, free=2, hidden=0.5, outside=0)
    scenes = random_scene(0), random_scene(1, moved(x=5 * 0.08, y=-11 * 0.08))
    sums = np.zeros((80, 75, 36, 12))  # world X, Y, Z from 12 voxels before the first grid
    for scene, (x, y) in zip(scenes, ((12, 12), (17, 1)), strict=True):
        share = scene.probabilities.astype(float).transpose(1, 3, 2, 0)
        share /= share.sum(axis=-1, keepdims=True)
        seen = scene.frame.measured.transpose(0, 2, 1)
        tsdf = scene.frame.batch["tsdf"][0, 0].numpy().transpose(0, 2, 1)
        share[(tsdf > 0) & ~seen] = [1] + [0] * 11
        share[seen] *= 3
        share[(tsdf > 0) & ~seen] *= 2
        share[(tsdf < 0) & ~seen] *= 0.5
        share[(tsdf == 0) & ~seen] = 0
        sums[x : x + 60, y : y + 60] += share
    found = as_dict(fused(*scenes, weights=weights))
    first = np.rint((ORIGIN - [0, 0, -0.05]) / 0.08).astype(int) - [12, 12, 0]
    expected = np.argwhere(sums.sum(axis=-1) > 0)
    assert {tuple(v) for v in (expected + first).tolist()} == found.keys()
    for voxel in expected[::97]:
        probabilities, weight = found[tuple((voxel + first).tolist())]
        assert weight == pytest.approx(sums[tuple(voxel)].sum())
        np.testing.assert_allclose(probabilities, sums[tuple(voxel)] / weight, atol=1e-12)


def test_the_order_of_frames_does_not_matter():
    motions = moved(), moved(x=0.51, yaw=20), moved(y=-1.3, yaw=-90)
    scenes = [random_scene(seed, motion) for seed, motion in enumerate(motions)]
    orders = (0, 1, 2), (1, 2, 0), (0, 2, 1)
    first, *others = (fused(*(scenes[i] for i in order)).probabilities() for order in orders)
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_frame_added_twice_has_twice_the_weight_and_nothing_else():
    scenes = random_scene(0), random_scene(1, moved(x=0.3, yaw=10))
    once, twice = fused(*scenes), fused(*scenes, *scenes)
    voxels, probabilities, weight = once.probabilities()
    same, again, double = twice.probabilities()
    np.testing.assert_array_equal(voxels, same)
    np.testing.assert_allclose(again, probabilities, atol=1e-12)
    np.testing.assert_allclose(double, 2 * weight)
    assert (once.frames, twice.frames) == (2, 4)


@pytest.mark.parametrize("yaw", [0, 33, 90])
def test_what_stands_in_a_turned_world_stands_where_the_camera_saw_it(yaw):
    classes = np.zeros(GRID, int)
    classes[20:30, 1:6, 25:45] = BED
    classes[33:35, 1:12, 30:32] = CHAIR
    scene = hand_made_scene(classes)
    motion = moved(x=7.013, y=-2.04, yaw=yaw)
    scene.world_pose = motion @ scene.world_pose
    points, found = fused(scene).points()
    voxels = np.argwhere(classes)
    centres = ORIGIN + (voxels[:, [0, 2, 1]] + 0.5) * 0.08
    centres = centres @ motion[:3, :3].T + motion[:3, 3]
    for one, two in ((points, centres), (centres, points)):
        distance, _ = cKDTree(two).query(one)
        assert distance.max() < 0.08 * 3**0.5 / 2 + (0.05 if yaw % 90 else 0)
    assert len(points) == pytest.approx(len(centres), rel=0.1)
    _, nearest = cKDTree(centres).query(points)
    agreed = found == classes[tuple(voxels[nearest].T)]
    assert agreed.all() if yaw % 90 == 0 else agreed.mean() > 0.95


def test_what_was_measured_has_more_say_than_imagination():
    table, bed = (np.full(GRID, kind) for kind in (TABLE, BED))
    seen = np.zeros(GRID, bool)
    seen[:, :, :20] = True
    tsdf = np.zeros(GRID)
    tsdf[:, :, 20:40] = 1
    labels, corner = fused(hand_made_scene(bed), hand_made_scene(table, tsdf, seen)).labels()
    np.testing.assert_allclose(corner, ORIGIN, atol=1e-6)
    assert labels.shape == GRID
    assert (labels[:, :, :20] == TABLE).all()  # a surface was measured there
    assert (labels[:, :, 20:40] == 0).all()  # and there a camera saw through
    assert (labels[:, :, 40:] == BED).all()  # out of its view: only the other frame says something


def test_what_no_frame_knows_is_unknown():
    tsdf = np.zeros(GRID)
    tsdf[10:20, 5:9, 30:35] = -1
    labels, corner = fused(hand_made_scene(np.full(GRID, CHAIR), tsdf)).labels()
    assert labels.shape == (10, 4, 5) and (labels == CHAIR).all()
    np.testing.assert_allclose(corner, ORIGIN + np.float32([0.8, 2.4, 0.4]), atol=1e-6)
    tsdf[0, 0, 0] = -1
    labels, _ = fused(hand_made_scene(np.full(GRID, CHAIR), tsdf)).labels()
    assert (labels != IGNORE_INDEX).sum() == 201


def test_memory_grows_with_what_is_known_not_with_the_extent(tmp_path):
    near = fused(random_scene(0))
    far = random_scene(0, moved(x=8000.0, y=8000.0))
    both = fused(random_scene(0), far)
    assert len(both._blocks) <= 2.1 * len(near._blocks)
    both.save(tmp_path / "both.ply")
    points, _ = both.points()
    assert len(trimesh.load(tmp_path / "both.ply").vertices) == len(points)
    with pytest.raises(InputError, match="spans 8005 x 8005 x 3 m"):
        both.save(tmp_path / "both.glb")


def test_files_of_a_map(tmp_path):
    classes = np.zeros(GRID, int)
    classes[20:30, 1:6, 25:45] = BED
    seen = np.zeros(GRID, bool)
    seen[20:30, 5, 25:45] = True
    scene = hand_made_scene(classes, measured=seen)
    scene_map = fused(scene, replace(scene, world_pose=moved(y=4.8) @ scene.world_pose))
    for kind in ("npz", "ply", "glb", "png", "html"):
        scene_map.save(tmp_path / f"map.{kind}")
    points, found = scene_map.points()
    assert (found == BED).all() and len(points) == 2 * 10 * 5 * 20
    saved = np.load(tmp_path / "map.npz")
    assert saved["labels"].shape == saved["weight"].shape == (len(saved["voxels"]),)
    centres = saved["origin"] + saved["voxel_size"] * (saved["voxels"] + 0.5)
    np.testing.assert_allclose(centres[saved["labels"] == BED], points, atol=1e-5)
    low, high = points.min(axis=0) - 0.04, points.max(axis=0) + 0.04
    upright = trimesh.load(tmp_path / "map.glb", force="mesh")
    y_up = [[low[0], low[2], -high[1]], [high[0], high[2], -low[1]]]
    np.testing.assert_allclose(upright.bounds, y_up, atol=1e-4)
    colors = np.asarray(trimesh.load(tmp_path / "map.ply").colors)[:, :3]
    assert (colors == CLASS_COLORS[BED]).all()
    exhibit = scene_map.exhibit("map")
    assert exhibit.prediction.shape == (60, 36, 120)
    assert exhibit.visible.sum() == 2 * seen.sum()
    assert (exhibit.visible_colors[exhibit.visible] == 90).all()  # the image's colour, averaged
    assert (tmp_path / "map.png").stat().st_size > 10000
    assert '"grid":[60,36,120]' in (tmp_path / "map.html").read_text()
    with pytest.raises(InputError, match="map.obj"):
        scene_map.save(tmp_path / "map.obj")


def test_a_map_refuses_what_it_cannot_place():
    scene = hand_made_scene(np.zeros(GRID, int), name="lost")
    scene.world_pose = None
    scene_map = SceneMap()
    with pytest.raises(InputError, match="lost: without a 4x4"):
        scene_map.add(scene)
    with pytest.raises(InputError, match="empty"):
        scene_map.labels()
    assert len(scene_map.points()[0]) == 0
