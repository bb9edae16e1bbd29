"""Generated rooms: solids, placement, labels, sensor, and the folder that is made of them."""

import hashlib
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from debug_checkpoint import write_debug_checkpoint
from raw_scene import NYU, needs_real_data
from scipy.spatial.transform import Rotation
from sklearn.metrics import recall_score
from sklearn.tree import DecisionTreeClassifier

import prepare_NYU
import prepare_rooms as prepare_rooms_command
from config import load_config
from constants import FINE_GRID, IGNORE_INDEX, IMAGE_SIZE
from datasets.geometry import (
    NYU_INTRINSICS,
    NYUCAD_INTRINSICS,
    Frame,
    grid_origin,
    voxels_in_view,
)
from datasets.nyu import NYUDataset, build_dataset
from datasets.poses import read_poses
from datasets.rooms import make_room
from datasets.rooms.furnishing import make_layout
from datasets.rooms.furniture import FURNITURE, make
from datasets.rooms.layout import camera_pose
from datasets.rooms.parts import RAW, Part, contains, paint, rotation, triangles
from datasets.rooms.render import cast, shade
from datasets.rooms.rooms import voxelize
from datasets.rooms.sensor import FOCAL_BASELINE, RANGE, in_shadow, kinect_depth
from datasets.tsdf import tsdf_from_depth
from datasets.voxels import (
    RAW_TO_CLASS,
    downsample_labels,
    mapping_from_depth,
    read_bin,
    read_depth,
)
from errors import InputError
from runs import view_scores
from utils.checkpoint import read_network
from utils.preparation import prepare_cad, prepare_raw, prepare_rooms

OPENINGS = (RAW["window"], RAW["door"])


def generator(*seed):
    return np.random.Generator(np.random.PCG64(seed))


def random_part(rng, shape="box"):
    return Part(
        shape, RAW["chair"], paint(rng, "wood"), rng.uniform(-0.4, 0.4, 3),
        rng.uniform(0.1, 0.6, 3), rotation(rng.uniform(0, 6), rng.uniform(-1, 1)),
    )  # fmt: skip


def box(name, low, high):
    low, high = np.array(low), np.array(high)
    return Part("box", RAW[name], None, (low + high) / 2, (high - low) / 2, np.eye(3))


@pytest.fixture(scope="module")
def layouts():
    return [make_layout(generator(1, i)) for i in range(40)]


# ---- parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "volume"), [("box", 8), ("cylinder", 2 * np.pi), ("ellipsoid", 4 / 3 * np.pi)]
)
def test_solid_and_mesh_have_the_volume_of_the_shape(shape, volume):
    part = random_part(generator(1), shape)
    expected = volume * part.half.prod()
    points = generator(2).uniform(-1.5, 1.5, (3, 2_000_000))
    assert contains(part, points).mean() * 27 == pytest.approx(expected, rel=0.05)
    # Signed volumes of the tetrahedra between the surface's triangles and the centre.
    faces = triangles(part) - part.center
    signed = np.linalg.det(faces) / 6
    assert np.abs(signed).sum() == pytest.approx(expected, rel=0.09)  # round ones are inscribed
    assert np.abs(signed).sum() <= expected * (1 + 1e-9)
    # The faces' corners go round so that normals point outwards.
    assert (signed > 0).all()


def test_rotation_agrees_with_scipy():
    for turn, tilt in generator(3).uniform(-3, 3, (10, 2)):
        expected = Rotation.from_euler("ZX", [turn, tilt]).as_matrix()
        assert np.abs(rotation(turn, tilt) - expected).max() < 1e-11


@pytest.mark.parametrize("name", FURNITURE)
def test_furniture_stands_on_the_floor_with_its_back_to_the_wall(name):
    for seed in range(8):
        model = make(generator(seed), name)
        corners = np.concatenate([triangles(part).reshape(-1, 3) for part in model.parts])
        low, high = corners.min(axis=0), corners.max(axis=0)
        assert name == "window" or low[2] > -0.012  # curtains hang down; leaning backs and feet
        assert np.abs(low[0] + high[0]) < 0.5
        assert (high - low < (3.2, 2.2, 2.4)).all()
        assert np.allclose(model.extent()[1], high, atol=0.05) or name in ("plant", "small plant")
        if model.surface and name not in ("window", "door"):
            (x, y, z), (width, depth) = model.surface
            assert low[0] < x - width / 2 < x + width / 2 < high[0]
            assert low[1] < y - depth / 2 < y + depth / 2 < high[1]
            # A part is close below the things that are put there.
            spots = x + width / 8, y + np.linspace(-depth / 4, depth / 4, 5), np.full(5, z - 0.015)
            assert any(contains(part, spots).any() for part in model.parts)


# ---- layout ---------------------------------------------------------------------------------


def test_nothing_overlaps(layouts):
    """Oracle: no point of a 2.5 cm lattice is in two pieces of furniture, or in one and a wall."""
    shrink = 0.003  # what touches is allowed
    for layout in layouts[:5]:
        corners = np.array(layout.floor)
        low, high = corners[:, :2].min(axis=0) - 0.2, corners[:, 2:].max(axis=0) + 0.2
        lattice = [np.arange(a, b, 0.025) for a, b in zip(low, high, strict=True)]
        lattice.append(np.arange(0.01, layout.height, 0.025))
        owner = np.zeros([len(axis) for axis in lattice], dtype=np.int16)
        walls = [part for part in layout.structure if part.raw_class == RAW["wall"]]
        for number, group in enumerate([walls, *layout.objects], 1):
            for part in group:
                if part.raw_class in OPENINGS:  # they reach through the wall
                    continue
                reach = np.linalg.norm(part.half)
                window = tuple(
                    slice(*np.searchsorted(axis, [c - reach, c + reach]))
                    for axis, c in zip(lattice, part.center, strict=True)
                )
                points = np.ix_(*(axis[piece] for axis, piece in zip(lattice, window, strict=True)))
                smaller = replace(part, half=np.maximum(part.half - shrink, 1e-4))
                block = owner[window]
                inside = contains(smaller, points)
                assert set(np.unique(block[inside])) <= {0, number}
                block[inside] = number
        assert len(layout.objects) > 3


def test_furniture_stays_in_the_room_and_off_the_camera(layouts):
    for layout in layouts:
        for group in layout.objects:
            points = np.concatenate([triangles(part).reshape(-1, 3) for part in group])
            assert points[:, 2].min() > -1e-6
            assert points[:, 2].max() < layout.height
            x0, y0, x1, y1 = np.array(layout.floor).T[..., None]
            x, y = points[:, 0], points[:, 1]
            within = (x > x0 - 0.05) & (x < x1 + 0.05) & (y > y0 - 0.05) & (y < y1 + 0.05)
            assert within.any(axis=0).all()
            assert (np.hypot(x, y) > 0.29).all()


def test_every_class_occurs_and_furniture_varies(layouts):
    parts = [part for layout in layouts for part in layout.parts()]
    assert {int(RAW_TO_CLASS[part.raw_class]) for part in parts} == set(range(1, 12))
    assert {RAW[name] for name in ("pillow", "lamp", "plant", "trash can", "door")} <= {
        part.raw_class for part in parts
    }
    # Each class is made of many materials: texture and both colours.
    for number in range(1, 12):
        looks = {p.material for p in parts if RAW_TO_CLASS[p.raw_class] == number}
        assert len(looks) >= 6


@needs_real_data
def test_cameras_are_like_those_of_nyu(layouts):
    real = np.stack([pose for pose, _ in read_poses(NYU.parent / "poses_recovered.npz").values()])
    made = np.stack([make.pose for make in layouts])
    for angle in (
        lambda pose: pose[:, 2, 3],
        lambda pose: np.arcsin(pose[:, 2, 2]),
        lambda pose: np.arcsin(pose[:, 2, 0]),
    ):
        spread = angle(real).std()
        assert abs(angle(made).mean() - angle(real).mean()) < 0.7 * spread
        assert 0.5 * spread < angle(made).std() < 1.5 * spread


def test_camera_is_outside_the_grid(layouts):
    # Else pixels without depth, which the published arrays keep at the camera, would be surfaces.
    assert all(grid_origin(layout.pose)[1] > 0 for layout in layouts)


# ---- labels ---------------------------------------------------------------------------------


def test_voxelize_by_hand():
    pose = camera_pose(0.0, 0.0, 0.0, 1.2)
    origin = np.array([-2.4, 1.0, -0.05], dtype=np.float32)
    parts = [
        box("bed", (0.105, 3.005, 0.955), (0.195, 3.015, 1.085)),
        box("sofa", (0.185, 3.005, 0.955), (0.235, 3.015, 1.085)),  # comes second
        box("tv", (1.0, 3.0, 2.7), (1.1, 3.1, 2.75)),  # above the field of view
    ]
    labels = voxelize(parts, [(-1.0, 1.0, 1.0, 5.0)], pose, origin)
    # Voxel i of x spans -2.4 + 0.02 i: those that the box touches are 125..129.
    expected = np.zeros(FINE_GRID, dtype=bool)
    expected[125:130, 50:57, 100:101] = True
    assert np.array_equal(labels == RAW["bed"], expected)
    assert np.array_equal(np.unique(np.argwhere(labels == RAW["sofa"])[:, 0]), [130, 131])
    assert not (labels == RAW["tv"]).any()
    # x in -1..1 and y in 1..5 is inside the room, at every height.
    outside = np.ones(FINE_GRID, dtype=bool)
    outside[70:170, :, 0:200] = False
    assert np.array_equal(labels == IGNORE_INDEX, outside)


@pytest.mark.parametrize("index", range(4))
def test_labels_agree_with_what_the_camera_sees(layouts, index):
    layout = layouts[index]
    parts, origin = layout.parts(), grid_origin(layout.pose)
    labels = voxelize(parts, layout.annotated, layout.pose, origin)
    view = cast(parts, NYUCAD_INTRINSICS, layout.pose)
    assert (view.depth > 0).all()  # a closed room
    points = Frame(view.depth, NYUCAD_INTRINSICS, layout.pose, np.zeros(3)).points().numpy().T
    assert np.abs(points - view.points).max() < 1e-4
    pixels, voxels = Frame(view.depth, NYUCAD_INTRINSICS, layout.pose, origin).pixel_voxels
    seen = np.array([part.raw_class for part in parts])[view.part.reshape(-1)[pixels]]
    padded = np.pad(labels, 1)
    near = np.zeros(len(pixels), dtype=bool)
    for step in np.ndindex(3, 3, 3):
        near |= padded[tuple((voxels + step).T)] == seen
    assert near.mean() > 0.99
    assert (labels[tuple(voxels.T)] == seen).mean() > 0.9


# ---- images ---------------------------------------------------------------------------------


def test_depth_of_a_wall_by_hand():
    pose = camera_pose(0.0, np.radians(-20), 0.0, 1.3)
    view = cast([box("wall", (-9, 2.5, -9), (9, 2.6, 9))], NYU_INTRINSICS, pose)
    v = np.arange(480)
    # Forward of a pixel's ray per depth: cos(20) - sin(20) of its downward slope.
    down = (v - 253.74) / 519.4696
    expected = 2.5 / (np.cos(np.radians(20)) - np.sin(np.radians(20)) * down)
    assert np.abs(view.depth - expected[:, None]).max() < 1e-5


def test_colours_do_not_give_classes_away(layouts):
    """A classifier that sees single pixels does little better than chance in other rooms."""
    colours, classes = [], []
    for index, layout in enumerate(layouts[4:11]):
        parts = layout.parts()
        view = cast(parts, NYU_INTRINSICS, layout.pose)
        rgb, _, _ = shade(parts, view, layout.height, generator(12, index))
        of_part = RAW_TO_CLASS[[part.raw_class for part in parts]]
        colours.append(rgb[12:-12:8, 12:-12:8].reshape(-1, 3))
        classes.append(of_part[view.part[12:-12:8, 12:-12:8]].reshape(-1))
    train, test = slice(0, 5), slice(5, None)
    model = DecisionTreeClassifier(max_depth=12, class_weight="balanced", random_state=0)
    model.fit(np.concatenate(colours[train]), np.concatenate(classes[train]))
    scores = [
        recall_score(
            np.concatenate(classes[part]),
            model.predict(np.concatenate(colours[part])),
            labels=np.unique(np.concatenate(classes[part])),
            average="macro",
        )
        for part in (train, test)
    ]
    assert scores[0] > 0.5  # in a room, colours do tell its things apart
    assert scores[1] < 0.35


# ---- sensor ---------------------------------------------------------------------------------


def wall_measured(z, albedo=0.8, gloss=0.0, slope=1.0, seed=0):
    full = np.ones(IMAGE_SIZE)
    return kinect_depth(z * full, slope * full, albedo * full, gloss * full, generator(seed))


def test_noise_grows_with_the_square_of_the_distance():
    spread = {}
    for z in (1.0, 2.0, 4.0):
        errors = [wall_measured(z, seed=seed) - z for seed in range(2)]
        spread[z] = np.std([error[20:-20, 20:-20] for error in errors])
        assert (np.abs(errors) < 1).mean() > 0.9
    assert spread[2.0] / spread[1.0] == pytest.approx(4, rel=0.25)
    assert spread[4.0] / spread[2.0] == pytest.approx(4, rel=0.25)
    assert 0.001 * 4 < spread[2.0] < 0.015 * 4  # Khoshelham: 1.4 mm at 1 m, at the least


def test_depth_is_quantised_in_disparity():
    steps = FOCAL_BASELINE / np.unique(wall_measured(4.0)[20:-20, 20:-20]) * 8
    assert len(steps) < 60
    assert np.abs(steps - np.rint(steps)).max() < 0.03  # millimetres round it, too


def test_pixels_without_depth():
    def lost(**surface):
        return (wall_measured(**surface)[20:-20, 20:-20] == 0).mean()

    assert lost(z=2.0) == 0
    assert min(lost(z=RANGE[1] + 1), lost(z=RANGE[0] - 0.1)) > 0.999
    assert lost(z=4.0, albedo=0.05) > 0.3 > lost(z=1.5, albedo=0.05)
    glass = wall_measured(2.5, gloss=0.95)[20:-20, 20:-20]
    assert (np.abs(glass - 2.5) > 0.2).mean() > 0.3  # lost, or what is behind it
    assert lost(z=2.0, slope=0.04) > 0.9
    measured = wall_measured(2.0)
    assert not measured[:5].any()
    assert not measured[:, -5:].any()


def plate(left=300, right=400):
    """A plate at 1.5 m in front of a wall at 3 m."""
    depth = np.full(IMAGE_SIZE, 3.0)
    depth[100:400, left:right] = 1.5
    return depth


def test_projector_shadow_is_as_wide_as_the_disparities_differ():
    shadow = in_shadow(plate())
    width = FOCAL_BASELINE * (1 / 1.5 - 1 / 3)
    assert shadow[200].sum() == pytest.approx(width, abs=1.6)  # and a tolerance
    assert shadow[200, 302 - int(width) : 300].all()
    assert not shadow[50].any()


def test_edges_fray_and_flat_parts_do_not():
    depth = plate()
    ones = np.ones(IMAGE_SIZE)
    measured = kinect_depth(depth, ones, 0.8 * ones, 0 * ones, generator(5))
    wrong = (measured > 0) & (np.abs(measured - depth) > 0.7)  # delta noise
    rows = slice(120, 380)
    assert 0.5 < wrong[rows, 380:420].sum() / 260 < 8  # a few pixels a row, at the right edge
    assert not wrong[rows, 320:380].any()
    assert not wrong[rows, 430:].any()
    assert (measured[rows, 285:300] == 0).mean() > 0.2  # zero noise: what the filling left over


# ---- rooms and their folder -----------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One room of each split, made in two other processes."""
    out = tmp_path_factory.mktemp("rooms") / "rooms"
    prepare_rooms(out, {"train": 1, "test": 1}, seed=3, workers=2, keep_raw=True)
    return out


def test_scores_in_view_and_outside_add_up(folder, tmp_path, monkeypatch, capsys):
    """By hand, with the camera of the raw file instead of the one recovered from Mapping."""
    checkpoint = write_debug_checkpoint(tmp_path / "debug.pth")
    words = ["--pretrained_path", str(checkpoint), f"data.root={folder}", "data.workers=0"]
    monkeypatch.setattr(sys, "argv", ["view_scores.py", *words])
    view_scores.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    recall = {tuple(row[:-15]): float(row[-14]) for row in rows}

    (sample,) = NYUDataset(folder, "test")
    model = read_network(checkpoint)[0].eval()
    with torch.inference_mode():
        out = model(*(sample[key][None] for key in ("image", "mapping2d", "tsdf")))
    found, truth = out.logits.argmax(dim=1)[0] > 0, sample["label3d"]
    raw = read_bin(folder / "raw/NYUtest/NYU5001_0000.bin")
    seen = torch.from_numpy(voxels_in_view(raw.pose, raw.origin, NYU_INTRINSICS, IMAGE_SIZE))
    occupied = (truth > 0) & (truth != IGNORE_INDEX)
    for name, where in {("all",): True, ("in", "view"): seen, ("outside",): ~seen}.items():
        expected = 100 * found[occupied & where].double().mean().item()
        assert recall[name] == pytest.approx(expected, abs=1.5), name
    assert (occupied & seen).sum() > 1000


@pytest.fixture(scope="module")
def room():
    return make_room(3, "train", 0)


def test_rooms_depend_on_their_number_alone(folder, room):
    raw = folder / "raw"
    for name in ("NYUtrain", "NYUCADtrain"):
        scene = read_bin(raw / name / "NYU0001_0000.bin")
        for field in ("labels", "pose", "origin"):
            assert np.array_equal(getattr(scene, field), getattr(room, field))
    assert np.array_equal(cv2.imread(str(raw / "rgb" / "NYU0001_rgb.png"))[..., ::-1], room.rgb)
    depth = read_depth(raw / "NYUtrain" / "NYU0001_0000.png")
    assert np.abs(depth - room.depth).max() < 1e-4
    cad = read_depth(raw / "NYUCADtrain" / "NYU0001_0000.png")
    assert np.abs(cad - room.cad_depth).max() < 0.501e-3  # whole millimetres
    other = make_room(3, "test", 0)
    assert np.array_equal(read_bin(raw / "NYUtest" / "NYU5001_0000.bin").labels, other.labels)
    assert not np.array_equal(other.labels, room.labels)


def test_labels_and_pose_are_the_same_on_every_machine(room):
    digest = hashlib.sha256(room.labels.tobytes() + room.pose.tobytes()).hexdigest()
    assert digest[:16] == "e6dc9b95ebed2d0f"


def test_a_room_is_in_raw_form(room):
    assert room.labels.dtype == np.uint8
    assert room.labels.shape == FINE_GRID
    assert set(np.unique(room.labels)) <= {*range(37), 255}
    assert np.array_equal(room.origin, grid_origin(room.pose))
    assert room.rgb.shape == (*IMAGE_SIZE, 3)
    assert room.rgb.dtype == np.uint8
    for depth in (room.depth, room.perfect_depth, room.cad_depth):
        assert depth.shape == IMAGE_SIZE
        assert depth.dtype == np.float32
    measured = room.depth > 0
    assert 0.7 < measured.mean() < 0.97
    wrong = np.abs(room.depth - room.perfect_depth)[measured]
    assert 0.002 < np.median(wrong) < 0.15


def test_prepared_as_nyu_is(folder, room):
    sample = NYUDataset(folder, "train", cad_root=folder / "cad")[0]
    assert sample["name"] == "NYU0001"
    camera = room.pose, room.origin
    assert np.array_equal(sample["label3d"], downsample_labels(room.labels))
    mapping = mapping_from_depth(room.depth, NYU_INTRINSICS, *camera)
    assert np.array_equal(sample["mapping"], mapping)
    cad = np.rint(room.cad_depth * 1000) / 1000
    assert np.corrcoef(
        sample["tsdf_cad"].reshape(-1),
        tsdf_from_depth(cad, NYUCAD_INTRINSICS, *camera).reshape(-1),
    )[0, 1] == pytest.approx(1, abs=1e-6)
    assert len(NYUDataset(folder, "test", cad_root=folder / "cad")) == 1


def run_main(monkeypatch, module, *args):
    monkeypatch.setattr(sys, "argv", [module.__name__ + ".py", *map(str, args), "--workers", "1"])
    module.main()


def test_check_accepts_the_folder(folder, monkeypatch, tmp_path):
    run_main(monkeypatch, prepare_NYU, "check", "--root", folder, "--picture", tmp_path / "picture")
    assert cv2.imread(str(tmp_path / "picture")).std() > 5


def test_rooms_have_their_own_tsdf_cad_though_nyus_is_beside_them(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "rooms")
    shutil.copytree(folder / "cad", tmp_path / "NYUCAD")
    other = tmp_path / "NYUCAD/TSDF/0001.npz"
    np.savez_compressed(other, arr_0=np.zeros(60 * 36 * 60, np.float32))
    data = load_config(overrides=[f"data.root={tmp_path / 'rooms'}"]).data
    sample = build_dataset(data, "train", with_cad=True, augment=False)[0]
    expected = NYUDataset(folder, "train", cad_root=folder / "cad")[0]
    assert torch.equal(torch.as_tensor(sample["tsdf_cad"]), torch.as_tensor(expected["tsdf_cad"]))


def test_finished_rooms_are_kept_and_broken_ones_made_again(folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.np[zy]")}
    prepare_rooms(folder, {"train": 1, "test": 1}, seed=3)
    assert "2 of 2 were there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.np[zy]")} == before

    broken = folder / "train" / "RGB" / "NYU0001_rgb.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:5000])
    prepare_rooms(folder, {"train": 1, "test": 0}, seed=3)
    assert broken.read_bytes() == whole
    assert (folder / "test.txt").read_text() == "5001\n"
    assert not list(folder.glob(".raw-*"))


@pytest.mark.parametrize(
    ("counts", "seed", "word"),
    [
        ({"train": 1, "test": 0}, 4, "seed"),  # the folder's rooms have seed 3
        ({"train": 0, "test": 0}, 3, "nothing"),
        ({"train": -1, "test": 1}, 3, "--train -1"),
        ({"train": 1, "test": 5000}, 3, "--test 5000"),
        ({"train": 1, "test": 1}, -1, "--seed -1"),
    ],
)
def test_what_cannot_be_made(folder, counts, seed, word):
    with pytest.raises(InputError, match=word):
        prepare_rooms(folder, counts, seed)


def test_folders_that_cannot_be_used(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as status:
        run_main(
            monkeypatch, prepare_rooms_command, "--out", tmp_path / "file" / "rooms", "--train", "1"
        )
    assert status.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file'}")
    (tmp_path / "other" / "Label").mkdir(parents=True)
    with pytest.raises(InputError, match="other data"):
        prepare_rooms(tmp_path / "other", {"train": 1, "test": 1})
    (tmp_path / "rooms.json").write_text("{")
    with pytest.raises(InputError, match="rooms.json: unreadable"):
        prepare_rooms(tmp_path, {"train": 1, "test": 1})


@pytest.mark.parametrize("command", ["rooms", "raw", "cad"])
def test_one_command_at_a_time_writes_a_folder(command, folder, tmp_path):
    """The second is refused and writes nothing; the lock of a process that is gone is broken."""
    out = tmp_path / "out"
    out.mkdir()
    run = {
        "rooms": lambda: prepare_rooms(out, {"train": 1, "test": 0}, seed=3),
        "raw": lambda: prepare_raw(folder / "raw", folder / "raw/rgb", tmp_path / "NYU", out, 1),
        "cad": lambda: prepare_cad(folder, out, None, False, 1),
    }[command]
    with subprocess.Popen(["sleep", "60"]) as other:
        (out / "prepare.lock").write_text(f"{socket.gethostname()} {other.pid}\n")
        with pytest.raises(InputError, match=f"prepare.lock: process {other.pid} .* this folder"):
            run()
        assert [path.name for path in out.iterdir()] == ["prepare.lock"]
        other.kill()
    run()
    assert (out / ("cad/TSDF/0001.npz" if command == "rooms" else "TSDF/0001.npz")).exists()
    assert not list(tmp_path.rglob("*.lock"))


@pytest.mark.parametrize("arguments", [(-1, "train", 0), (0, "val", 0), (0, "train", 1.5)])
def test_rooms_that_do_not_exist(arguments):
    with pytest.raises(InputError):
        make_room(*arguments)
