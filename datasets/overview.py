"""One picture of prepared scenes: do labels, TSDF and camera belong to the image?"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from constants import CLASS_COLORS, CLASS_NAMES, FINE_FACTOR, GRID, IGNORE_INDEX, VOXEL_SIZE
from datasets import nyu
from datasets.geometry import (
    NYU_INTRINSICS,
    NYUCAD_INTRINSICS,
    WORLD_OF_ARRAY,
    pixels_to_voxels,
)
from datasets.poses import recover_pose
from datasets.tsdf import raycast_labels

_COLORS = np.array(CLASS_COLORS, dtype=np.float64) / 255
_WHITE = np.ones(3)


def save_overview(scenes, path):
    """Draw scenes, a row each, into an image file, making its folder.

    scenes: datasets.nyu.Scene. Columns: the image under its labels (ray-cast from the camera that
    Mapping implies), TSDF and TSDF-CAD cut 1 m above the floor and along the middle, the voxels
    seen from above.
    """
    figure = Figure(figsize=(19, 4.2 * len(scenes)), layout="constrained")
    axes = figure.subplots(len(scenes), 6, squeeze=False, width_ratios=[1.4, 1, 1, 1, 1, 1.4])
    for row, scene in zip(axes, scenes, strict=True):
        label = nyu.read_label(scene.label)
        pose, origin = recover_pose(nyu.read_mapping(scene.mapping))
        image = nyu.read_image(scene.image)[..., ::-1] / 255
        seen = _render(label, NYU_INTRINSICS, pose, origin, background=image)
        row[0].imshow(0.45 * image + 0.55 * seen)
        row[0].set_title(f"{scene.name}: image and labels")
        _draw_cuts(row[1:3], nyu.read_tsdf(scene.tsdf), "TSDF")
        if scene.tsdf_cad is None:
            row[3].set_title("no TSDF-CAD")
        else:
            _draw_cuts(row[3:5], nyu.read_tsdf(scene.tsdf_cad), "TSDF-CAD")
        row[5].imshow(_render(label, *_view_from_above(label, origin), origin))
        row[5].set_title("labels from above")
        for panel in row:
            panel.set_xticks([])
            panel.set_yticks([])
    handles = [
        Line2D([], [], marker="s", linestyle="", color=color, label=name)
        for name, color in zip(CLASS_NAMES[1:], _COLORS[1:], strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _draw_cuts(panels, tsdf, name):
    """tsdf: (60, 36, 60). Seen from above with the camera at the bottom, and from the side."""
    style = {"cmap": "RdBu", "vmin": -1, "vmax": 1, "origin": "lower"}
    panels[0].imshow(tsdf[:, round(1.05 / VOXEL_SIZE)].T, **style)
    panels[0].set_title(f"{name}, 1 m high, blue free\nX right, forward up")
    panels[1].imshow(tsdf[GRID[0] // 2], **style)
    panels[1].set_title(f"{name}, middle, red hidden\nforward right, height up")


def _view_from_above(label, origin):
    """A camera behind and above the solid voxels that looks at their middle: K, pose (float32)."""
    solid = np.argwhere((label > 0) & (label != IGNORE_INDEX))[:, WORLD_OF_ARRAY] * VOXEL_SIZE
    low, high = solid.min(axis=0), solid.max(axis=0)
    distance = 2.5 * np.linalg.norm(high - low)
    forward = np.array([0.25, 0.75, -0.65]) / np.linalg.norm([0.25, 0.75, -0.65])
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4, dtype=np.float32)
    position = origin + (low + high) / 2 - distance * forward
    pose[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
    return NYUCAD_INTRINSICS * np.array([[2], [2], [1]]) - [
        [0, 0, 320],
        [0, 0, 240],
        [0, 0, 0],
    ], pose


def _render(label, K, pose, origin, background=_WHITE):
    """Colours of the first solid voxel that each pixel's ray meets: (480, 640, 3) in 0..1."""
    depth = raycast_labels(label, K, pose, origin)
    pixels, voxels = pixels_to_voxels(depth, K, pose, origin, keep_unmeasured=False)
    classes = label[tuple((voxels // FINE_FACTOR).T)]
    solid = (classes > 0) & (classes != IGNORE_INDEX)
    # Voxels of a class differ a little, so that their edges can be seen.
    checker = 1 - 0.12 * ((voxels // FINE_FACTOR).sum(axis=1) % 2)
    canvas = np.broadcast_to(background, (*depth.shape, 3)).reshape(-1, 3).copy()
    canvas[pixels[solid]] = _COLORS[classes[solid]] * checker[solid, None]
    return canvas.reshape(*depth.shape, 3)
