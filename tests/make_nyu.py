"""A tiny made-up NYU folder, for tests that need files rather than real rooms."""

import cv2
import numpy as np

from constants import CLASS_COLORS, GRID, IGNORE_INDEX, NO_PIXEL


def make_nyu_root(folder, train=2, test=2, cad=True):
    """Write <folder>/NYU, and TSDF-CAD to <folder>/NYUCAD if `cad`; return <folder>/NYU.

    Layout 1, arrays flat and typed like the published ones. Test scenes are 0001, 0002, ..., the
    training scenes follow. Every class occurs in every scene.
    """
    root = folder / "NYU"
    scenes = [("test", number) for number in range(1, test + 1)]
    scenes += [("train", number) for number in range(test + 1, test + train + 1)]
    for split in ("train", "test"):
        (root / split / "RGB").mkdir(parents=True)
    for name in ("Label", "Mapping", "TSDF"):
        (root / name).mkdir()
    if cad:
        (folder / "NYUCAD" / "TSDF").mkdir(parents=True)

    for split, number in scenes:
        scene = make_scene(number)
        cv2.imwrite(str(root / split / "RGB" / f"NYU{number:04d}_rgb.png"), scene["image"])
        name = f"{number:04d}.npz"
        np.savez(root / "Label" / name, scene["label"])
        np.savez(root / "Mapping" / name, scene["mapping"])
        np.savez(root / "TSDF" / name, scene["tsdf"], scene["label_weight"])
        if cad:
            np.savez(folder / "NYUCAD" / "TSDF" / name, scene["tsdf_cad"])
    return root


def make_scene(seed):
    """One room: image (480, 640, 3) uint8 BGR; label int32, mapping int64, tsdf and tsdf_cad
    float32, label_weight float64, each (129600,).

    An orthographic camera looks along the last axis. Each column (x, y) has a pixel of its own,
    which maps to the first occupied voxel of the column.
    """
    rng = np.random.default_rng(seed)
    label = np.zeros(GRID, np.int32)
    label[:, :2] = 2  # floor
    label[:, 34:] = 1  # ceiling
    label[:, 2:34, 54:56] = 3  # back wall
    label[10:30, 14:26, 54] = 4  # window
    for position, category in enumerate(rng.permutation(np.arange(5, 12))):
        x, z = 2 + 8 * position, rng.integers(20, 45)
        label[x : x + 6, 2 : rng.integers(8, 20), z : z + 8] = category
    label[..., 56:] = IGNORE_INDEX

    occupied = (label > 0) & (label != IGNORE_INDEX)
    surface = occupied.argmax(axis=2)  # (60, 36): every column ends at the wall
    x, y = np.indices(surface.shape)
    rows, columns = 470 - 13 * y, 20 + 10 * x
    mapping = np.full(GRID, NO_PIXEL)
    mapping[x, y, surface] = rows * 640 + columns

    distance = surface[..., None] - np.arange(GRID[2])  # voxels in front of the surface
    tsdf_cad = np.clip(distance / 3, -1, 1).astype(np.float32)
    noise = rng.uniform(-0.3, 0.3, (*surface.shape, 1))
    tsdf = np.clip(distance / 3 + noise, -1, 1).astype(np.float32)

    colours = np.uint8(CLASS_COLORS)[label[x, y, surface]]  # (60, 36, 3), RGB
    image = np.kron(colours.transpose(1, 0, 2)[::-1, :, ::-1], np.ones((13, 10, 1), np.uint8))
    image = cv2.copyMakeBorder(image, 6, 6, 20, 20, cv2.BORDER_REPLICATE)
    return {
        "image": image,
        "label": label.reshape(-1),
        "mapping": mapping.reshape(-1),
        "tsdf": tsdf.reshape(-1),
        "tsdf_cad": tsdf_cad.reshape(-1),
        "label_weight": (occupied | (tsdf < -0.5)).astype(np.float64).reshape(-1),
    }
