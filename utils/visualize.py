"""Voxels to files that other programs show."""

import io
from pathlib import Path

import numpy as np

from constants import CLASS_COLORS, IGNORE_INDEX
from utils.files import write_text

_PLY_HEADER = """ply
format ascii 1.0
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
"""


def write_ply(path: str | Path, labels: np.ndarray) -> bool:
    """Write the occupied voxels as coloured points, byte for byte as the original does.

    Args:
        labels: (X, Y, Z) int, 0..11 and 255; 0 and 255 are not drawn.

    Returns:
        Whether there was a voxel to draw; if not, no file is written.

    Raises:
        InputError: the file cannot be written.
    """
    indices = np.argwhere((labels > 0) & (labels != IGNORE_INDEX))
    if not len(indices):
        return False
    colors = np.array(CLASS_COLORS)[labels[tuple(indices.T)]]
    rows = io.StringIO()
    np.savetxt(rows, np.hstack([indices, colors]), fmt="%d")
    write_text(path, _PLY_HEADER.format(count=len(indices)) + rows.getvalue())
    return True
