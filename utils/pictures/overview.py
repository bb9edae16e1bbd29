"""One picture of prepared scenes: do labels, TSDF and camera belong to the image?"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from constants import CLASS_COLORS, CLASS_NAMES, GRID, VOXEL_SIZE
from datasets import nyu
from datasets.geometry import NYU_INTRINSICS
from datasets.poses import recover_pose
from datasets.voxels import is_occupied
from utils.pictures.rendering import Viewpoint, look_at_voxels, render_voxels

_COLORS = np.array(CLASS_COLORS, np.uint8)


def draw_overview(scenes: list[nyu.SceneFiles]) -> Figure:
    """Draw scenes, a row each.

    Columns: the image under its labels (ray-cast from the camera that Mapping implies), TSDF and
    TSDF-CAD cut 1 m above the floor and along the middle, the voxels seen from above.
    """
    figure = Figure(figsize=(19, 4.2 * len(scenes)), layout="constrained")
    axes = figure.subplots(len(scenes), 6, squeeze=False, width_ratios=[1.4, 1, 1, 1, 1, 1.4])
    for row, scene in zip(axes, scenes, strict=True):
        label = nyu.read_label(scene.label)
        solid = is_occupied(label)
        colors = _COLORS[np.where(solid, label, 0)]
        camera = Viewpoint(NYU_INTRINSICS, *recover_pose(nyu.read_mapping(scene.mapping)))
        row[0].imshow(nyu.read_image(scene.image))
        row[0].imshow(render_voxels(solid, colors, camera), alpha=0.55)
        row[0].set_title(f"{scene.name}: image and labels")
        _draw_cuts(row[1:3], nyu.read_tsdf(scene.tsdf), "TSDF")
        if scene.tsdf_cad is None:
            row[3].set_title("no TSDF-CAD")
        else:
            _draw_cuts(row[3:5], nyu.read_tsdf(scene.tsdf_cad), "TSDF-CAD")
        if solid.any():
            above = look_at_voxels(solid, azimuth=np.radians(18), elevation=np.radians(40))
            row[5].imshow(render_voxels(solid, colors, above))
        row[5].set_title("labels from above")
        for panel in row:
            panel.set(xticks=[], yticks=[])
    handles = [
        Line2D([], [], marker="s", linestyle="", color=color, label=name)
        for name, color in zip(CLASS_NAMES[1:], _COLORS[1:] / 255, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_cuts(panels: np.ndarray, tsdf: np.ndarray, name: str) -> None:
    """tsdf: (60, 36, 60). Seen from above with the camera at the bottom, and from the side."""
    style = {"cmap": "RdBu", "vmin": -1, "vmax": 1, "origin": "lower"}
    panels[0].imshow(tsdf[:, round(1.05 / VOXEL_SIZE)].T, **style)
    panels[0].set_title(f"{name}, 1 m high, blue free\nX right, forward up")
    panels[1].imshow(tsdf[GRID[0] // 2], **style)
    panels[1].set_title(f"{name}, middle, red hidden\nforward right, height up")
