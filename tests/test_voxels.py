import struct
from collections import Counter

import cv2
import numpy as np
import pytest
from raw_scene import (
    NYU,
    REAL_BIN,
    REAL_DEPTH,
    ROOM_CLASSES,
    camera_pose,
    fine,
    needs_real_data,
    room,
)

from datasets.geometry import NYU_INTRINSICS, grid_origin
from datasets.voxels import (
    decode_depth,
    downsample_labels,
    encode_depth,
    label_weight,
    mapping_from_depth,
    read_bin,
    read_depth,
    write_bin,
)
from errors import InputError

VOXELS = 240 * 144 * 240
POSE, ORIGIN = camera_pose(), grid_origin(camera_pose())


def bin_bytes(runs, pose=POSE, origin=ORIGIN):
    flat = [n for run in runs for n in run]
    return struct.pack(f"<19f{len(flat)}I", *origin, *pose.reshape(-1), *flat)


@needs_real_data
def test_real_scene_gives_the_published_labels_and_mapping():
    scene = read_bin(REAL_BIN)
    label = np.load(NYU / "Label" / "0003.npz")["arr_0"].reshape(60, 36, 60)
    mapping = np.load(NYU / "Mapping" / "0003.npz")["arr_0"].reshape(60, 36, 60)
    np.testing.assert_array_equal(downsample_labels(scene.labels), label)
    depth = read_depth(REAL_DEPTH)
    made = mapping_from_depth(depth, NYU_INTRINSICS, scene.pose, scene.origin)
    assert made.dtype == np.int64
    np.testing.assert_array_equal(made, mapping)


@needs_real_data
def test_published_weights_follow_the_rule():
    for path in sorted((NYU / "TSDF").glob("*.npz"))[::60]:
        with np.load(path) as file:
            tsdf, weight = file["arr_0"], file["arr_1"]
        label = np.load(NYU / "Label" / path.name)["arr_0"]
        np.testing.assert_array_equal(label_weight(label, tsdf), weight == 1)


# ---- .bin


def test_bin_is_read_as_its_layout_says(tmp_path):
    file = tmp_path / "scene.bin"
    file.write_bytes(bin_bytes([(7, 241), (255, VOXELS - 242), (36, 1)]))
    scene = read_bin(file)
    assert scene.labels.shape == (240, 144, 240)
    assert scene.labels.dtype == np.uint8
    assert (scene.labels[0, 0] == 7).all()  # the last axis runs fastest
    assert scene.labels[0, 1, 0] == 7
    assert scene.labels[0, 1, 1] == 255
    assert scene.labels[-1, -1, -1] == 36
    np.testing.assert_array_equal(scene.pose, POSE)
    np.testing.assert_array_equal(scene.origin, ORIGIN)


def test_what_is_written_is_read_back(tmp_path):
    file = tmp_path / "scene.bin"
    write_bin(file, fine(room()), POSE, ORIGIN)
    scene = read_bin(file)
    np.testing.assert_array_equal(scene.labels, fine(room()))
    np.testing.assert_array_equal(scene.pose, POSE)
    np.testing.assert_array_equal(scene.origin, ORIGIN)


def test_constant_volume_of_the_original_writer_is_filled(tmp_path):
    file = tmp_path / "scene.bin"
    file.write_bytes(bin_bytes([(255, VOXELS - 1)]))
    assert (read_bin(file).labels == 255).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "bytes"),
        (b"text, not a scene", "bytes"),
        (bin_bytes([(0, VOXELS)])[:-3], "bytes|truncated"),
        (bin_bytes([(0, 5), (0, VOXELS - 5)])[:-3], "truncated"),
        (bin_bytes([(0, VOXELS - 2)]), "add up to 8294398"),
        (bin_bytes([(0, VOXELS), (0, 1)]), "add up to 8294401"),
        (bin_bytes([(0, 2**32 - 1)] * 9), "add up to"),
        (bin_bytes([(37, VOXELS)]), "found 37"),
        (bin_bytes([(256, VOXELS)]), "found 256"),
        (bin_bytes([(0, VOXELS)], pose=2 * POSE), "rigid"),
        (bin_bytes([(0, VOXELS)], pose=np.full((4, 4), np.nan)), "finite"),
        (bin_bytes([(0, VOXELS)], origin=[np.inf, 0, 0]), "origin"),
    ],
)
def test_damaged_bin_is_refused(tmp_path, data, reason):
    file = tmp_path / "scene.bin"
    file.write_bytes(data)
    with pytest.raises(InputError, match=f"scene.bin.*({reason})") as error:
        read_bin(file)
    assert "\n" not in str(error.value)


def test_missing_bin_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere.bin"):
        read_bin(tmp_path / "nowhere.bin")


# ---- depth


def test_depth_coding_by_hand():
    # 9000 << 3 is 72000 = 65536 + 6464, and the bit that left comes back on the right.
    raw = np.array([[0, 16000, 6465]], np.uint16)
    np.testing.assert_allclose(decode_depth(raw), [[0, 2, 9]])
    np.testing.assert_array_equal(encode_depth([[0, 2, 9]]), raw)
    for wrong in (70.0, -0.1, np.nan, 1500):
        with pytest.raises(InputError, match="metres"):
            encode_depth([[2.0, wrong]])


def write_png(path, raw):
    assert cv2.imwrite(str(path), raw)
    return path


def test_depth_file(tmp_path):
    depth = np.random.default_rng(0).integers(500, 9000, (480, 640)) / 1000
    path = write_png(tmp_path / "depth.png", encode_depth(depth))
    np.testing.assert_allclose(read_depth(path), depth, rtol=1e-6)


@pytest.mark.parametrize(
    "millimetres",
    [
        np.random.default_rng(0).integers(600, 5000, (480, 640)),
        np.full((480, 640), 2000),
        np.linspace(1000, 4000, 480 * 640).reshape(480, 640),
    ],
    ids=["any", "low bits zero", "slope"],
)
def test_plain_millimetres_are_noticed(tmp_path, millimetres):
    path = write_png(tmp_path / "depth.png", millimetres.astype(np.uint16))
    with pytest.raises(InputError, match="depth.png.*millimetres"):
        read_depth(path)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (np.full((480, 640), 200, np.uint8), "16-bit"),
        (np.full((480, 640, 3), 16000, np.uint16), "16-bit grey"),
        (np.full((240, 320), 16000, np.uint16), "320x240"),
    ],
)
def test_other_images_are_refused(tmp_path, raw, reason):
    with pytest.raises(InputError, match=f"depth.png.*{reason}"):
        read_depth(write_png(tmp_path / "depth.png", raw))


def test_files_that_are_no_images_are_refused(tmp_path):
    path = write_png(tmp_path / "depth.png", encode_depth(np.full((480, 640), 2.0)))
    data = path.read_bytes()
    header = data[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + data[24:]
    for damaged in (b"", b"text", data[: len(data) // 2], data[:-5], header):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="depth.png"):
            read_depth(path)
    with pytest.raises(InputError, match="nowhere.png"):
        read_depth(tmp_path / "nowhere.png")


# ---- labels

# Each raw class by the name that SSCNet gives it, from the original's list of classes.
TWELVE = {
    "ceiling": [1], "floor": [2], "wall": [3], "window": [4], "chair": [6], "bed": [7],
    "sofa": [8], "table": [9, 10, 17, 30], "tvs": [16, 33], "furn": [11, 12, 13, 27, 28, 31],
}  # fmt: skip


def vote(block):
    """The label of one block of raw values, by the letter of the definition."""
    raw_to_class = {raw: i for i, raws in enumerate(TWELVE.values(), 1) for raw in raws}
    classes = [v if v in (0, 255) else raw_to_class.get(v, 11) for v in block.reshape(-1).tolist()]
    counts = Counter(classes)
    if counts[0] + counts[255] > 0.95 * 64:
        candidates = [0, *range(1, 12), 255]
    else:
        candidates = list(range(1, 12))
    return max(candidates, key=lambda c: counts[c])  # the first of equals


def test_votes_against_the_definition():
    rng = np.random.default_rng(0)
    labels = np.zeros((240, 144, 240), np.uint8)
    blocks = {}
    for index in range(600):
        raw = [0, 255, *rng.integers(1, 37, 3)]
        objects = (0, 1, 2, 3, 4, 5, 20, 64)[index % 8]  # around the limit of three
        block = np.concatenate(
            [rng.choice(raw[2:], objects), rng.choice(raw[:2], 64 - objects)]
        ).reshape(4, 4, 4)
        at = np.unravel_index(index * 211 % 129600, (60, 36, 60))
        labels[tuple(slice(4 * i, 4 * i + 4) for i in at)] = block
        blocks[at] = block
    voted = downsample_labels(labels)
    assert voted.shape == (60, 36, 60)
    for at, block in blocks.items():
        assert voted[at] == vote(block)


@pytest.mark.parametrize(
    ("counts", "label"),
    [
        ({0: 32, 255: 32}, 0),  # empty beats 255
        ({0: 31, 255: 33}, 255),
        ({0: 61, 3: 3}, 0),
        ({0: 60, 3: 4}, 3),
        ({255: 60, 3: 2, 6: 2}, 3),  # the smaller class
        ({255: 60, 36: 1, 33: 2, 5: 1}, 9),  # 36 and 5 are both objs: 2 against 2
    ],
)
def test_ties(counts, label):
    labels = np.zeros((240, 144, 240), np.uint8)
    block = np.concatenate([np.full(n, value) for value, n in counts.items()])
    labels[:4, :4, :4] = block.reshape(4, 4, 4)
    assert downsample_labels(labels)[0, 0, 0] == label


def test_a_room_votes_for_itself():
    classes = np.vectorize(ROOM_CLASSES.get)(room())
    np.testing.assert_array_equal(downsample_labels(fine(room())), classes)


def test_unknown_labels_are_refused():
    with pytest.raises(InputError, match="36"):
        downsample_labels(np.full((240, 144, 240), 40, np.uint8))
    for value in (-1, 300):
        with pytest.raises(InputError, match="36"):
            downsample_labels(np.full((240, 144, 240), value, np.int16))
    with pytest.raises(InputError, match="240"):
        downsample_labels(np.zeros((60, 36, 60), np.uint8))


# ---- mapping


def test_mapping_takes_the_last_pixel_of_each_voxel():
    depth = np.random.default_rng(0).uniform(0.5, 6, (480, 640)).astype(np.float32)
    depth[::7] = 2.5
    mapping = mapping_from_depth(depth, NYU_INTRINSICS, POSE, ORIGIN)
    expected = {}
    for pixel in range(480 * 640):
        v, u = divmod(pixel, 640)
        d = float(depth[v, u])
        x = (u - 325.58) * d / 518.8579
        z = 1.2 - (v - 253.74) * d / 519.4696
        cell = tuple(int(c // 0.08) for c in (x + 2.4, z + 0.05, d - 1.0))
        if all(0 <= c < n for c, n in zip(cell, (60, 36, 60), strict=True)):
            expected[cell] = pixel
    voxels = np.argwhere(mapping != 307200)
    differing = {tuple(v) for v in voxels.tolist()} ^ set(expected)
    differing |= {cell for cell, pixel in expected.items() if mapping[cell] != pixel}
    assert len(expected) > 10000
    assert len(differing) <= 5  # double precision decides a few points on a boundary otherwise


def test_mapping_needs_the_size_of_the_images():
    with pytest.raises(InputError, match="480"):
        mapping_from_depth(np.ones((240, 320)), NYU_INTRINSICS, POSE, ORIGIN)


def test_label_weight_by_hand():
    label = np.array([0, 0, 0, 5, 255, 255])
    tsdf = np.array([-0.6, -0.5, 1, 1, -1, 0], np.float32)
    assert label_weight(label, tsdf).tolist() == [True, False, False, True, True, False]
