"""Which files make a frame, in folders and lists as cameras, tools and shells write them."""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest

from datasets.frames.finding import find_frames, split_line
from datasets.frames.stamps import match_times
from errors import InputError


@pytest.fixture
def make(tmp_path):
    """`make("color/0.jpg", ...)`: empty files of these names; returns their folder."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def found(rgb=None, depth=None, listing=None, pose=None):
    def as_list(paths):
        return paths if isinstance(paths, list | None) else [paths]

    return find_frames(as_list(rgb), as_list(depth), listing, pose)


def pairs(result, root):
    return [
        tuple(path.relative_to(root).as_posix() for path in (frame.rgb, frame.depth))
        for frame in result.frames
    ]


def names(result):
    return [frame.name for frame in result.frames]


@pytest.mark.parametrize(
    ("files", "rgb", "depth", "expected"),
    [
        (  # macOS beside one's own
            ["1_rgb.png", "1_depth.png", "._1_rgb.png", "._1_depth.png", ".DS_Store"],
            "", "", [("1_rgb.png", "1_depth.png")],
        ),
        (  # Replica
            ["frame000064.jpg", "depth000064.png", "frame000128.jpg", "depth000128.png"],
            "", "",
            [("frame000064.jpg", "depth000064.png"), ("frame000128.jpg", "depth000128.png")],
        ),
        (  # ScanNet, in the order of numbers
            ["color/10.jpg", "depth/10.png", "color/2.jpg", "depth/2.png"],
            "color", "depth", [("color/2.jpg", "depth/2.png"), ("color/10.jpg", "depth/10.png")],
        ),
        (["color/0.jpg", "depth/0.png"], "", "", [("color/0.jpg", "depth/0.png")]),
        (  # 7-Scenes
            ["frame-000000.color.png", "frame-000000.depth.png", "frame-000000.pose.txt"],
            "", "", [("frame-000000.color.png", "frame-000000.depth.png")],
        ),
        (["rgb00001.png", "depth00001.png"], "", "", [("rgb00001.png", "depth00001.png")]),
        (["rgb/0001.png", "d/1.png"], "rgb", "d", [("rgb/0001.png", "d/1.png")]),
        (["a/img_7.jpg", "b/d7.png"], "a", "b", [("a/img_7.jpg", "b/d7.png")]),
        (  # SUN3D: a number and a time, which differs
            ["image/0000002-000000066.jpg", "depth/0000002-000000033.png",
             "image/0000001-000000000.jpg", "depth/0000001-000000000.png"],
            "image", "depth",
            [("image/0000001-000000000.jpg", "depth/0000001-000000000.png"),
             ("image/0000002-000000066.jpg", "depth/0000002-000000033.png")],
        ),
        (["1.jpg", "1.png"], "", "", [("1.jpg", "1.png")]),
        (  # TUM's folders
            ["rgb/1305031102.175304.png", "depth/1305031102.160407.png"], "rgb", "depth",
            [("rgb/1305031102.175304.png", "depth/1305031102.160407.png")],
        ),
        (  # an iPhone's, with how sure its depth is
            ["frame_00000.jpg", "depth_00000.png", "conf_00000.png"], "", "",
            [("frame_00000.jpg", "depth_00000.png")],
        ),
        (["0_rgb.png", "0_depth.png", "0_depth_vis.png", "0_mask.png"], "", "",
         [("0_rgb.png", "0_depth.png")]),
        (["images/0.png", "depths/0.png"], "", "", [("images/0.png", "depths/0.png")]),
        (["image_depth_1.png", "image_1.png"], "", "", [("image_1.png", "image_depth_1.png")]),
    ],
)  # fmt: skip
def test_pairs_of_folders(make, files, rgb, depth, expected):
    root = make(*files)
    result = found(root / rgb, root / depth)
    assert pairs(result, root) == expected and not result.refused


def test_a_lonely_partner_leaves_the_others(make):
    root = make("1_rgb.png", "1_depth.png", "2_rgb.png", "3_depth.png")
    result = found(root, root)
    assert pairs(result, root) == [("1_rgb.png", "1_depth.png")]
    assert [Path(line.split(":")[0]).name for line in result.refused] == [
        "2_rgb.png", "3_depth.png",
    ]  # fmt: skip


def test_names_that_agree_in_nothing_are_not_paired(make):
    root = make("a/kitchen.png", "b/bath.png")
    with pytest.raises(InputError, match="no complete frame"):
        found(root / "a", root / "b")
    root = make("c/1_a.png", "c/2_a.png", "d/1_b.png", "d/1_c.png")
    with pytest.raises(InputError, match="no complete frame"):
        found(root / "c", root / "d")


def test_a_missing_pose_leaves_the_others(make):
    root = make("color/0.jpg", "depth/0.png", "color/1.jpg", "depth/1.png", "pose/1.txt")
    result = found(root / "color", root / "depth", pose=root / "pose")
    assert [frame.pose for frame in result.frames] == [root / "pose/1.txt"]
    assert len(result.refused) == 1 and "0.jpg" in result.refused[0]
    assert found(root, root, pose=root).frames == result.frames


# Globs


def test_globs_are_paired_by_number(make):
    root = make("a1.png", "a10.png", "a2.png", "b1.png", "b10.png", "b2.png")
    expected = [("a1.png", "b1.png"), ("a2.png", "b2.png"), ("a10.png", "b10.png")]
    rgb, depth = (sorted(root.glob(pattern), key=str) for pattern in ("a*", "b*"))
    assert pairs(found(rgb, depth[::-1]), root) == expected
    assert pairs(found(root / "a*.png", root / "b*.png"), root) == expected  # Windows' shell
    with pytest.raises(InputError, match="names 3 files and --depth 2"):
        found(rgb, depth[:2])
    with pytest.raises(InputError, match="no file of the other kind"):
        found(rgb, [*depth[:2], root / "b7.png"])
    with pytest.raises(InputError, match="no such files"):
        found(root / "x*.png", root / "b*.png")


def test_globs_over_folders(make):
    root = make("s1/color/0.jpg", "s1/depth/0.png", "s2/color/0.jpg", "s2/depth/0.png")
    result = found(sorted(root.glob("*/color/*")), sorted(root.glob("*/depth/*")))
    assert pairs(result, root) == [
        ("s1/color/0.jpg", "s1/depth/0.png"), ("s2/color/0.jpg", "s2/depth/0.png"),
    ]  # fmt: skip
    assert names(result) == ["s1_0", "s2_0"]


# Lists


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('"living room.jpg" "living room depth.png"', ["living room.jpg", "living room depth.png"]),
        ("'a b.png' c.png", ["a b.png", "c.png"]),
        (r"C:\data\new\a.png C:\data\new\b.png", [r"C:\data\new\a.png", r"C:\data\new\b.png"]),
        (r'"C:\my data\a.png" D:\b.png', [r"C:\my data\a.png", r"D:\b.png"]),
        (r"a\ b.png c.png", ["a b.png", "c.png"]),
        ("bob's.png kate's.png", ["bob's.png", "kate's.png"]),
        ('dir/"a b".png\tc.png', ["dir/a b.png", "c.png"]),
        ("  a.png   b.png  ", ["a.png", "b.png"]),
        ("'a' 'b c' 'd'", ["a", "b c", "d"]),
    ],
)
def test_words_of_a_line(line, words):
    assert split_line(line) == words


def test_what_shlex_quotes_is_read():
    words = ["bob's room.png", 'a "b".png', "plain.png", "two  spaces.png", "ümlaut 室.png"]
    assert split_line(" ".join(map(shlex.quote, words))) == words


def test_a_list_with_a_mark_and_quotes(make):
    root = make()
    text = '\ufeff"c 1.jpg" d.png\r\n# no frame\r\n\r\ne.jpg f.png p.txt\r\n'
    (root / "list.txt").write_bytes(text.encode())
    result = found(listing=root / "list.txt")
    assert pairs(result, root) == [("c 1.jpg", "d.png"), ("e.jpg", "f.png")]
    assert [frame.pose for frame in result.frames] == [None, root / "p.txt"]
    (root / "list.txt").write_text('"c 1.jpg d.png\n')
    with pytest.raises(InputError, match="line 1: a quote"):
        found(listing=root / "list.txt")


def test_frames_of_one_stem_have_names_of_their_own(make):
    root = make()
    lines = ["kitchen/0.jpg kitchen/0.png", "bath/0.jpg bath/0.png", "1.jpg 1.png"]
    (root / "list.txt").write_text("\n".join(lines))
    assert names(found(listing=root / "list.txt")) == ["kitchen_0", "bath_0", "1"]
    (root / "list.txt").write_text("a/A.jpg a/0.png\nb/a.jpg b/0.png\n")  # one file on macOS
    assert names(found(listing=root / "list.txt")) == ["a_A", "b_a"]
    (root / "list.txt").write_text("a/x.jpg 0.png\nb/x.jpg 0.png\na_x.jpg 0.png\n")
    with pytest.raises(InputError, match="rename"):
        found(listing=root / "list.txt")


# By time


def test_times_are_matched_as_tums_associate_does():
    """Against all pairs, the closest first, as associate.py of TUM goes through them."""
    rng = np.random.default_rng(0)
    first = 1305031102 + np.arange(40) / 30 + rng.normal(0, 0.005, 40)
    second = 1305031102.01 + np.arange(36) / 27 + rng.normal(0, 0.005, 36)
    rng.shuffle(second)
    left, right, expected = set(range(40)), set(range(36)), []
    gaps = sorted((abs(a - b), i, j) for i, a in enumerate(first) for j, b in enumerate(second))
    for gap, i, j in gaps:
        if gap < 0.02 and i in left and j in right:
            left.remove(i)
            right.remove(j)
            expected.append((i, j))
    assert match_times(list(first), list(second)) == sorted(expected)
    assert 10 < len(expected) < 36


@pytest.fixture
def tum(make):
    root = make("rgb/a.png")
    (root / "rgb.txt").write_text(
        "# color images\n10.00 rgb/a.png\n10.10 rgb/b.png\n12 rgb/c.png\n"
    )
    (root / "depth.txt").write_text("10.115 depth/y.png\n10.015 depth/x.png\n11 depth/z.png\n")
    half = np.sqrt(0.5)
    (root / "truth.txt").write_text(
        f"# time tx ty tz qx qy qz qw\n10.01 1 2 3 {half} 0 0 {half}\n10.11 nan 0 0 0 0 0 0\n"
    )
    return root


@pytest.mark.parametrize("way", ["lists", "root", "list"])
def test_tum_by_time(tum, way):
    by_way = {
        "lists": {"rgb": tum / "rgb.txt", "depth": tum / "depth.txt"},
        "root": {"rgb": tum, "depth": tum},
        "list": {"listing": tum / "rgb.txt"},
    }
    result = found(**by_way[way])
    expected = [("rgb/a.png", "depth/x.png"), ("rgb/b.png", "depth/y.png")]
    assert pairs(result, tum) == expected
    assert len(result.notes) == 1 and "1 of 3 colour images" in result.notes[0]
    os.rename(tum / "truth.txt", tum / "groundtruth.txt")
    result = found(**by_way[way])
    assert names(result) == ["a"] and "rgb/b.png" in result.refused[0]
    assert "groundtruth.txt, taken as" in result.notes[1] and "floor at z = 0" in result.notes[1]
    # A quarter turn about x: the camera's y is the world's z.
    expected = [[1, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(result.frames[0].pose, expected, atol=1e-6)


def test_tums_associations_in_either_order(make):
    root = make()
    rgb, depth = "5.1 rgb/5.1.png", "5.11 depth/5.11.png"
    for line in (f"{rgb} {depth}", f"{depth} {rgb}"):
        (root / "associations.txt").write_text(f"{line}\n")
        result = found(listing=root / "associations.txt")
        assert pairs(result, root) == [("rgb/5.1.png", "depth/5.11.png")]
        assert names(result) == ["5.1"]
    (root / "associations.txt").write_text(f"{rgb} {depth} 5.1 1 2 3 0 0 0 1\n")
    (frame,) = found(listing=root / "associations.txt").frames
    np.testing.assert_array_equal(frame.pose[:, 3], [1, 2, 3, 1])
