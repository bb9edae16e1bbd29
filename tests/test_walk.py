"""A walk through a generated room: where the camera may stand, what it sees, and the truth."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from constants import IGNORE_INDEX
from datasets.geometry import BOX_FLOOR, NYU_INTRINSICS
from datasets.rooms import make_room
from datasets.rooms.furnishing import make_layout
from datasets.rooms.parts import contains
from datasets.rooms.rooms import generators
from datasets.rooms.walk import make_walk, walk_poses
from datasets.voxels import RAW_TO_CLASS
from errors import InputError

BOX = np.array([-60, -60, 0]), np.array([60, 60, 36])  # voxels, world order


@pytest.fixture(scope="module")
def walk():
    return make_walk(5, "test", 1, 3)


@pytest.fixture(scope="module")
def truth(walk):
    """(120, 120, 36) of the box, world order."""
    low, high = BOX
    voxels = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    return walk.labels_at(voxels.reshape(-1, 3)).reshape(high - low)


def test_a_walk_begins_with_the_rooms_own_frame(walk):
    room = make_room(5, "test", 1)
    np.testing.assert_array_equal(walk.views[0].rgb, room.rgb)
    np.testing.assert_array_equal(walk.views[0].depth, room.depth)
    np.testing.assert_array_equal(walk.views[0].pose, room.pose)


@pytest.mark.parametrize("index", range(6))
def test_the_camera_stays_upright_in_the_room_and_out_of_the_furniture(index):
    rng, *_, walk_rng = generators(5, "test", index)
    layout = make_layout(rng)
    parts = layout.parts()
    poses = walk_poses(layout, parts, 8, walk_rng)
    floor = np.array(layout.floor)
    places = np.array([pose[:3, 3] for pose in poses])
    x, y, z = places.T
    on_floor = (x > floor[:, :1]) & (y > floor[:, 1:2]) & (x < floor[:, 2:3]) & (y < floor[:, 3:])
    assert on_floor.any(axis=0).all()
    for height in (0.15, 0.8, 1.2):
        for part in parts:
            assert not contains(part, (x, y, np.full_like(x, height)))[1:].any()
    assert np.ptp(z) < 0.3
    for one, two in zip(poses, poses[1:], strict=False):
        np.testing.assert_allclose(two[:3, :3] @ two[:3, :3].T, np.eye(3), atol=1e-5)
        turn = np.degrees(np.subtract(*(np.arctan2(p[0, 2], p[1, 2]) for p in (two, one))))
        assert 14 < abs((turn + 180) % 360 - 180) < 76
        assert np.linalg.norm((two - one)[:2, 3]) <= 1.001
        assert two[2, 1] < -0.8  # the image's down is the world's


def test_what_the_views_measure_is_there_in_the_truth(walk, truth):
    solid = binary_dilation((truth > 0) & (truth != IGNORE_INDEX), iterations=2)
    for view in walk.views:
        v, u = np.nonzero((view.depth > 0) & (view.depth < 2.5))
        rays = np.stack([u, v, np.ones_like(u)]).T @ np.linalg.inv(NYU_INTRINSICS).T
        points = (rays * view.depth[v, u, None]) @ view.pose[:3, :3].T + view.pose[:3, 3]
        voxels = np.floor((points - [0, 0, BOX_FLOOR]) / 0.08).astype(int) - BOX[0]
        inside = ((voxels >= 0) & (voxels < BOX[1] - BOX[0])).all(axis=1)
        assert inside.mean() > 0.8
        assert solid[tuple(voxels[inside].T)].mean() > 0.97


def test_the_truth_is_what_the_parts_are(walk, truth):
    """Voxels that one part fills are of its class, and those far from all are empty or outside."""
    low, _ = BOX
    grid = np.moveaxis(np.indices(truth.shape), 0, -1) + low
    centres = ((grid + 0.5) * 0.08 + [0, 0, BOX_FLOOR])[::3, ::3, ::2].reshape(-1, 3)
    labels = truth[::3, ::3, ::2].reshape(-1)
    corners = (np.array(list(np.ndindex(2, 2, 2))) - 0.5) * 0.08
    points = (centres[:, None] + corners).transpose(2, 0, 1)
    touched = np.zeros(len(centres), bool)
    checked = 0
    for part in walk.parts:
        filled = contains(part, points).all(axis=1) & ~touched
        assert (labels[filled] == RAW_TO_CLASS[part.raw_class]).all()
        touched |= contains(part, centres.T, cube=0.07)
        checked += filled.sum()
    assert checked > 50
    assert np.isin(labels[~touched], (0, IGNORE_INDEX)).all()
    x, y, _ = centres[~touched].T
    inside = [(x > a) & (x < c) & (y > b) & (y < d) for a, b, c, d in walk.floor]
    agreed = (labels[~touched] == 0) == np.any(inside, axis=0)
    assert agreed.mean() > 0.98  # but where the floor plan's edge cuts a voxel


def test_labels_depend_on_the_voxel_alone(walk, truth):
    voxels = np.random.default_rng(0).integers(BOX[0], BOX[1], (50, 3))
    np.testing.assert_array_equal(walk.labels_at(voxels), truth[tuple((voxels - BOX[0]).T)])
    assert (walk.labels_at(np.array([[0, 0, -1], [0, 0, 36]])) == IGNORE_INDEX).all()


def test_refusals():
    with pytest.raises(InputError, match="split"):
        make_walk(0, "validation", 0, 2)
