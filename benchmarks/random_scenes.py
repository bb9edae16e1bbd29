"""Scenes of random numbers, of the size of NYUv2's and as dense."""

import numpy as np
import torch
from torch import Tensor

from constants import GRID, IGNORE_INDEX, IMAGE_SIZE, NO_PIXEL, NO_VOXEL, NUM_CLASSES, NUM_PIXELS


def random_batch(size: int) -> dict[str, Tensor]:
    """Scenes as dense as NYUv2's: some 8,000 mapped pixels, 9,000 evaluated voxels."""
    rng = np.random.default_rng(0)
    shape = size, *GRID
    tsdf = rng.uniform(-1, 1, (size, 1, *GRID)).astype(np.float32)
    label3d = rng.integers(0, NUM_CLASSES, shape)
    label3d[rng.random(shape) < 0.4] = IGNORE_INDEX
    mapping2d = np.full((size, NUM_PIXELS), NO_VOXEL)
    mapping = np.full((size, np.prod(GRID)), NO_PIXEL)
    for pixel_row, voxel_row in zip(mapping2d, mapping, strict=True):
        voxels = surface_voxels(rng)
        pixels = rng.choice(NUM_PIXELS, len(voxels), replace=False)
        pixel_row[pixels], voxel_row[voxels] = voxels, pixels
    arrays = {
        "image": rng.standard_normal((size, 3, *IMAGE_SIZE), dtype=np.float32),
        "tsdf": tsdf,
        "tsdf_cad": np.sign(tsdf) * np.sqrt(np.abs(tsdf)),
        "label3d": label3d,
        "label_weight": rng.random(shape) < 0.12,
        "mapping2d": mapping2d.reshape(size, *IMAGE_SIZE),
        "mapping": mapping.reshape(shape),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def surface_voxels(rng: np.random.Generator) -> np.ndarray:
    """Flat indices of a floor, a back wall and steps before it: connected, as surfaces are."""
    volume = np.zeros(GRID, dtype=bool)
    volume[:, 1, :] = volume[:, :, 50] = True
    for _ in range(12):
        x, y, z = rng.integers(0, (50, 20, 45))
        volume[x : x + 10, y : y + 12, z] = volume[x : x + 10, y, z : z + 10] = True
    return np.flatnonzero(volume)
