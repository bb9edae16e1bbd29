"""A walk with poses of any world: its floor and walls are found once, and one map comes out."""

import re
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from raw_scene import camera_pose, room
from scipy.spatial.transform import Rotation

import predict
from datasets.frames.sequence import PosedFrame, check_up, level_world
from datasets.geometry import NYU_INTRINSICS, grid_origin
from datasets.raycast import raycast_labels
from errors import InputError
from utils.completion import SceneCompleter

RGB = np.full((480, 640, 3), 120, np.uint8)
POSES = [camera_pose(0, 15, 1.3), camera_pose(10, 20, 1.5), camera_pose(-10, 10, 1.4)]
WORLDS = {  # where up is in the world, and the motion from the room's world to it
    "z": ([0, 0, 1], Rotation.from_euler("z", 0), [0, 0, 0]),
    "y": ([0, 2, 0], Rotation.from_euler("x", -90, degrees=True), [3, -7, 20]),
    "-y": ([0, -1, 0], Rotation.from_euler("xy", [90, 25], degrees=True), [0.5, 1, 2]),
    "oblique": (None, Rotation.from_rotvec([0.9, -1.4, 0.3]), [-40, 5, 0.2]),
}


def in_world(name):
    """(up, motion (4, 4) from the room's world) of a world of WORLDS."""
    up, rotation, shift = WORLDS[name]
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation.as_matrix(), shift
    return motion[:3, 2] if up is None else np.array(up), motion


@pytest.fixture(scope="module")
def depths():
    return [seen_depth(pose) for pose in POSES]


def seen_depth(pose):
    """Of one and the same room: that before a camera that looks straight ahead."""
    return raycast_labels(room(), NYU_INTRINSICS, pose, grid_origin(camera_pose(0, 0)))


def frames_in(motion, depths, poses=None):
    poses = POSES if poses is None else poses
    pairs = zip(depths, poses, strict=True)
    return [PosedFrame(RGB, depth, NYU_INTRINSICS, motion @ pose) for depth, pose in pairs]


@pytest.mark.parametrize("world", WORLDS)
def test_floor_and_walls_of_a_sequence_in_any_world(world, depths):
    up, motion = in_world(world)
    level, estimate = level_world(frames_in(motion, depths), check_up(up))
    back = level @ motion  # from the room's world: a turn by quarters, and the floor's 3 cm
    turns = np.degrees(np.arctan2(back[1, 0], back[0, 0]))
    assert abs((turns + 45) % 90 - 45) < 1
    np.testing.assert_allclose(back[2, :3], [0, 0, 1], atol=1e-5)
    for pose in POSES:
        assert (back @ pose)[2, 3] == pytest.approx(pose[2, 3] - 0.03, abs=0.02)
    assert estimate.confidence > 0.5
    if world == "z":  # positions stay what they were, but for the floor
        np.testing.assert_allclose(back[:2], motion[:2], atol=0.02)


def test_one_frame_that_sees_the_floor_serves_all(depths):
    blind = camera_pose(0, -25, 1.3)
    depth = seen_depth(blind)
    up = np.array([0, 0, 1.0])
    with pytest.raises(InputError, match="floor"):
        level_world(frames_in(np.eye(4), [depth], [blind]), up)
    alone, _ = level_world(frames_in(np.eye(4), [depth], [blind]), up, height=1.3)
    assert alone[2, 3] == pytest.approx(0, abs=1e-6)
    both = frames_in(np.eye(4), [depth, depths[0]], [blind, POSES[0]])
    assert level_world(both, up)[0][2, 3] == pytest.approx(-0.03, abs=0.02)
    with pytest.raises(InputError, match="none of its frames"):
        level_world([], up)


@pytest.mark.parametrize("axis", ["x", "z"])
def test_an_up_that_the_room_contradicts_is_doubted_and_the_right_one_named(axis, depths):
    up, motion = in_world("y")
    frames = frames_in(motion, depths)
    slightly, far = (
        Rotation.from_euler(axis, angle, degrees=True).apply([0, 1, 0]) for angle in (2, 10)
    )
    _, estimate = level_world(frames, slightly)
    assert estimate.confidence > 0.5 and "--up" not in estimate.belief
    _, estimate = level_world(frames, far)
    assert estimate.confidence == 0
    found = re.search(r"--up (\S+) (\S+) (\S+), (\d+) degrees", estimate.belief).groups()
    np.testing.assert_allclose(list(map(float, found[:3])), up / 2, atol=0.03)
    assert 8 <= int(found[3]) <= 12


@pytest.mark.parametrize("up", [[0, 0, 0], [0, np.nan, 1], [0, np.inf, 0], [1, 2]])
def test_up_must_be_a_direction(up):
    with pytest.raises(InputError, match="--up"):
        check_up(up)


# The command


@pytest.fixture
def completer():
    """Without a network, which would take most of the time: some class for each voxel."""
    completer = object.__new__(SceneCompleter)
    completer.device, completer.precision = torch.device("cpu"), "fp32"
    completer.everywhere = False
    logits = torch.randn(1, 12, 60, 36, 60, generator=torch.Generator().manual_seed(0))
    completer.model = lambda *_: SimpleNamespace(logits=logits)
    return completer


@pytest.fixture
def run(monkeypatch, run_predict, completer):
    """`run(*words)`: predict.py without a network; (exit status, stdout, errors).

    Of a TSDF of zeros: only what was measured is known, and a second is saved a frame.
    """
    zeros = torch.zeros(60, 36, 60)
    monkeypatch.setattr("datasets.frames.frame.frame_tsdf", lambda _: zeros)
    monkeypatch.setattr(SceneCompleter, "from_checkpoint", lambda *_: completer)

    def run(*words):
        words = ["--pretrained_path", "x", "--depth-unit", "mm", *words]
        status, out, err = run_predict(*words)
        return (
            status,
            out,
            re.findall(r"(?:^|\r)((?:skipped|error|predict.py: error): .*)", err, re.M),
        )

    return run


def write_walk(folder, depths, world="z", names="abc"):
    """The frames as files, and a list of them."""
    folder.mkdir()
    _, motion = in_world(world)
    for name, depth, pose in zip(names, depths, POSES, strict=False):
        cv2.imwrite(str(folder / f"{name}.color.png"), RGB)
        cv2.imwrite(str(folder / f"{name}.depth.png"), np.rint(depth * 1000).astype(np.uint16))
        np.savetxt(folder / f"{name}.pose.txt", motion @ pose)
    return write_list(folder, names)


def write_list(folder, names):
    lines = (f"{name}.color.png {name}.depth.png {name}.pose.txt\n" for name in names)
    (folder / f"{names}.txt").write_text("".join(lines))
    return folder / f"{names}.txt"


def test_a_walk_becomes_one_map_in_any_order(run, depths, tmp_path):
    frames = write_walk(tmp_path / "walk", depths)
    status, out, _ = run("--list", frames, "--fuse", tmp_path / "room.npz")
    assert status == 0
    assert "above the floor" in out and "of 3 of 3 frames" in out
    assert {p.name for p in tmp_path.glob("room.*")} == {
        "room.npz", "room.ply", "room.glb", "room.png", "room.html"
    }  # fmt: skip
    other = write_list(tmp_path / "walk", "cab")
    words = "--fuse", tmp_path / "other.npz", "--formats", "npz"
    assert run("--list", other, *words)[0] == 0
    one, two = np.load(tmp_path / "room.npz"), np.load(tmp_path / "other.npz")
    for key in one.files:
        np.testing.assert_allclose(one[key], two[key], atol=1e-6)
    # The back wall and the floor before it, which all frames see, are where they are in the room.
    centres = one["origin"] + one["voxel_size"] * (one["voxels"] + 0.5)
    often = one["weight"] > 2.5 * np.min(one["weight"])
    far = centres[often & (centres[:, 2] > 0.5) & (centres[:, 1] > 4.5)]
    assert len(far) > 100 and np.abs(far[:, 1] - 5.04).max() < 0.13  # 50 voxels from 1.0 m on
    low = centres[often & (centres[:, 2] < 0.15)]
    assert len(low) > 100 and np.mean(np.abs(low[:, 2]) < 0.09) > 0.9


def test_up_of_another_world_gives_the_same_room(run, depths, tmp_path):
    heights = {}
    for world, up in (("z", "0 0 1"), ("y", "-1e-9 1 0")):
        frames = write_walk(tmp_path / world, depths[:2], world, "ab")
        words = "--formats", "npz", "--up", *up.split()
        status, out, errors = run("--list", frames, "--fuse", tmp_path / f"{world}.npz", *words)
        assert status == 0, errors
        voxels = np.load(tmp_path / f"{world}.npz")["voxels"]
        heights[world] = np.bincount(voxels[:, 2], minlength=40)
    assert np.abs(heights["z"] - heights["y"]).sum() < 0.1 * heights["z"].sum()
    assert "--up wrong" in run("--list", frames, "--fuse", tmp_path / "x.npz")[2][-1]


def test_broken_frames_are_skipped_with_a_line_each(run, depths, tmp_path):
    folder = write_walk(tmp_path / "walk", depths[:2], names="ab").parent
    for name, pose in (("c", "-inf " * 16), ("d", "0 1 0"), ("e", "2 0 0 0 " * 4)):
        for kind in ("color", "depth"):
            (folder / f"{name}.{kind}.png").write_bytes((folder / f"a.{kind}.png").read_bytes())
        (folder / f"{name}.pose.txt").write_text(pose)
    (folder / "b.depth.png").write_bytes(b"no image")
    words = "--fuse", tmp_path / "room.npz", "--formats", "npz"
    status, out, errors = run("--list", write_list(folder, "abcde"), *words)
    assert status == 0 and "of 1 of 5 frames" in out
    assert [line.split()[:2] for line in errors] == [["skipped:", f"{n}:"] for n in "bcde"]
    status, _, errors = run("--list", write_list(folder, "bd"), *words)
    assert status == 2 and "none of its frames" in errors[-1]


def test_what_a_sequence_cannot_be_made_of(run, depths, tmp_path):
    frames = write_walk(tmp_path / "walk", depths)
    frames.write_text("a.color.png a.depth.png a.pose.txt\nb.color.png b.depth.png\n")
    room = tmp_path / "room.npz"
    status, _, errors = run("--list", frames, "--fuse", room)
    assert status == 2 and "b has no pose" in errors[-1]
    assert "--up is of --fuse" in run("--list", frames, "--up", 0, 1, 0)[2][-1]
    assert "leave --output out" in run("--list", frames, "--fuse", room, "--output", "x")[2][-1]
    assert "as .npz, .ply" in run("--list", frames, "--fuse", tmp_path / "room")[2][-1]
    taken = tmp_path / "walk/a.depth.npz"
    assert "a.depth.png is an input" in run("--list", frames, "--fuse", taken)[2][-1]


@pytest.mark.parametrize("number", ["-1e-3", "-1E+0", "-.5", "-3.", "-2"])
def test_up_takes_negative_numbers_with_exponents(monkeypatch, number):
    words = ["--list", "x", "--fuse", "r.npz", "--pretrained_path", "p", "--up", "0", number, "1"]
    monkeypatch.setattr(sys, "argv", ["predict.py", *words, "train.precision=bf16"])
    args = predict.parse_arguments()
    assert args.up == [0, float(number), 1] and args.overrides == ["train.precision=bf16"]
