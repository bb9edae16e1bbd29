"""Time of one frame's TSDF and Mapping against SciPy's distance transform alone, on one core.

    python benchmarks/preparation.py [NYU0003_0000.png NYU0003_0000.bin]

Both run on the same 240x144x240 grid, in turns, in this process; the medians count. The frame is
generated unless a raw one is given. Exits with 1 if the TSDF differs from the plain formulation
(the whole distance transform, every voxel projected) by more than 1e-5, or if both together take
more than 2.5 times the transform.
"""

import os
import sys
import time
from pathlib import Path

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# ruff: noqa: E402  (threads are limited before NumPy is imported)
import numpy as np
from scipy.ndimage import distance_transform_edt

from constants import FINE_GRID, GRID
from datasets.geometry import NYU_INTRINSICS, Frame, grid_origin
from datasets.raycast import raycast_labels
from datasets.tsdf import tsdf_from_depth
from datasets.voxels import mapping_from_depth, read_bin, read_depth
from errors import InputError, exit_on_input_error

ROUNDS = 7
LIMIT = 2.5


@exit_on_input_error
def main():
    if len(sys.argv) == 1:
        depth, pose, origin = generated_frame()
    elif len(sys.argv) == 3:
        scene = read_bin(sys.argv[2])
        depth, pose, origin = read_depth(sys.argv[1]), scene.pose, scene.origin
    else:
        raise InputError("give a depth .png and its .bin, or nothing")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    free = np.ones(FINE_GRID, dtype=bool)
    _, occupied = Frame(depth, NYU_INTRINSICS, pose, origin).pixel_voxels
    free[tuple(occupied.T)] = False
    times = {"distance_transform_edt": [], "TSDF": [], "Mapping": []}
    for _ in range(ROUNDS):
        distance = timed(times["distance_transform_edt"], distance_transform_edt, free)
        tsdf = timed(times["TSDF"], tsdf_from_depth, depth, NYU_INTRINSICS, pose, origin)
        timed(times["Mapping"], mapping_from_depth, depth, NYU_INTRINSICS, pose, origin)

    medians = {name: float(np.median(values)) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:24}{seconds:8.3f} s")
    ratio = (medians["TSDF"] + medians["Mapping"]) / medians["distance_transform_edt"]
    off = float(np.abs(tsdf - plain_tsdf(depth, pose, origin, distance)).max())
    print(f"TSDF + Mapping: {ratio:.2f} of the distance transform (limit {LIMIT})")
    print(f"largest difference from the plain formulation: {off:.1e}")
    sys.exit(int(ratio > LIMIT or off > 1e-5))


def timed(times, function, *args):
    start = time.perf_counter()
    result = function(*args)
    times.append(time.perf_counter() - start)
    return result


def generated_frame():
    """A room with a table, seen from a camera that looks 15 degrees down."""
    pose = np.eye(4, dtype=np.float32)
    sine, cosine = np.sin(np.radians(15)), np.cos(np.radians(15))
    pose[:3, :3] = [[1, 0, 0], [0, -sine, cosine], [0, -cosine, -sine]]
    pose[2, 3] = 1.3
    labels = np.zeros(GRID, dtype=np.uint8)
    labels[:, 0], labels[:, :32, 50:], labels[20:34, 1:9, 20:32] = 2, 3, 8
    origin = grid_origin(pose)
    return raycast_labels(labels, NYU_INTRINSICS, pose, origin), pose, origin


def plain_tsdf(depth, pose, origin, distance):
    """The definition over the whole grid at once, given the whole distance transform."""
    index = np.indices(FINE_GRID, dtype=np.float32)
    corner = np.stack([index[0], index[2], index[1]], axis=-1) * np.float32(0.02) + origin
    x, y, z = np.moveaxis((corner - pose[:3, 3]) @ pose[:3, :3], -1, 0)
    K = NYU_INTRINSICS
    z = np.where(z > 0, z, np.float32(np.inf))
    u = np.floor(K[0, 0] * x / z + K[0, 2] + 0.5)
    v = np.floor(K[1, 1] * y / z + K[1, 2] + 0.5)
    inside = np.isfinite(z) & (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
    measured = np.zeros(FINE_GRID, dtype=np.float32)
    measured[inside] = depth[v[inside].astype(int), u[inside].astype(int)]
    known = (measured >= 0.5) & (measured <= 8)
    sign = np.where(measured - z > -1e-4, 1, -1) * known
    fine = sign * np.minimum(distance / 12, 1)
    a, b, c = GRID
    return fine.reshape(a, 4, b, 4, c, 4).mean(axis=(1, 3, 5))


if __name__ == "__main__":
    main()
