"""The augmentation equals the original's, given the same draws."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from inputs_rule import make_sample

from benchmarks.reference_data import generated_image, plain_augmentation
from datasets.transforms import PHOTOMETRIC, Draws, apply, draw, normalize

STD = np.float32([58.395, 57.12, 57.375])[:, None, None]
MEAN = np.float32([123.675, 116.28, 103.53])[:, None, None]


@pytest.fixture(scope="module")
def sample():
    """The original's sample, its image in RGB as our reader gives it."""
    sample = make_sample(0)
    return {**sample, "img_u8": np.ascontiguousarray(sample["img_u8"][..., ::-1])}


@pytest.fixture(scope="module")
def pieces(golden):
    return golden("golden_pieces.json")


@pytest.fixture(scope="module")
def outputs(golden):
    return golden("golden_transforms.npz")


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def assert_within_one_grey_level(image, expected):
    """Other versions of OpenCV round differently here and there."""
    assert (np.abs(image - expected) * STD <= 1.001).mean() >= 0.999


def recorded_draws(run):
    """The original's random numbers of one run as Draws."""
    draws = {step["t"]: step["draws"] for step in run["steps"]}
    resize = draws["Resize"]
    numbers = iter([value for _, _, value in draws["PhotoMetricDistortion"]])

    def optional():
        return next(numbers) if next(numbers) == 1 else None

    brightness = optional()
    contrast_first = next(numbers) == 1
    contrast = optional() if contrast_first else None
    saturation, hue = optional(), optional()
    if not contrast_first:
        contrast = optional()
    return Draws(
        resize_ratio=resize[1][2] * 0.4 + 0.8 if len(resize) == 2 else None,
        crop=tuple(int(value) for _, _, value in draws["RandomCrop"]),
        flip=draws["RandomFlip"][0][2] < 0.5,
        brightness=brightness,
        contrast=contrast,
        contrast_first=contrast_first,
        saturation=saturation,
        hue=None if hue is None else int(hue),
    )


@pytest.mark.parametrize("seed", range(12))
def test_runs_of_the_original(seed, sample, pieces, outputs):
    run = pieces["train_transform_runs"][str(seed)]
    mapping2d = sample["mapping2d"].astype(np.int32)
    image, mapping2d = apply(sample["img_u8"], mapping2d, recorded_draws(run), "original")

    assert image.dtype == np.float32
    assert mapping2d.dtype == np.int32
    assert digest(mapping2d.astype(np.int64)) == run["mapping2d_sha"]
    assert image.mean() == pytest.approx(run["steps"][-1]["img_mean"], abs=1e-4)
    if seed < 6:
        assert_within_one_grey_level(image[:, ::24, ::32], outputs[f"train{seed}/img_sub"])
        assert np.array_equal(mapping2d[::8, ::8], outputs[f"train{seed}/mapping2d_sub"])


@pytest.mark.parametrize("kind, photometric", [("u8", "standard"), ("f32", "original")])
@pytest.mark.parametrize(
    "step", ["brightness+20", "contrast1.3", "saturation1.4", "saturation0.6", "hue+10"]
)
def test_colour_steps(step, kind, photometric, sample, outputs):
    name, amount = re.fullmatch(r"([a-z]+)(.+)", step).groups()
    draws = Draws(**{name: int(amount) if name == "hue" else float(amount)})
    image, _ = apply(sample["img_u8"], sample["mapping2d"].astype(np.int32), draws, photometric)
    bgr = outputs[f"photo_{step}_{kind}"]
    expected = (bgr.transpose(2, 0, 1)[::-1] - MEAN) / STD
    assert_within_one_grey_level(image[:, ::32, ::40], expected)


@pytest.mark.parametrize("ratio", [0.8, 0.93, 1.1, 1.2])
@pytest.mark.parametrize("photometric", ["original", "standard"])
def test_resize(ratio, photometric, sample, pieces, outputs):
    piece = pieces["transform_pieces"][f"resize_{ratio}"]
    mapping2d = sample["mapping2d"].astype(np.int32)
    image, mapping2d = apply(sample["img_u8"], mapping2d, Draws(resize_ratio=ratio), photometric)
    bgr = outputs[f"resize_{ratio}/img_sub"]
    expected = (bgr.transpose(2, 0, 1)[::-1] - MEAN) / STD

    height, width = piece["out_img_hw"]
    if ratio < 1:
        assert digest(mapping2d[:height, :width].astype(np.int64)) == piece["map_sha_int64"]
        assert not image[:, height:].any() and not image[:, :, width:].any()
        assert (mapping2d[height:] == -1).all() and (mapping2d[:, width:] == -1).all()
    got = image[:, : min(height, 480) : 24, : min(width, 640) : 32]
    assert_within_one_grey_level(got, expected[:, : got.shape[1], : got.shape[2]])


def test_the_two_flavours_differ_where_the_original_is_defective(sample):
    mapping2d = sample["mapping2d"].astype(np.int32)
    draws = Draws(saturation=0.6)
    grey, standard = (
        apply(sample["img_u8"], mapping2d, draws, flavour)[0] * STD + MEAN
        for flavour in ("original", "standard")
    )
    assert np.ptp(grey, axis=0).max() < 1e-3  # float saturation below 1 is cut off to 0
    assert np.ptp(standard, axis=0).max() > 20


def test_normalize_is_bit_equal(sample):
    assert np.array_equal(normalize(sample["img_u8"]), sample["img"])
    assert np.array_equal(normalize(sample["img_u8"].astype(np.float32)), sample["img"])


def test_nothing_drawn_changes_nothing(sample):
    mapping2d = sample["mapping2d"].astype(np.int32)
    for photometric in ("original", "standard"):
        image, same = apply(sample["img_u8"], mapping2d, Draws(), photometric)
        assert np.array_equal(image, sample["img"])
        assert np.array_equal(same, mapping2d)


def test_distribution_of_the_draws():
    rng = np.random.default_rng(0)
    draws = [draw(rng) for _ in range(4000)]
    for name, low, high in [
        ("resize_ratio", 0.8, 1.2),
        ("brightness", -32, 32),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -18, 17),
    ]:
        taken = [value for d in draws if (value := getattr(d, name)) is not None]
        assert len(taken) / len(draws) == pytest.approx(0.5, abs=0.03)
        assert low <= min(taken) and max(taken) <= high
        spread = high - low
        assert min(taken) < low + 0.02 * spread and max(taken) > high - 0.02 * spread
        assert np.mean(taken) == pytest.approx((low + high) / 2, abs=0.03 * spread)
    for name in ("flip", "contrast_first"):
        assert np.mean([getattr(d, name) for d in draws]) == pytest.approx(0.5, abs=0.03)

    for d in draws:
        enlarged = d.resize_ratio is not None and d.resize_ratio > 1
        margin = (d.resize_ratio - 1) if enlarged else 0
        assert 0 <= d.crop[0] <= 480 * margin + 1 and 0 <= d.crop[1] <= 640 * margin + 1
    assert max(d.crop[0] for d in draws) > 80 and max(d.crop[1] for d in draws) > 110


@pytest.mark.parametrize("photometric", PHOTOMETRIC)
def test_equals_the_plain_formulation_bit_by_bit(photometric):
    image, mapping2d = generated_image()
    rng = np.random.default_rng(7)
    for _ in range(60):
        draws = draw(rng)
        got = apply(image.copy(), mapping2d.copy(), draws, photometric)
        expected = plain_augmentation(image, mapping2d.astype(np.int64), draws, photometric)
        assert np.array_equal(got[0], expected[0]), draws
        assert np.array_equal(got[1], expected[1]), draws


def test_the_input_and_earlier_results_stay_as_they_were():
    image, mapping2d = generated_image()
    rng = np.random.default_rng(8)
    before = image.copy(), mapping2d.copy()
    results = [apply(image, mapping2d, draw(rng), "original") for _ in range(8)]
    rng = np.random.default_rng(8)
    assert np.array_equal(image, before[0]) and np.array_equal(mapping2d, before[1])
    for result in results:
        again = apply(image, mapping2d, draw(rng), "original")
        assert all(map(np.array_equal, result, again))


def test_threads_do_not_share_memory():
    image, mapping2d = generated_image()

    def augmented(seed):
        return apply(image, mapping2d, draw(np.random.default_rng(seed)), "original")

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(augmented, range(24)))
    for seed, result in enumerate(together):
        assert all(map(np.array_equal, result, augmented(seed)))


@pytest.mark.parametrize("ratio", np.linspace(0.8, 1.2, 41))
def test_mapping_is_resized_as_opencv_does(ratio):
    mapping2d = np.arange(480 * 640, dtype=np.int32).reshape(480, 640)
    size = int(640 * ratio), int(480 * ratio)
    factor = min(size[0] / 640, size[1] / 480)
    size = int(640 * factor + 0.5), int(480 * factor + 0.5)
    expected = cv2.resize(mapping2d, size, interpolation=cv2.INTER_NEAREST)[:480, :640]
    _, got = apply(
        np.zeros((480, 640, 3), np.uint8), mapping2d, Draws(resize_ratio=ratio), "original"
    )
    assert np.array_equal(got[: expected.shape[0], : expected.shape[1]], expected)
