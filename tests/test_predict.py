"""Frames of one's own: the same voxels as in evaluation, files that others read, clear refusals."""

import functools
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from debug_checkpoint import write_debug_checkpoint
from make_nyu import make_nyu_root
from raw_scene import NYU, REAL_BIN, REAL_DEPTH, camera_pose, needs_real_data, room_frame
from scipy.ndimage import binary_dilation

from constants import CLASS_COLORS, IGNORE_INDEX, NO_PIXEL
from datasets.frames.depth import to_metres
from datasets.frames.distortion import Lens, undistort
from datasets.frames.turning import turn_directions, turn_image, turn_intrinsics, turn_pose
from datasets.geometry import NYU_INTRINSICS, Frame, grid_origin
from datasets.nyu import NYUDataset
from datasets.tsdf import tsdf_from_depth
from datasets.voxels import encode_depth, known_labels, mapping_from_depth, read_bin
from errors import InputError
from utils.completion import SceneCompleter, prepare_frame
from utils.evaluation import evaluate
from utils.pictures.mesh import cube_mesh

POSE = camera_pose(yaw=15, pitch=15, height=1.3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """`checkpoint("tsdf")`: weights of a random network of the debug preset."""
    folder = tmp_path_factory.mktemp("weights")

    def write(volume="tsdf"):
        path = folder / f"{volume}.pth"
        return path if path.exists() else write_debug_checkpoint(path, volume)

    return write


@pytest.fixture(scope="module")
def completer(checkpoint):
    return SceneCompleter.from_checkpoint(checkpoint(), "cpu")


@pytest.fixture(scope="module")
def rgb():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return cv2.resize(image, (640, 480))


@pytest.fixture(scope="module")
def depth():
    return room_frame(NYU_INTRINSICS, POSE)


@pytest.fixture(scope="module")
def scene(completer, rgb, depth):
    return completer(rgb, depth, NYU_INTRINSICS, POSE, name="room")


@pytest.fixture
def without_tsdf(monkeypatch):
    """Saves the second that a TSDF takes, where it does not matter."""
    zeros = torch.zeros(60, 36, 60)
    monkeypatch.setattr("datasets.frames.frame.frame_tsdf", lambda _: zeros)


@pytest.fixture
def frame(rgb, depth, tmp_path):
    """Files of the frame as a user has them: rgb.png, depth.png in millimetres, pose.txt."""
    cv2.imwrite(str(tmp_path / "room_rgb.png"), rgb[..., ::-1])
    cv2.imwrite(str(tmp_path / "room_depth.png"), np.rint(depth * 1000).astype(np.uint16))
    np.savetxt(tmp_path / "pose.txt", POSE)
    return tmp_path


@pytest.fixture(scope="module")
def read_once():
    """SceneCompleter.from_checkpoint, but every network is read and prepared once."""
    return functools.cache(SceneCompleter.from_checkpoint)


@pytest.fixture
def run(monkeypatch, run_predict, checkpoint, read_once):
    """`run(*words)`: predict.py on that checkpoint; (exit status, stdout, error lines)."""

    def from_checkpoint(path, device, overrides):
        return read_once(path, device, tuple(overrides))

    monkeypatch.setattr("utils.completion.SceneCompleter.from_checkpoint", from_checkpoint)

    def run(*words, weights=None):
        words = ["--pretrained_path", weights or checkpoint(), "--device", "cpu", *words]
        status, out, err = run_predict(*words)
        errors = [line for line in err.splitlines() if line.startswith(("error: ", "usage: "))]
        return status, out, errors

    return run


def words_of(frame, *more):
    files = ["--rgb", frame / "room_rgb.png", "--depth", frame / "room_depth.png"]
    return [*files, "--camera", "nyu", "--depth-unit", "mm", "--output", frame / "out", *more]


def evaluated(completer, dataset):
    """What test_NYU.py's loop says of the data set's only scene: prediction and known labels."""
    found = []

    def keep(name, labels, batch):
        found.extend([labels.numpy(), batch["known"][0].numpy()])

    evaluate(
        completer.model, dataset, "tsdf", torch.device("cpu"), on_scene=keep,
        everywhere=completer.everywhere,
    )  # fmt: skip
    return found


# The same voxels as in evaluation


def test_a_generated_room_gives_the_voxels_of_evaluation(run, completer, frame, rgb, depth):
    root = make_nyu_root(frame, train=0, test=1, cad=False)
    origin = grid_origin(POSE)
    mapping = mapping_from_depth(depth, NYU_INTRINSICS, POSE, origin)
    tsdf = tsdf_from_depth(depth, NYU_INTRINSICS, POSE, origin)
    np.savez(root / "Mapping/0001.npz", mapping.reshape(-1))
    np.savez(root / "TSDF/0001.npz", tsdf.reshape(-1), np.ones(tsdf.size))
    cv2.imwrite(str(root / "test/RGB/NYU0001_rgb.png"), rgb[..., ::-1])
    expected, known = evaluated(completer, NYUDataset(root, "test"))

    status, out, _ = run(*words_of(frame, "--pose", frame / "pose.txt", "--formats", "npz"))
    assert status == 0 and "median" in out and "room: " in out
    scene = np.load(frame / "out/room.npz")
    np.testing.assert_array_equal(scene["prediction"], expected)
    np.testing.assert_array_equal(scene["labels"], known)
    np.testing.assert_array_equal(scene["pose"], POSE)
    np.testing.assert_allclose(scene["origin"], origin, atol=1e-6)
    probabilities = scene["probabilities"].astype(np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=0.01)
    chosen = np.take_along_axis(probabilities, expected[None].astype(int), axis=0)[0]
    assert (chosen >= probabilities.max(axis=0) - 1e-3).all()


def test_a_network_taught_everywhere_has_a_word_in_all_of_the_view(completer, frame, rgb, depth):
    depth = depth.copy()
    depth[200:280, 300:400] = 0  # a screen, of which a depth camera sees nothing
    everywhere = SceneCompleter(completer.model, everywhere=True)
    scene, modest = (c(rgb, depth, NYU_INTRINSICS, POSE) for c in (everywhere, completer))
    np.testing.assert_array_equal(scene.prediction, modest.prediction)
    voxels = np.argwhere(np.ones((60, 36, 60), bool))
    centres = scene.origin + (voxels[:, [0, 2, 1]] + 0.5) * 0.08
    camera = np.linalg.inv(POSE.astype(float))
    turn, shift = cv2.Rodrigues(camera[:3, :3])[0], camera[:3, 3]
    u, v = cv2.projectPoints(centres, turn, shift, NYU_INTRINSICS, None)[0][:, 0].T
    ahead = (centres @ camera[:3, :3].T + shift)[:, 2] > 0
    inside = ahead & (u >= -0.5) & (u < 639.5) & (v >= -0.5) & (v < 479.5)
    inside = inside.reshape(60, 36, 60)
    lacking = inside & (modest.labels == IGNORE_INDEX)
    assert lacking.sum() > 100
    np.testing.assert_array_equal(scene.labels[lacking], scene.prediction[lacking])
    elsewhere = ~lacking
    np.testing.assert_array_equal(scene.labels[elsewhere], modest.labels[elsewhere])

    root = make_nyu_root(frame, train=0, test=1, cad=False)
    mapping = mapping_from_depth(depth, NYU_INTRINSICS, POSE, scene.origin, False)
    np.savez(root / "Mapping/0001.npz", mapping.reshape(-1))
    tsdf = scene.frame.batch["tsdf"].numpy().reshape(-1)
    np.savez(root / "TSDF/0001.npz", tsdf, np.ones(tsdf.size))
    cv2.imwrite(str(root / "test/RGB/NYU0001_rgb.png"), rgb[..., ::-1])
    _, known = evaluated(everywhere, NYUDataset(root, "test"))
    assert (known == scene.labels).mean() > 0.995  # its camera is recovered from Mapping


@needs_real_data
def test_the_real_scene_gives_the_voxels_of_evaluation(run, completer, tmp_path):
    image = NYU / "train/RGB/NYU0003_rgb.jpg"
    (tmp_path / "ids").write_text("0003\n")
    dataset = NYUDataset(NYU, "train", ids=tmp_path / "ids")
    expected, _ = evaluated(completer, dataset)
    np.savetxt(tmp_path / "pose.txt", read_bin(REAL_BIN).pose, fmt="%.9g")
    status, _, errors = run(
        "--rgb", image, "--depth", REAL_DEPTH, "--camera", "nyu", "--output", tmp_path,
        "--pose", tmp_path / "pose.txt", "--formats", "npz",
    )  # fmt: skip
    assert status == 0, errors
    scene = np.load(tmp_path / "NYU0003.npz")
    # Half a dozen voxels of this scene's published TSDF are off by 5e-7: no class hangs on that.
    assert (scene["prediction"] != expected).mean() < 1e-4


def test_the_same_surface_without_a_pose_but_for_its_error(without_tsdf, rgb, depth):
    with_pose = prepare_frame(rgb, depth, NYU_INTRINSICS, POSE)
    without = prepare_frame(rgb, depth, NYU_INTRINSICS)
    assert without.estimate.confidence > 0.5
    seen, again = with_pose.measured, without.measured
    assert (again & binary_dilation(seen)).sum() > 0.8 * again.sum()
    # The room's floor is 3 cm thick, and z = 0 is on it: the surfaces are at the same heights.
    assert np.abs(np.argwhere(seen)[:, 1].mean() - np.argwhere(again)[:, 1].mean()) < 0.8


# What a scene holds


def test_depth_decides_where_it_knows_better():
    prediction = torch.full((60, 36, 60), 5)
    tsdf = torch.zeros(60, 36, 60)
    measured, in_view = torch.zeros(2, 60, 36, 60, dtype=torch.bool)
    tsdf[0], tsdf[1], tsdf[2], tsdf[3] = 1, 0.01, -0.01, -1
    measured[4], tsdf[4] = True, 0
    measured[5], tsdf[5] = True, 0.2
    in_view[:7] = True  # without depth in 6; outside the view from 7 on
    taught_hidden = known_labels(prediction, tsdf, measured)
    taught_all = known_labels(prediction, tsdf, measured, in_view)
    assert taught_hidden[:8, 0, 0].tolist() == [0, 0, 5, 5, 5, 5, 255, 255]
    assert taught_all[:8, 0, 0].tolist() == [0, 0, 5, 5, 5, 5, 5, 255]


def test_voxels_lie_where_the_pixels_are_in_the_cameras_frame(scene, depth):
    """Each measured voxel's centre within half a diagonal of its pixel's point."""
    scene = replace(scene, labels=scene.frame.measured.astype(np.uint8))
    points, classes = scene.points("camera")
    assert (classes == 1).all() and len(points) == scene.frame.measured.sum()
    v, u = np.divmod(scene.frame.mapping[scene.frame.mapping != NO_PIXEL], 640)
    z = depth[v, u]
    (fx, _, cx), (_, fy, cy), _ = NYU_INTRINSICS
    pixels = np.stack([(u - cx) * z / fx, (v - cy) * z / fy, z], axis=1)
    assert np.abs(np.linalg.norm(points - pixels, axis=1)).max() <= 0.04 * 3**0.5 + 1e-4
    world, _ = scene.points()
    np.testing.assert_allclose(points @ POSE[:3, :3].T + POSE[:3, 3], world, atol=1e-5)
    with pytest.raises(InputError, match="world or camera"):
        scene.points("room")


def test_another_camera_sees_the_same_surface(completer):
    """A wider, finer, shifted camera at the same place: the voxels of the first, and more."""
    shape, K = (540, 960), np.array([[540, 0, 470], [0, 540, 280], [0, 0, 1]], np.float32)
    u_map, v_map = np.meshgrid(np.arange(960), np.arange(540))
    nyu_depth = room_frame(NYU_INTRINSICS, POSE)
    # Ray-cast in tiles of 480 x 640: a camera's image shifted by whole pixels is another camera's.
    tiles = np.zeros(shape, np.float32)
    for top in (0, 60):
        for left in (0, 320):
            K_tile = K - np.array([[0, 0, left], [0, 0, top], [0, 0, 0]], np.float32)
            tiles[top : top + 480, left : left + 640] = room_frame(K_tile, POSE)
    colors = np.stack([u_map % 256, v_map % 256, u_map * 0], axis=-1).astype(np.uint8)
    wide = prepare_frame(colors, tiles, K, POSE)
    plain = prepare_frame(np.zeros((480, 640, 3), np.uint8), nyu_depth, NYU_INTRINSICS, POSE)
    assert wide.view.wide_depth.shape[1] > 640
    # The room's faces lie between voxels, where half a pixel decides.
    missed = plain.measured & ~binary_dilation(wide.measured)
    assert missed.sum() < 0.01 * plain.measured.sum()
    assert wide.measured.sum() > 1.2 * plain.measured.sum()
    # Within the old view, free and hidden are as before.
    tsdf, before = (f.batch["tsdf"][0, 0].numpy() for f in (wide, plain))
    assert np.abs(tsdf - before)[before != 0].mean() < 0.06
    # The image features come from pixels that see the voxel: of the wide image, not the plain one.
    voxels = np.argwhere(wide.mapping != NO_PIXEL)
    v, u = np.divmod(wide.mapping[tuple(voxels.T)], 640)
    points = (
        Frame(wide.view.depth, NYU_INTRINSICS, POSE, np.zeros(3))
        .points()
        .numpy()
        .T.reshape(480, 640, 3)[v, u]
    )
    cells = np.floor((points - wide.origin) / 0.08)[:, [0, 2, 1]]
    assert (cells == voxels).mean() > 0.999
    ray_u = (u - 325.58) / 518.8579 * 540 + 470
    assert np.abs(wide.view.image[v, u, 0] - ray_u % 256).mean() < 12


def test_exported_files_are_read_by_trimesh(scene, tmp_path):
    assert scene.occupied.any()
    for kind in ("ply", "glb", "png", "html"):
        scene.save(tmp_path / f"scene.{kind}")
    scene.save(tmp_path / "mesh.ply", mesh=True)
    points, classes = scene.points()
    cloud = trimesh.load(tmp_path / "scene.ply")
    np.testing.assert_allclose(cloud.vertices, points, atol=1e-5)
    palette = np.array(CLASS_COLORS)[classes]
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], palette)
    mesh = trimesh.load(tmp_path / "mesh.ply", force="mesh")
    np.testing.assert_allclose(mesh.bounds[0], points.min(axis=0) - 0.04, atol=1e-4)
    np.testing.assert_allclose(mesh.bounds[1], points.max(axis=0) + 0.04, atol=1e-4)
    upright = trimesh.load(tmp_path / "scene.glb", force="mesh")
    low, high = mesh.bounds
    y_up = [[low[0], low[2], -high[1]], [high[0], high[2], -low[1]]]
    np.testing.assert_allclose(upright.bounds, y_up, atol=1e-4)
    assert cv2.imread(str(tmp_path / "scene.png")).shape[2] == 3
    assert "<html" in (tmp_path / "scene.html").read_text()
    with pytest.raises(InputError, match="scene.obj"):
        scene.save(tmp_path / "scene.obj")
    with pytest.raises(InputError, match="no voxel"):
        replace(scene, labels=scene.labels * 0).save(tmp_path / "empty.ply")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        scene.save(tmp_path / "file/scene.glb")


def test_cubes_are_closed_and_turned_outwards():
    labels = np.zeros((4, 4, 4), int)
    labels[1, 2, 1], labels[1, 2, 2] = 3, 7
    mesh = cube_mesh(labels, np.array([1.0, 2.0, 3.0]), 0.5)
    # Array axes are X, height, forward: world X, Z, Y.
    np.testing.assert_allclose(mesh.bounds, [[1.5, 2.5, 4.0], [2.0, 3.5, 4.5]])
    assert len(mesh.faces) == 2 * 10 and mesh.area == pytest.approx(10 * 0.25)
    colors = np.unique(mesh.visual.vertex_colors[:, :3], axis=0)
    assert sorted(map(tuple, colors)) == sorted([CLASS_COLORS[3], CLASS_COLORS[7]])
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.volume == pytest.approx(2 * 0.125)  # positive only if all faces look outwards
    assert not len(cube_mesh(labels * 0, np.zeros(3), 0.5).faces)


# The command


def test_all_files_of_a_frame(run, frame):
    status, out, errors = run(*words_of(frame))
    assert status == 0, errors
    names = sorted(path.name for path in (frame / "out").iterdir())
    assert names == ["room.glb", "room.html", "room.npz", "room.ply", "room.png"]
    assert "above the floor" in out and "confidence" in out and "millimetres" in out


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_frame_gives_the_voxels_of_the_upright_one(run, completer, frame, rgb, turn):
    """Voxel for voxel, by --rotate; pose and points are those of the camera as given."""
    K = np.array([[520, 0, 322.25], [0, 510, 241.5], [0, 0, 1]], np.float32)
    mm = np.rint(room_frame(K, POSE) * 1000).astype(np.uint16)
    upright = completer(rgb, mm, K, POSE)
    back = -turn % 360
    turned = turn_pose(POSE, back)
    (fx, _, cx), (_, fy, cy), _ = turn_intrinsics(K, mm.shape, back)
    cv2.imwrite(str(frame / "room_rgb.png"), turn_image(rgb[..., ::-1], back))
    cv2.imwrite(str(frame / "room_depth.png"), turn_image(mm, back))
    np.savetxt(frame / "pose.txt", turned)
    words = ["--rgb", frame / "room_rgb.png", "--depth", frame / "room_depth.png"]
    words += ["--intrinsics", fx, fy, cx, cy, "--output", frame, "--formats", "npz"]
    words += ["--pose", frame / "pose.txt"]
    status, _, errors = run(*words)
    assert status == 2 and f"--rotate {turn}" in errors[0]
    status, _, errors = run(*words, "--rotate", turn)
    assert status == 0, errors
    scene = np.load(frame / "room.npz")
    np.testing.assert_array_equal(scene["labels"], upright.labels)
    np.testing.assert_array_equal(scene["probabilities"], upright.probabilities)
    np.testing.assert_array_equal(scene["pose"], turn_pose(upright.pose, back))
    assert scene["rotate"] == turn
    images = turn_image(rgb, back), turn_image(mm, back)
    here = completer(*images, turn_intrinsics(K, mm.shape, back), turned, rotate=turn)
    here = here.points("camera")[0]
    np.testing.assert_allclose(here, turn_directions(upright.points("camera")[0], back), atol=1e-5)


def test_a_frame_without_an_occupied_voxel_gets_its_other_files(run, frame, monkeypatch):
    """And a name with dollars is no formula to the picture."""
    monkeypatch.setattr(
        "utils.completion.known_labels", lambda classes, *_: torch.zeros_like(classes)
    )
    (frame / "room_rgb.png").rename(frame / "a$^$b_rgb.png")
    status, out, errors = run(*words_of(frame, "--rgb", frame / "a$^$b_rgb.png"))
    assert status == 0, errors
    assert "no voxel is occupied" in out
    names = sorted(path.suffix for path in (frame / "out").iterdir())
    assert names == [".html", ".npz", ".png"]


def test_a_folder_of_frames_goes_on_behind_a_bad_one(without_tsdf, run, frame, rgb, depth):
    good = np.rint(depth * 1000).astype(np.uint16)
    folder = frame / "frames"
    folder.mkdir()
    for name, image in (("a", good), ("b", np.zeros_like(good)), ("c", good)):
        cv2.imwrite(str(folder / f"{name}.color.png"), rgb)
        cv2.imwrite(str(folder / f"{name}.depth.png"), image)
        np.savetxt(folder / f"{name}.pose.txt", POSE)
    words = ["--rgb", folder, "--depth", folder, "--pose", folder, "--depth-unit", "mm"]
    words += ["--output", frame / "out", "--formats", "npz"]
    status, out, errors = run(*words)
    assert status == 2 and "written: 2 of 3" in out and "b:" in errors[0]
    assert sorted(path.name for path in (frame / "out").iterdir()) == ["a.npz", "c.npz"]
    (folder / "c.pose.txt").unlink()
    status, out, errors = run(*words)
    assert status == 2 and "written: 1 of 3" in out and "no pose for" in errors[0]
    (folder / "c.depth.png").unlink()
    status, out, errors = run(*words)
    assert status == 2 and "written: 1 of 3" in out
    assert "c.color.png: its partner is missing" in errors[0]


def test_names_of_frames_in_a_folder(without_tsdf, run, frame, rgb, depth):
    """Two of the same frame are refused; names without anything else are names too."""
    folder = frame / "frames"
    folder.mkdir()
    cv2.imwrite(str(folder / "color.png"), rgb)
    cv2.imwrite(str(folder / "depth.png"), np.rint(depth * 1000).astype(np.uint16))
    words = ["--rgb", folder, "--depth", folder, "--camera", "nyu", "--depth-unit", "mm"]
    words += ["--pose", frame / "pose.txt", "--output", frame / "out", "--formats", "npz"]
    status, _, errors = run(*words)
    assert status == 0, errors
    assert [path.name for path in (frame / "out").iterdir()] == ["color.npz"]
    cv2.imwrite(str(folder / "1_rgb.png"), rgb)
    cv2.imwrite(str(folder / "rgb_1.png"), rgb)
    assert "1_rgb.png and rgb_1.png are of the same frame" in run(*words)[2][0]


@pytest.mark.parametrize("camera", ["tum", "nyu"])
def test_float_depth_is_in_metres_whatever_the_camera_writes(
    without_tsdf, run, frame, depth, camera
):
    """Only the integers of a camera's own files are in its unit."""
    np.save(frame / "depth.npy", depth)
    words = ["--rgb", frame / "room_rgb.png", "--depth", frame / "depth.npy", "--camera", camera]
    words += ["--pose", frame / "pose.txt", "--output", frame / "out", "--formats", "npz"]
    status, out, errors = run(*words)
    assert status == 0, errors
    assert f"median {np.median(depth[depth > 0]):.2f}" in out


def test_a_list_of_frames(without_tsdf, run, frame, rgb, depth):
    (frame / "list.txt").write_text(
        "# colour and depth\nroom_rgb.png room_depth.png pose.txt\n\nother.png room_depth.png\n"
    )
    cv2.imwrite(str(frame / "other.png"), rgb)
    words = ["--camera", "nyu", "--depth-unit", "mm", "--output", frame / "out", "--formats", "npz"]
    status, _, errors = run("--list", frame / "list.txt", *words)
    assert status == 0, errors
    assert sorted(path.name for path in (frame / "out").iterdir()) == ["other.npz", "room.npz"]
    for text, reason in (("a\n", "line 1"), ("", "no frames"), ("a b\na b\n", "rename")):
        (frame / "list.txt").write_text(text)
        assert reason in run("--list", frame / "list.txt", *words)[2][0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--depth-unit", "tum"], "camera would be 0.2. m.*depth unit right"),
        (["--depth-unit", "m"], "median would be.*--depth-unit mm"),
        (["--depth-unit", "sscnet"], "median would be.*--depth-unit mm"),
        (["--camera", "kinect-v2"], "640x480"),
        (["--rgb", "{}/room_depth.png"], "room_depth.png: a colour image is needed"),
        (["--depth", "{}/room_rgb.png"], "room_rgb.png: a colour image"),
        (["--depth", "{}/small.png"], "320x200"),
        (["--depth", "{}/zero.png"], "zero.png: 0 of 307200 pixels are measured"),
        (["--depth", "{}/invalid.png"], "invalid.png: 0 of 307200 pixels are measured"),
        (["--depth", "{}/absent.png"], "absent.png: no such file"),
        (["--depth", "{}/zipped.npy"], "zipped.npy: an .npz"),
        (["--depth", "{}/wall.png"], "no floor"),
        (["--pose", "{}/y_down.txt"], "Z up"),
        (["--pose", "{}/up.txt"], "accelerometer"),
        (["--pose", "{}/pose.txt", "--camera-height", "1.2"], "give one of them"),
        (["--camera-height", "12"], "no plausible room"),
        (["--device", "abacus"], "device abacus"),
        (["--output", "{}/room_rgb.png/out"], "cannot be written"),
        (["model.width=16"], "does not fit"),
        (["model.wdth=16"], "model.width"),
    ],
)
def test_wrong_inputs(change, reason, without_tsdf, run, frame, depth):
    mm = np.rint(depth * 1000).astype(np.uint16)
    wall = (2000 / (1 - 0.0005 * np.arange(640))).astype(np.uint16)[None].repeat(480, axis=0)
    for name, image in (
        ("small", mm[:400:2, ::2]), ("zero", mm * 0), ("invalid", mm * 0 + 65535), ("wall", wall)
    ):  # fmt: skip
        cv2.imwrite(str(frame / f"{name}.png"), image)
    with open(frame / "zipped.npy", "wb") as file:
        np.savez(file, mm)
    np.savetxt(frame / "y_down.txt", np.eye(4))
    (frame / "up.txt").write_text("0 -9.81 0")
    status, _, errors = run(*words_of(frame, *(word.format(frame) for word in change)))
    assert status == 2 and len(errors) == 1
    assert re.search(reason, errors[0]), errors[0]


def test_wrong_intrinsics_of_the_command(run, frame):
    words = [w for w in words_of(frame) if w not in ("--camera", "nyu")]
    for numbers, reason in (
        (["1050", "1050", "639.5", "479.5"], "another resolution"),
        (["525", "525", "x", "239.5"], "four numbers"),
        (["525", "525"], "four numbers"),
        ([str(frame / "absent.json")], "absent.json"),
    ):
        status, _, errors = run(*words, "--intrinsics", *numbers)
        assert status == 2 and reason in errors[0], errors
    for name in ("room_rgb.png", "room_depth.png"):
        image = cv2.imread(str(frame / name), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(frame / name), image[:400, :500])
    assert "--camera or --intrinsics" in run(*words)[2][0]
    assert run(*words, "--camera", "nyu", "--intrinsics", "1", "1", "1", "1")[0] == 2
    assert run("--rgb", frame / "room_rgb.png")[0] == 2


def test_a_camera_file_says_its_unit_and_its_distortion(without_tsdf, run, frame, depth):
    """BOP's depth_scale; and what was undone can be left undone, so that it is never done twice."""
    cv2.imwrite(str(frame / "room_depth.png"), np.rint(depth * 10000).astype(np.uint16))
    K = NYU_INTRINSICS.reshape(-1).tolist()
    (frame / "bop.json").write_text(json.dumps({"cam_K": K, "depth_scale": 0.1}))
    words = ["--rgb", frame / "room_rgb.png", "--depth", frame / "room_depth.png"]
    words += ["--pose", frame / "pose.txt", "--output", frame / "out", "--formats", "npz"]
    status, out, errors = run(*words, "--intrinsics", frame / "bop.json")
    assert status == 0, errors
    assert f"median {np.median(depth[depth > 0]):.2f} m" in out and "distortion" not in out
    (frame / "ros.json").write_text(json.dumps({"K": K, "D": [0.1, 0, 0, 0, 0]}))
    words += ["--depth-unit", "10000", "--intrinsics", frame / "ros.json"]
    assert "undone; if the images are without it already, give --rectified" in run(*words)[1]
    status, out, errors = run(*words, "--rectified")
    assert status == 0 and "distortion" not in out, errors


def test_a_crop_is_completed_where_it_is_said(without_tsdf, run, frame):
    """The room's images without their left 200 columns."""
    for kind in ("rgb", "depth"):
        image = cv2.imread(str(frame / f"room_{kind}.png"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(frame / f"{kind}.png"), image[:, 200:])
    fx, fy, cx, cy = map(str, NYU_INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]])
    words = ["--rgb", frame / "rgb.png", "--depth", frame / "depth.png", "--depth-unit", "mm"]
    words += ["--intrinsics", fx, fy, float(cx) - 200, cy, "--pose", frame / "pose.txt"]
    words += ["--output", frame / "out", "--formats", "npz"]
    status, _, errors = run(*words)
    assert status == 2 and "far from the centre" in errors[0] and "--crop" in errors[0]
    status, _, errors = run(*words, "--crop")
    assert status == 0, errors
    with np.load(frame / "out/rgb.npz") as cropped:
        assert (cropped["labels"] != 255).sum() > 1000


def test_sizes_that_differ_are_said_before_the_camera(run, frame):
    image = cv2.imread(str(frame / "room_rgb.png"))
    cv2.imwrite(str(frame / "room_rgb.png"), image[:, :600])
    words = words_of(frame, "--camera", "kinect-v2")
    words = [word for word in words if word != "nyu"]
    words.remove("--camera")
    assert "rgb has 600x480 pixels and depth 640x480" in run(*words)[2][0]


def test_inputs_are_never_overwritten(run, frame):
    before = (frame / "room_rgb.png").read_bytes()
    (frame / "room.png").write_bytes(before)
    words = ["--rgb", frame / "room.png", "--depth", frame / "room_depth.png", "--output", frame]
    status, _, errors = run(*words, "--depth-unit", "mm")
    assert status == 2 and "room.png is an input" in errors[0]
    assert (frame / "room.png").read_bytes() == before


def test_weights_of_the_original_are_read_and_what_is_assumed_is_said(original_file, capsys):
    tiny = ["model.encoder=mit_b0", "model.width=32"]
    SceneCompleter.from_checkpoint(original_file(), "cpu", tiny)
    assert "assumed: preset nyu_segformer_b2" in capsys.readouterr().out
    with pytest.raises(InputError, match="teacher"):
        SceneCompleter.from_checkpoint(original_file(), "cpu", [*tiny, "data.input=tsdf_cad"])


def test_a_teacher_is_refused(run, checkpoint, frame):
    status, _, errors = run(*words_of(frame), weights=checkpoint("tsdf_cad"))
    assert status == 2 and "teacher" in errors[0]


# The Python interface


def test_wrong_arrays_are_refused(without_tsdf, rgb, depth):
    for bad, reason in (
        (dict(rgb=rgb[:240]), "rgb has 640x240 pixels and depth 640x480"),
        (dict(rgb=rgb.astype(np.float32)), "uint8"),
        (dict(rgb=rgb[..., 0]), "height, width, 3"),
        (dict(depth=depth * 1000), "--depth-unit mm"),
        (dict(depth=depth * 0), "0 of 307200"),
        (dict(depth=rgb), "depth 3x640x480"),
        (dict(intrinsics=NYU_INTRINSICS * 2), "3x3|skew"),
        (dict(intrinsics=np.eye(4)), "3x3"),
        (dict(pose=np.eye(3)), r"\(4, 4\)"),
        (dict(pose=POSE * 2), "rigid"),
        (dict(pose=np.array([0, -1, 0])), "accelerometer"),
    ):
        good = dict(rgb=rgb, depth=depth, intrinsics=NYU_INTRINSICS, pose=POSE)
        with pytest.raises(InputError, match=reason):
            prepare_frame(**(good | bad))


def test_a_lens_in_python_is_undone_as_by_hand(without_tsdf, rgb, depth):
    lens = Lens(False, (0.1, -0.05, 0.01, -0.02))
    K = NYU_INTRINSICS
    given = prepare_frame(rgb, depth, K, POSE, lens=lens)
    undone = prepare_frame(*undistort(rgb, depth, K, lens), K, POSE)
    np.testing.assert_array_equal(given.view.image, undone.view.image)
    np.testing.assert_array_equal(given.view.depth, undone.view.depth)
    assert (given.view.depth != depth).mean() > 0.5


def test_a_frame_beside_the_grid_is_refused(rgb):
    """Two metres above the room, looking over it."""
    far = np.full((480, 640), 7, np.float32) + np.linspace(0, 0.5, 640, dtype=np.float32)
    with pytest.raises(InputError, match="lie in the grid"):
        prepare_frame(rgb, far, NYU_INTRINSICS, camera_pose(0, 0, 1.3))


def test_integers_are_millimetres(without_tsdf, rgb, depth):
    mm = np.rint(depth * 1000).astype(np.uint16)
    integers = prepare_frame(rgb, mm, NYU_INTRINSICS, POSE)
    np.testing.assert_array_equal(integers.view.depth, depth)
    mm[depth == 0] = 65535  # as some cameras write what they did not measure; also as floats
    for numbers, unit in ((mm, None), (mm.astype(np.float32), "mm")):
        metres, _ = to_metres(numbers, unit)
        np.testing.assert_array_equal(metres, depth)
    with pytest.raises(InputError, match="sscnet"):
        prepare_frame(rgb, encode_depth(depth), NYU_INTRINSICS, POSE)


@pytest.mark.parametrize(
    ("per_metre", "taken_as"), [(6553.5, "mm"), (10000, "mm"), (256, "m"), (100, "mm")]
)
def test_advice_on_the_unit_names_the_right_one_and_any_number(depth, per_metre, taken_as):
    """As one of those that would fit, not as the only one: obeying must not mislead."""
    raw = np.rint(depth * per_metre).astype(np.uint16)
    raw[depth * per_metre > 65534] = 0
    with pytest.raises(InputError, match="cannot say which.*--depth-unit NUMBER") as error:
        to_metres(raw, taken_as)
    assert f"--depth-unit {per_metre:g} (" in str(error.value)
    metres, _ = to_metres(raw, str(per_metre))
    assert np.abs(metres - depth)[raw > 0].max() <= 0.5 / per_metre + 1e-5


def write_depth(path, pose, per_metre):
    raw = np.rint(room_frame(NYU_INTRINSICS, pose) * per_metre)
    cv2.imwrite(str(path), np.where(raw > 65534, 0, raw).astype(np.uint16))


@pytest.mark.parametrize(
    ("height", "pitch", "per_metre", "found", "right"),
    [
        (1.4, 20, 256, "0.35", r"--depth-unit 256 \(1.3\d m\)"),
        (1.1, 40, 4000, "4.2", r"--depth-unit tum \(0.8\d m\), --depth-unit NUMBER"),
    ],
)
def test_millimetres_that_put_the_camera_nowhere_are_refused_with_other_units(
    height, pitch, per_metre, found, right, without_tsdf, run, frame
):
    """Their median is that of a room; how far below the floor lies is not."""
    write_depth(frame / "room_depth.png", camera_pose(15, pitch, height), per_metre)
    status, _, errors = run(*words_of(frame, "--rotate", "0"))
    assert status == 2 and len(errors) == 1
    assert re.search(f"would be {found}.*another unit.*{right}", errors[0])


def test_a_low_camera_is_doubted_with_other_units(without_tsdf, run, frame):
    """1/256 m as millimetres, of a camera at 1.7 m: a room for dolls, which some rooms are."""
    write_depth(frame / "room_depth.png", camera_pose(15, 20, 1.7), 256)
    status, out, _ = run(*words_of(frame, "--rotate", "0", "--formats", "npz"))
    assert status == 0 and "low confidence" in out
    assert re.search(r"may be a table.*--depth-unit 256 \(1.6\d m\), .*--depth-unit NUMBER", out)


@pytest.mark.parametrize("given", ["pose", "height"])
def test_a_floor_that_contradicts_what_is_given_is_said(given, without_tsdf, run, frame):
    """Replica's unit as TUM's, 31 % too large; and a world whose floor is not at z = 0."""
    words = words_of(frame, "--rotate", "0", "--formats", "npz")
    words += ["--pose", frame / "pose.txt"] if given == "pose" else ["--camera-height", "1.3"]
    status, out, _ = run(*words)
    assert status == 0 and "low confidence" not in out
    assert given == "height" or "camera 1.30 m above the floor, taken to be at z = 0" in out
    write_depth(frame / "room_depth.png", POSE, 6553.5)
    status, out, _ = run(*words, "--depth-unit", "tum")
    assert status == 0 and "low confidence" in out
    assert re.search(r"a floor is seen 1.6\d m below the camera, not 1.30 m as given", out)


def test_a_world_whose_floor_is_not_at_zero_is_said(without_tsdf, run, frame):
    """As a motion capture's may be: the origin at the height of a table, or below the floor."""
    for shift, said in ((-0.6, "a floor is seen 1.27 m"), (0.6, "level surface is 1.27 m")):
        pose = POSE.copy()
        pose[2, 3] += shift
        np.savetxt(frame / "pose.txt", pose)
        status, out, _ = run(*words_of(frame, "--pose", frame / "pose.txt", "--formats", "npz"))
        assert status == 0 and f"camera {1.3 + shift:.2f} m above the floor" in out
        assert said in out


@pytest.mark.parametrize("far", [65.535, 1000.0])
def test_a_far_plane_is_not_measured(depth, far):
    with_plane = depth.copy()
    with_plane[:100] = far
    expected = depth.copy()
    expected[:100] = 0
    np.testing.assert_array_equal(to_metres(with_plane).metres, expected)
    expected[:100] = 12  # a hall's end is measured
    np.testing.assert_array_equal(to_metres(expected).metres, expected)
