"""Frames that are not upright: turned as told, recognised, or doubted; never completed unawares."""

import numpy as np
import pytest
from PIL import Image
from raw_scene import camera_pose, room_frame
from scipy.spatial.transform import Rotation

from datasets.files import read_photo
from datasets.frames.frame import place_frame
from datasets.frames.gravity import check_gravity, grid_pose
from datasets.frames.turning import (
    TURNS,
    as_exif_says,
    turn_directions,
    turn_image,
    turn_intrinsics,
    turn_pose,
)
from datasets.frames.upright import SURE, judge
from datasets.geometry import Frame
from datasets.rooms import make_room
from errors import InputError
from utils.upright import upright_scores

K = np.array([[520, 0, 322.25], [0, 510, 241.5], [0, 0, 1]], np.float32)
POSE = camera_pose(yaw=15, pitch=15, height=1.3)


@pytest.fixture(scope="module")
def depth():
    return room_frame(K, POSE)


@pytest.fixture(scope="module")
def generated():
    return make_room(3, "test", 1)


def given(turn, *images):
    """Images as a camera that has to be turned by `turn` takes them."""
    return [turn_image(image, -turn % 360) for image in images]


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_camera_sees_the_same_points(depth, turn):
    """Every pixel's world point, from the turned image, intrinsics and pose."""
    turned, pose = turn_image(depth, turn), turn_pose(POSE, turn)
    points = Frame(turned, turn_intrinsics(K, depth.shape, turn), pose, np.zeros(3)).points()
    expected = Frame(depth, K, POSE, np.zeros(3)).points().reshape(3, *depth.shape)
    expected = np.stack([turn_image(axis, turn) for axis in expected.numpy()])
    np.testing.assert_allclose(points.reshape(expected.shape), expected, atol=1e-5)
    # From x to y, which is clockwise, as y is down.
    roll = Rotation.from_euler("z", turn, degrees=True).as_matrix()
    np.testing.assert_allclose(turn_directions(np.eye(3), turn), roll.T, atol=1e-12)


@pytest.mark.parametrize("turn", TURNS)
def test_turned_back_by_rotate_it_is_the_frame(depth, turn):
    rgb = np.random.default_rng(0).integers(0, 256, (*depth.shape, 3), dtype=np.uint8)
    camera = turn_intrinsics(K, depth.shape, -turn % 360)
    placed = place_frame(*given(turn, rgb, depth), camera, rotate=turn)
    upright = place_frame(rgb, depth, K)
    for one, other in zip(placed[:3], upright[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(placed.pose, upright.pose)
    with pytest.raises(InputError, match="rotate 45: use one of 0, 90"):
        place_frame(rgb, depth, K, rotate=45)


@pytest.mark.parametrize("turn", TURNS[1:])
def test_a_pose_that_is_given_names_the_turn(turn):
    """Each in the frame of the camera as given."""
    pose = turn_pose(POSE, -turn % 360)
    with pytest.raises(InputError, match=f"--rotate {turn}"):
        grid_pose(pose)
    with pytest.raises(InputError, match=f"--rotate {turn}"):
        check_gravity(-9.81 * pose[2, :3])
    np.testing.assert_allclose(grid_pose(pose, turn), grid_pose(POSE), atol=1e-6)


@pytest.mark.parametrize("turn", TURNS)
def test_a_room_is_recognised_at_every_turn(generated, turn):
    camera = turn_intrinsics(generated.K, generated.depth.shape, -turn % 360)
    images = given(turn, generated.rgb, generated.depth)
    for height in (None, 1.3):
        placed = place_frame(*images, camera, camera_height=height, look=upright_scores)
        assert placed.turn == turn and placed.estimate.confidence > 0.5
        assert ("not upright" in placed.estimate.belief) == (turn != 0)
        assert (f"by {turn} degrees" in placed.estimate.belief) == (turn != 0)


def test_what_nothing_speaks_for_is_doubted_and_what_metadata_say_is_expected(depth):
    """A room without a picture: what may be a ceiling has no confidence, whatever the height."""
    grey = np.full((*depth.shape, 3), 128, np.uint8)
    upside_down = given(180, grey, depth)
    camera = turn_intrinsics(K, depth.shape, 180)

    def unsure(_):
        return np.zeros(4)

    for height in (None, 1.3):
        try:
            placed = place_frame(*upside_down, camera, camera_height=height, look=unsure)
        except InputError as error:
            assert "--rotate" in str(error)
        else:
            assert placed.turn == 180 or placed.estimate.confidence == 0
    verdict = judge(np.zeros(4), expected=90)
    assert verdict.turn == 90 and not verdict.sure and "--rotate 90" in verdict.belief
    assert judge(np.array([0, 9.0, 0, 0]), expected=90) == (90, True, None)
    nearly, enough = (np.log([p, 1 - p, 1e-99, 1e-99]) for p in (SURE - 0.01, SURE + 0.01))
    assert judge(enough).sure and not judge(nearly).sure


@pytest.mark.parametrize("height", [None, 1.2])
def test_a_ceiling_that_looks_like_a_floor_is_doubted(height):
    """Seen from 1.2 m below, in images that stand on their head: as a floor in every number."""
    v, u = np.indices((480, 640))
    down = (v - K[1, 2]) / K[1, 1] * np.cos(0.6) + np.sin(0.6)  # of each pixel's ray
    depth = np.where(down > 0.15, 1.2 / np.maximum(down, 0.1), 0).astype(np.float32)
    grey = np.full((480, 640, 3), 128, np.uint8)
    believed = place_frame(grey, depth, K, camera_height=height).estimate
    assert believed.confidence > 0.5
    placed = place_frame(grey, depth, K, camera_height=height, look=lambda _: np.zeros(4))
    assert placed.estimate.confidence == 0 and "--rotate" in placed.estimate.belief


def photo(path, shape, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 180), (6, 90), (8, 270), (99, 0)])
def test_exif_of_an_image_and_its_depth(tmp_path, orientation, turn):
    """Of a sensor that lies, the depth lies too; an upright depth wants the colour turned alone."""
    photo(tmp_path / "a.jpg", (48, 64), orientation)
    rgb, exif = read_photo(tmp_path / "a.jpg")
    assert rgb.shape == (48, 64, 3) and exif == turn
    same, expected, lines = as_exif_says(rgb, exif, (24, 32), "a.jpg")
    assert same is rgb and expected == turn and len(lines) == (turn != 0)
    turned, expected, lines = as_exif_says(rgb, exif, (32, 24), "a.jpg")
    if turn in (90, 270):
        assert turned.shape == (64, 48, 3) and expected == 0 and "to fit the depth" in lines[0]
    else:
        assert turned is rgb and not lines  # which do not fit, as will be said


def test_a_mirrored_photo_is_refused(tmp_path):
    photo(tmp_path / "a.jpg", (48, 64), 5)
    with pytest.raises(InputError, match="a.jpg: EXIF says that it is mirrored"):
        read_photo(tmp_path / "a.jpg")


def test_scores_turn_with_the_image(generated):
    scores = upright_scores(generated.rgb)
    assert scores.argmax() == 0
    turned = upright_scores(turn_image(generated.rgb, 90))
    np.testing.assert_allclose(turned, np.roll(scores, -1), atol=1e-3)
