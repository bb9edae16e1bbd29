"""Pictures: cubes against a plain ray march, panels and curves by their colours, and the page as a
browser shows it."""

import base64
import functools
import html
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from make_nyu import make_nyu_root

from constants import CLASS_COLORS, CLASS_NAMES, GRID, IGNORE_INDEX, NO_PIXEL, VOXEL_SIZE
from datasets.geometry import NYU_INTRINSICS, grid_origin
from datasets.nyu import NYUDataset
from datasets.raycast import raycast_labels
from datasets.voxels import mapping_from_depth
from errors import InputError
from utils.pictures.curves import save_training_curves
from utils.pictures.exhibit import ERROR_COLORS, ERROR_NAMES, Exhibit
from utils.pictures.page import save_page
from utils.pictures.picture import save_scene_picture
from utils.pictures.rendering import look_at_voxels, render_voxels, seen_voxels

FLOOR, WALL, CHAIR, BED, SOFA, TABLE = (
    CLASS_NAMES.index(name) for name in ("floor", "wall", "chair", "bed", "sofa", "table")
)
GREEN = (10, 200, 30)  # the colour of the camera's image
ROW = [12.34] * 15
PANEL = 384 * 512  # pixels


@functools.cache
def room():
    """A room with a sofa; labels and mapping of a camera that looks along the last axis, 15 degrees
    down."""
    label = np.zeros(GRID, int)
    label[:, 0] = FLOOR
    label[:, :, 50:52] = WALL
    label[20:40, 1:9, 20:36] = SOFA
    label[..., 55:] = IGNORE_INDEX
    sine, cosine = np.sin(np.radians(15)), np.cos(np.radians(15))
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = np.array([[1, 0, 0], [0, -sine, cosine], [0, -cosine, -sine]])
    pose[2, 3] = 1.4
    depth = raycast_labels(label, NYU_INTRINSICS, pose, grid_origin(pose))
    mapping = mapping_from_depth(depth, NYU_INTRINSICS, pose, grid_origin(pose), False)
    return label, mapping


def make_exhibit(name="room", predicted=BED, **changes):
    """The room, its sofa taken for something else, a chair predicted where nothing is evaluated."""
    label, mapping = room()
    prediction = np.where(label == SOFA, predicted, np.where(label == IGNORE_INDEX, 0, label))
    prediction[:6, 1:6, 20:30] = CHAIR
    evaluated = label != IGNORE_INDEX
    evaluated[:6, 1:6, 20:30] = False
    fields = {
        "image": np.full((480, 640, 3), GREEN, np.uint8),
        "mapping": mapping,
        "prediction": prediction,
        "label": label,
        "evaluated": evaluated,
    }
    return Exhibit(name, **{**fields, **changes})


def count(picture, color):
    """Pixels of exactly this colour, RGB: a cube's lit top has it."""
    return int((picture[..., :3] == color).all(axis=-1).sum())


def read_png(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]


# ---- cubes


@pytest.fixture(scope="module")
def heap():
    """Random voxels, each in a colour of its own, and a camera that looks at them from above."""
    rng = np.random.default_rng(3)
    solid = np.zeros(GRID, bool)
    solid[20:40, 5:20, 20:40] = rng.random((20, 15, 20)) < 0.05
    origin = np.array([-1.0, 2.0, 0.5])
    viewpoint = look_at_voxels(solid, 0.4, 0.6, size=(120, 160))
    pose = viewpoint.pose.copy()
    pose[:3, 3] += origin
    return solid, viewpoint._replace(pose=pose, origin=origin)


def march(solid, viewpoint, u, v):
    """The first solid voxel on the ray of a pixel, in small steps; None for none."""
    K, pose, origin, _ = viewpoint
    ray = pose[:3, :3] @ [(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], 1]
    distances = np.arange(0, 15, 0.002)
    points = pose[:3, 3] + distances[:, None] * ray
    x, y, z = np.floor((points - origin) / VOXEL_SIZE).astype(int).T
    cells = np.stack([x, z, y], axis=1)  # world Z is the height, axis 1 of the volume
    cells = cells[((cells >= 0) & (cells < GRID)).all(axis=1)]
    hits = cells[solid[tuple(cells.T)]]
    return tuple(hits[0]) if len(hits) else None


def test_every_pixel_shows_the_first_voxel_on_its_ray(heap):
    solid, viewpoint = heap
    colors = np.zeros((*GRID, 3), np.uint8)
    colors[..., 0] = 255
    codes = np.arange(1, solid.sum() + 1)
    colors[solid, 1] = codes * 255 // len(codes)  # green / red tells the voxel, whatever the shade
    picture = render_voxels(solid, colors, viewpoint, samples=1)
    rng = np.random.default_rng(0)
    wrong = background = 0
    for v, u in rng.integers(0, (120, 160), (400, 2)):
        voxel = march(solid, viewpoint, u, v)
        red, green, _, alpha = picture[v, u].astype(int)
        if voxel is None or alpha == 0:
            background += 1
            wrong += (voxel is None) != (alpha == 0)
        else:
            wrong += abs(green / red - colors[voxel][1] / 255) > 0.01
    assert 40 < background < 360
    assert wrong <= 4  # steps may cut a corner


def test_seen_voxels_are_those_that_rays_meet(heap):
    solid, viewpoint = heap
    size = (30, 40)
    viewpoint = viewpoint._replace(K=viewpoint.K * [[0.25], [0.25], [1]], size=size)
    expected = {march(solid, viewpoint, u, v) for v, u in np.ndindex(size)} - {None}
    seen = set(map(tuple, np.argwhere(seen_voxels(solid, viewpoint))))
    assert len(seen ^ expected) <= 0.03 * len(expected)


def test_lit_top_has_the_voxels_colour_and_samples_soften_its_outline():
    solid = np.zeros(GRID, bool)
    solid[30, 10, 30] = True
    colors = np.full((*GRID, 3), GREEN, np.uint8)
    picture = render_voxels(solid, colors, look_at_voxels(solid, 0.0, np.radians(80)))
    assert count(picture, GREEN) > 50_000
    assert set(np.unique(picture[..., 3])) > {0, 255}


def test_camera_frames_all_voxels_and_stands_above_them(heap):
    solid, (K, pose, origin, _) = heap
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3))
    assert np.isclose(np.linalg.det(pose[:3, :3]), 1)
    assert np.isclose(np.arctan2(pose[0, 2], pose[1, 2]), 0.4)  # azimuth, from Y towards X
    assert np.isclose(np.arcsin(-pose[2, 2]), 0.6)
    corners = np.concatenate([np.argwhere(solid) + c for c in np.ndindex(2, 2, 2)])[:, [0, 2, 1]]
    x, y, z = pose[:3, :3].T @ (corners * VOXEL_SIZE + origin - pose[:3, 3]).T
    u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
    margins = [u.min() + 0.5, 159.5 - u.max(), v.min() + 0.5, 119.5 - v.max()]
    assert min(margins) == pytest.approx(0.03 * 120, abs=0.01) or min(margins) == pytest.approx(
        0.03 * 160, abs=0.01
    )


# ---- a scene


def test_errors_and_classes_voxel_by_voxel():
    label, prediction = np.zeros(GRID, int), np.zeros(GRID, int)
    #                         correct, wrong, missed, invented, empty, ignored, not evaluated
    label[0, 0, :7] = [SOFA, SOFA, SOFA, 0, 0, IGNORE_INDEX, 0]
    prediction[0, 0, :7] = [SOFA, BED, 0, BED, 0, BED, BED]
    evaluated = np.ones(GRID, bool)
    evaluated[0, 0, 6] = False
    exhibit = make_exhibit(label=label, prediction=prediction, evaluated=evaluated)
    names = [ERROR_NAMES[kind] for kind in exhibit.errors[0, 0, :7]]
    assert names == ["correct", "wrong class", "missed", "hallucinated", "", "", ""]
    assert not exhibit.errors[1:].any()
    assert exhibit.classes[0, 0, :7].tolist() == [SOFA, SOFA, SOFA, BED, 0, BED, 0]
    assert exhibit.shown_label[0, 0, :7].tolist() == [SOFA, SOFA, SOFA, 0, 0, 0, 0]
    assert exhibit.shown_prediction[0, 0, :7].tolist() == [SOFA, BED, 0, BED, 0, BED, 0]


def test_visible_voxels_take_the_colour_of_their_pixel():
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    mapping = np.full(GRID, NO_PIXEL)
    mapping[3, 4, 5] = 17 * 640 + 23
    exhibit = make_exhibit(image=image, mapping=mapping)
    assert np.argwhere(exhibit.visible).tolist() == [[3, 4, 5]]
    assert exhibit.visible_colors[3, 4, 5].tolist() == image[17, 23].tolist()


def test_exhibit_of_files_is_what_they_hold(tmp_path):
    root = make_nyu_root(tmp_path, train=0, test=1, cad=False)
    (scene,) = NYUDataset(root, "test").scenes
    exhibit = Exhibit.of_files(scene, np.full(GRID, BED))
    image = cv2.imread(str(root / "test" / "RGB" / "NYU0001_rgb.png"))[..., ::-1]
    assert exhibit.name == "NYU0001" and np.array_equal(exhibit.image, image)
    label = np.load(root / "Label" / "0001.npz")["arr_0"].reshape(GRID)
    weight = np.load(root / "TSDF" / "0001.npz")["arr_1"].reshape(GRID)
    assert np.array_equal(exhibit.label, label)
    assert np.array_equal(exhibit.evaluated, (weight == 1) & (label != IGNORE_INDEX))
    assert (exhibit.prediction == BED).all()


def test_camera_is_recovered_and_missing_where_none_fits(tmp_path):
    exhibit = make_exhibit()
    pose, origin = exhibit.camera
    assert pose[2, 3] == pytest.approx(1.4, abs=0.02) and exhibit.azimuth <= np.radians(31)
    assert np.allclose(origin, [-2.4, 3.4 * np.cos(np.radians(15)) - 2.4, -0.05], atol=0.05)
    root = make_nyu_root(tmp_path, train=0, test=1, cad=False)  # its camera is orthographic
    exhibit = Exhibit.of_files(NYUDataset(root, "test").scenes[0], np.zeros(GRID, int))
    assert exhibit.camera is None
    save_scene_picture(tmp_path / "scene.png", exhibit)
    assert count(read_png(tmp_path / "scene.png"), CLASS_COLORS[FLOOR]) > 1000


@pytest.mark.parametrize("side", [-1, 1])
def test_best_view_looks_past_what_hides_the_objects(side):
    label = np.zeros(GRID, int)
    label[28:32, 0:4, 40:44] = BED
    label[28 - side * 6 : 32 - side * 6, 0:34, 30:38] = WALL  # high, and before it on one side
    label[28:32, 0:34, 34:38] = WALL
    exhibit = make_exhibit(label=label, prediction=label)
    exhibit.camera = (np.eye(4)[[0, 2, 1, 3]], np.zeros(3))
    # From X < 0 the camera looks towards X > 0: a positive azimuth.
    assert np.sign(exhibit.azimuth) == -side


def test_shape_is_checked():
    with pytest.raises(InputError, match="room: mapping must be"):
        make_exhibit(mapping=np.zeros((60, 60, 36), int))


# ---- PNG


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The room's picture with and without ground truth."""
    folder = tmp_path_factory.mktemp("pictures")
    save_scene_picture(folder / "new" / "truth.png", make_exhibit())
    save_scene_picture(folder / "frame.png", make_exhibit(label=None))
    return read_png(folder / "new" / "truth.png"), read_png(folder / "frame.png")


def test_picture_shows_every_layer(pictures):
    picture, _ = pictures
    area = {name: count(picture, CLASS_COLORS[CLASS_NAMES.index(name)]) for name in CLASS_NAMES}
    patch = area["objs"]  # in the legend alone
    assert 0 < patch < 400
    for name in ("bed", "sofa", "floor"):
        assert area[name] > 4 * patch
    assert area["chair"] == patch  # predicted where nothing is evaluated
    assert count(picture, GREEN) > PANEL + 4 * patch  # the image and the visible surface
    assert count(picture, ERROR_COLORS[ERROR_NAMES.index("wrong class")]) > 4 * patch
    assert count(picture, ERROR_COLORS[ERROR_NAMES.index("missed")]) == patch


def test_picture_without_truth_has_no_panels_for_it(pictures):
    picture, frame = pictures
    assert count(frame, CLASS_COLORS[BED]) > 1000
    assert count(frame, CLASS_COLORS[SOFA]) < 400
    assert not any(count(frame, color) for color in ERROR_COLORS[2:])  # the first is grey
    assert frame.shape[1] < picture.shape[1]  # two columns instead of three, no hole


def empty_exhibit(**changes):
    """Nothing seen and nothing predicted: quickly drawn."""
    nothing = {"prediction": np.zeros(GRID, int), "mapping": np.full(GRID, NO_PIXEL)}
    return make_exhibit(label=None, evaluated=None, **nothing, **changes)


def test_picture_of_nothing_shows_the_image(tmp_path):
    save_scene_picture(tmp_path / "empty.png", empty_exhibit())
    assert count(read_png(tmp_path / "empty.png"), GREEN) > 0.98 * PANEL  # but for its frame


def test_given_depth_is_drawn(tmp_path):
    depth = np.zeros((480, 640), np.float32)
    depth[:, 320:] = np.linspace(1, 3, 320)
    for name, array in {"a": depth, "b": np.zeros_like(depth)}.items():
        save_scene_picture(tmp_path / f"{name}.png", empty_exhibit(depth=array))
    a, b = read_png(tmp_path / "a.png"), read_png(tmp_path / "b.png")
    different = (a != b).any(axis=-1).sum()
    assert 0.95 * PANEL / 2 < different < 1.05 * PANEL / 2


def test_unwritable_picture_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="scene.png cannot be written"):
        save_scene_picture(tmp_path / "file" / "scene.png", empty_exhibit())


# ---- curves

HISTORY = [
    {"epoch": e, "lr": 0.1, "loss_3d": 2, "loss_2d": 3, "total": 4, "seconds": 5} for e in (1, 2, 3)
]


def test_curves_with_scores_have_a_panel_more(tmp_path):
    one = [HISTORY[0] | {"sc_iou": 60, "ssc_miou": 20}]
    save_training_curves(tmp_path / "a.png", one)
    save_training_curves(tmp_path / "b.png", HISTORY)
    a, b = read_png(tmp_path / "a.png"), read_png(tmp_path / "b.png")
    assert a.shape[0] == b.shape[0] and a.shape[1] == b.shape[1] * 3 // 2
    assert count(a, (31, 119, 180)) > 10  # matplotlib's first colour: one epoch is drawn, as a dot


@pytest.mark.parametrize("gap", [{}, {"ssc_miou": float("nan")}])
def test_curves_skip_epochs_without_a_number(tmp_path, gap):
    scores = [{"ssc_miou": 10}, gap, {"ssc_miou": 30}]
    history = [row | score for row, score in zip(HISTORY, scores, strict=True)]
    save_training_curves(tmp_path / "gap.png", history)
    history[1] |= {"ssc_miou": 20}
    save_training_curves(tmp_path / "whole.png", history)
    gap, whole = (read_png(tmp_path / f"{name}.png").astype(int) for name in ("gap", "whole"))
    row, column = np.argwhere((np.abs(gap - whole) > 64).any(axis=-1)).T
    assert 2 < np.ptp(row) < 15 and 2 < np.ptp(column) < 15  # a dot on the line that stays


# ---- the page

EVIL = "</script><b id=evil>\"'&{{data}}"


class Page(HTMLParser):
    """Elements, addresses and the texts of title, tables and data."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.texts, self.open = [], [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        self.links += [attributes[key] for key in ("src", "href") if key in attributes]
        self.open = attributes.get("id") if tag == "script" else tag

    def handle_data(self, text):
        self.texts.setdefault(self.open, []).append(text)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    second = make_exhibit(EVIL, predicted=TABLE)
    frame = make_exhibit("frame", label=None)
    tables = {f"Scores {EVIL}": {f"paper {EVIL}": ROW}, "Baselines": {"empty": ROW, "wall": ROW}}
    save_page(path, f"student {EVIL}", tables, [make_exhibit(), second, frame])
    return path


def test_page_is_one_file_and_escapes_what_is_put_in(page):
    text = page.read_text()
    parsed = Page(text)
    assert parsed.links == [] and "http://" not in text and "https://" not in text
    assert "@import" not in text and "url(" not in text
    assert parsed.tags.count("script") == 2 and "b" not in parsed.tags
    assert "".join(parsed.texts["title"]).strip() == f"student {EVIL}"
    assert "".join(parsed.texts["caption"]).split("\n")[:2] == [f"Scores {EVIL}", "Baselines"]
    assert f"paper {EVIL}" in "".join(parsed.texts["th"])
    assert parsed.texts["td"].count("12.3") == 45
    data = json.loads("".join(parsed.texts["data"]))
    assert [scene["name"] for scene in data["scenes"]] == ["room", EVIL, "frame"]
    assert "the loss never touches" in text


def test_page_holds_the_volumes(page):
    data = json.loads("".join(Page(page.read_text()).texts["data"]))
    for scene, exhibit in [
        (data["scenes"][0], make_exhibit()),
        (data["scenes"][2], make_exhibit(label=None)),
    ]:
        packed = zlib.decompress(base64.b64decode(scene["volumes"]))
        volumes = np.frombuffer(packed[: 4 * exhibit.prediction.size], np.uint8).reshape(4, *GRID)
        assert np.array_equal(volumes[0], exhibit.prediction)
        assert np.array_equal(volumes[1], exhibit.evaluated)
        assert np.array_equal(volumes[3], exhibit.mapping != NO_PIXEL)
        assert scene["hasTruth"] == (exhibit.label is not None)
        visible = (exhibit.mapping != NO_PIXEL).sum()
        assert (
            len(packed) == exhibit.prediction.size * (6 if scene["hasTruth"] else 4) + 3 * visible
        )
        image = cv2.imdecode(np.frombuffer(base64.b64decode(scene["image"]), np.uint8), 1)
        assert np.abs(image[..., ::-1].astype(int) - GREEN).max() < 8


def test_six_scenes_fit_two_megabytes_even_if_noisy(tmp_path):
    rng = np.random.default_rng(0)
    noise = np.where(rng.random(GRID) < 0.2, rng.integers(0, 12, GRID), make_exhibit().prediction)
    save_page(tmp_path / "index.html", "noise", {}, [make_exhibit(prediction=noise)])
    assert (tmp_path / "index.html").stat().st_size < 2e6 / 6


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")


def browse(tmp_path, address, *options):
    """Open an address in a fresh headless Chromium without a GPU; returns its standard output."""
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=20000"
    )
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *flags.split(), profile, *options, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@needs_browser
def test_browser_draws_the_linked_view(page, tmp_path):
    shots = {}
    for link in ("scene=room&layer=prediction", "scene=room&layer=truth"):
        shot = tmp_path / "shot.png"
        browse(
            tmp_path, f"{page.as_uri()}#{link}", f"--screenshot={shot}", "--window-size=1200,1100"
        )
        shots[link[-5:]] = read_png(shot)[:, :840]  # without the legend
    bed, sofa = CLASS_COLORS[BED], CLASS_COLORS[SOFA]
    assert len(np.unique(shots["truth"].reshape(-1, 3), axis=0)) > 100
    line = 400  # at most, under the class's name in a table
    assert count(shots["ction"], bed) > 1000 and count(shots["ction"], sofa) < line
    assert count(shots["truth"], sofa) > 1000 and count(shots["truth"], bed) < line


# Clicks as a user does, and reports after each step how many pixels of the view have which colour.
CLICKS = """
<script>
const report = [], wait = () => new Promise(resolve => setTimeout(resolve, 600));
async function step(name, act) {
  await act();
  await wait();
  const canvas = document.getElementById("view"), counts = {};
  const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < bytes.length; i += 4) {
    const color = bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];
    counts[color] = (counts[color] || 0) + 1;
  }
  const frequent = Object.entries(counts).filter(([, n]) => n > 300);
  report.push({name, hash: location.hash, counts: Object.fromEntries(frequent)});
}
const click = selector => () => document.querySelector(selector).click();
const pointer = (type, x, y) => document.getElementById("view").dispatchEvent(
  new PointerEvent(type, {clientX: x, clientY: y, pointerId: 1, bubbles: true}));
const select = value => () => {
  const box = document.getElementById("scene");
  box.value = value;
  box.dispatchEvent(new Event("change"));
};
HTMLElement.prototype.setPointerCapture = () => {};  // made-up pointers cannot be captured
(async () => {
  await step("start", wait);
  await step("truth", click("[value=truth]"));
  await step("errors", click("[value=errors]"));
  await step("visible", click("[value=visible]"));
  await step("prediction", click("[value=prediction]"));
  await step("all", click("#all"));
  await step("evaluated", click("#all"));
  await step("no bed", click("[data-class=bed]"));
  await step("bed", click("[data-class=bed]"));
  await step("turned", () => {
    pointer("pointerdown", 300, 300);
    pointer("pointermove", 420, 300);
    pointer("pointerup", 420, 300);
  });
  await step("reset", () => document.getElementById("view").dispatchEvent(new Event("dblclick")));
  await step("zoomed", () => document.getElementById("view").dispatchEvent(
    new WheelEvent("wheel", {deltaY: -400, cancelable: true})));
  await step("second", select(1));
  await step("frame", select(2));
  const hidden = document.querySelector("[value=truth]").parentNode.hidden;
  const result = document.createElement("pre");
  result.id = "report";
  result.textContent = JSON.stringify({report, hidden, evil: !!document.getElementById("evil")});
  document.body.append(result);
})();
</script>
"""


@needs_browser
def test_browser_switches(page, tmp_path):
    clicked = tmp_path / "clicked.html"
    clicked.write_text(page.read_text() + CLICKS)
    dom = browse(tmp_path, clicked.as_uri(), "--dump-dom", "--window-size=640,700")
    result = json.loads(html.unescape(re.search(r'<pre id="report">(.*?)</pre>', dom, re.S)[1]))
    steps = {step["name"]: step["counts"] for step in result["report"]}
    hashes = {step["name"]: step["hash"] for step in result["report"]}

    def area(step, color):
        red, green, blue = color
        return steps[step].get(str(red << 16 | green << 8 | blue), 0)

    bed, sofa, chair = CLASS_COLORS[BED], CLASS_COLORS[SOFA], CLASS_COLORS[CHAIR]
    pale_chair = [int(150 + 0.4 * value) for value in chair]
    assert area("start", bed) > 1000 and not area("start", sofa) and not area("start", chair)
    assert area("truth", sofa) > 1000 and not area("truth", bed)
    assert area("errors", ERROR_COLORS[4]) > 1000 and not area("errors", bed)
    assert area("visible", GREEN) > 1000
    assert steps["prediction"] == steps["start"] == steps["evaluated"] == steps["bed"]
    assert area("all", pale_chair) > 500 and area("all", bed) > 1000
    assert not area("start", pale_chair)
    assert not area("no bed", bed) and area("no bed", CLASS_COLORS[FLOOR]) > 1000
    assert steps["turned"] != steps["bed"] == steps["reset"]
    assert area("zoomed", bed) > 1.2 * area("reset", bed)
    assert area("second", CLASS_COLORS[TABLE]) > 1000 and not area("second", bed)
    assert area("frame", bed) > 1000 and result["hidden"]
    assert hashes["truth"] == "#scene=room&layer=truth" and hashes["all"].endswith("&all=1")
    assert hashes["frame"].startswith("#scene=frame&") and not result["evil"]
