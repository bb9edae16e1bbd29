"""Time of the augmentation, and of whole samples, against the plain formulation, on one core.

    python benchmarks/loading.py [--root data/NYU] [--draws 64] [--rounds 5]

Both get the same random draws, in turns, in this process. A row is the median over the draws of
the time of one sample (each draw: the fastest of the rounds); beside it is the largest difference
of the results, of normalised pixel values and of mapping2d. Without --root the image is generated,
and there is no row of whole samples. Exits with 1 if a result differs at all.
"""

import argparse
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # not where a test imports the plain formulation
    for _library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{_library}_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# ruff: noqa: E402  (threads are limited before NumPy is imported)
import cv2
import numpy as np

from constants import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, NO_PIXEL, NO_VOXEL, NUM_PIXELS, NUM_VOXELS
from datasets import transforms
from datasets.nyu import NYUDataset
from errors import InputError, exit_on_input_error

SEED = 0


def plain_augmentation(image, mapping2d, draws, photometric):
    """What transforms.apply computes, step by step on whole arrays, as the specification says it.

    image: (480, 640, 3) uint8 RGB; mapping2d: (480, 640) int64. Returns (3, 480, 640) float32 RGB
    and (480, 640) int64.
    """
    if photometric == "original":
        image = image.astype(np.float32)
    mapping2d = mapping2d.astype(np.int32)  # OpenCV has no int64
    if draws.resize_ratio is not None:
        scale = [int(n * draws.resize_ratio) for n in (640, 480)]
        factor = min(max(scale) / 640, min(scale) / 480)
        size = int(640 * factor + 0.5), int(480 * factor + 0.5)
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        mapping2d = cv2.resize(mapping2d, size, interpolation=cv2.INTER_NEAREST)
    top, left = draws.crop
    image = image[top : top + 480, left : left + 640]
    mapping2d = mapping2d[top : top + 480, left : left + 640]
    if draws.flip:
        image, mapping2d = cv2.flip(image, 1), cv2.flip(mapping2d, 1)

    if draws.brightness is not None:
        image = _convert(image, shift=draws.brightness)
    if draws.contrast is not None and draws.contrast_first:
        image = _convert(image, factor=draws.contrast)
    if draws.saturation is not None:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image[:, :, 1] = _convert(image[:, :, 1], factor=draws.saturation)
        image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    if draws.hue is not None:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image[:, :, 0] = (image[:, :, 0].astype(int) + draws.hue) % 180
        image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    if draws.contrast is not None and not draws.contrast_first:
        image = _convert(image, factor=draws.contrast)

    image = _normalize(image)
    bottom, right = 480 - image.shape[0], 640 - image.shape[1]
    image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
    mapping2d = cv2.copyMakeBorder(
        mapping2d, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=NO_VOXEL
    )
    return np.ascontiguousarray(image.transpose(2, 0, 1)), mapping2d.astype(np.int64)


def _convert(values, factor=1, shift=0):
    return np.clip(values.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)


def _normalize(image):
    """(H, W, 3): subtracted in float32, multiplied in float64, rounded once."""
    centred = image.astype(np.float32) - np.float32(IMAGE_MEAN)
    return (centred * (1 / np.float64(np.float32(IMAGE_STD)))).astype(np.float32)


def fast_augmentation(image, mapping2d, draws, photometric):
    """transforms.apply between the types that a sample's arrays have, as in NYUDataset."""
    image, mapping2d = transforms.apply(image, mapping2d, draws, photometric)
    return image, mapping2d.astype(np.int64)


def plain_sample(scene, draws, photometric):
    """A training sample with NumPy's and OpenCV's own readers, unchecked, for trusted files."""
    image = cv2.cvtColor(cv2.imread(str(scene.image)), cv2.COLOR_BGR2RGB)
    mapping = np.load(scene.mapping)["arr_0"].astype(np.int64)
    voxels = np.flatnonzero(mapping != NO_PIXEL)
    mapping2d = np.full(NUM_PIXELS, NO_VOXEL, np.int64)
    mapping2d[mapping[voxels]] = voxels
    image, mapping2d = plain_augmentation(image, mapping2d.reshape(IMAGE_SIZE), draws, photometric)
    arrays = np.load(scene.tsdf)
    arrays["arr_0"].astype(np.float32), arrays["arr_1"] != 0
    np.load(scene.label)["arr_0"].astype(np.int64)
    return image, mapping2d


@exit_on_input_error
def main():
    parser = argparse.ArgumentParser(description="Time of augmentation and loading.")
    parser.add_argument("--root", help="prepared NYU folder, for the rows of whole samples")
    parser.add_argument("--draws", type=int, default=64, help="random augmentations")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each")
    args = parser.parse_args()
    if min(args.draws, args.rounds) < 1:
        raise InputError("--draws and --rounds must be at least 1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    print("| one sample | plain | fast | ratio | largest difference |\n|---|---|---|---|---|")
    image, mapping2d = generated_image()
    different = False
    for photometric in transforms.PHOTOMETRIC:
        different |= report(
            f"augmentation, {photometric}",
            lambda seed, p=photometric: plain_augmentation(
                image, mapping2d.astype(np.int64), drawn(seed), p
            ),
            lambda seed, p=photometric: fast_augmentation(image, mapping2d, drawn(seed), p),
            args,
        )
    if args.root is not None:
        for photometric in transforms.PHOTOMETRIC:
            dataset = NYUDataset(args.root, augmentation=photometric, seed=SEED)

            def plain(index, p=photometric, scenes=dataset.scenes):
                index %= len(scenes)
                return plain_sample(scenes[index], drawn(index), p)

            def fast(index, dataset=dataset):
                sample = dataset[index % len(dataset)]
                return sample["image"].numpy(), sample["mapping2d"].numpy()

            different |= report(f"reading and augmentation, {photometric}", plain, fast, args)
    sys.exit(int(different))


def drawn(index):
    """What NYUDataset draws for this sample in epoch 0."""
    return transforms.draw(np.random.default_rng((SEED, 0, index)))


def report(name, plain, fast, args):
    """Print the row of two functions of an index; True if their results differ."""
    times = np.empty((2, args.draws, args.rounds))
    largest = 0.0
    for number in range(args.rounds):
        for index in range(args.draws):
            results = []
            for which, function in enumerate((plain, fast)):
                start = time.perf_counter()
                results.append(function(index))
                times[which, index, number] = time.perf_counter() - start
            if number == 0:
                pairs = zip(*results, strict=True)
                differences = [np.abs(a.astype(np.float64) - b).max() for a, b in pairs]
                largest = max(largest, *differences)
    slow, quick = np.median(times.min(axis=2), axis=1) * 1000
    print(
        f"| {name} | {slow:.2f} ms | {quick:.2f} ms | {slow / quick:.1f} | {largest:.1e} |",
        flush=True,
    )
    return largest > 0


def generated_image():
    """An image with smooth and sharp parts, and a map of 3000 pixels to voxels of their own."""
    rng = np.random.default_rng(SEED)
    noise = rng.integers(0, 256, (*IMAGE_SIZE, 3), dtype=np.uint8)
    image = cv2.resize(noise[::16, ::16], IMAGE_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image[:240] = noise[:240]
    mapping2d = np.full(NUM_PIXELS, NO_VOXEL, np.int32)
    pixels = rng.choice(NUM_PIXELS, 3000, replace=False)
    mapping2d[pixels] = rng.choice(NUM_VOXELS, 3000, replace=False)
    return image, mapping2d.reshape(IMAGE_SIZE)


if __name__ == "__main__":
    main()
