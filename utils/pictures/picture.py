"""Voxels to files that other programs show: a PNG of a scene, and the original's PLY."""

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from constants import CLASS_COLORS, CLASS_NAMES, IMAGE_SIZE
from datasets.geometry import NYU_INTRINSICS
from datasets.raycast import raycast_labels
from datasets.voxels import is_occupied
from utils.files import atomic_file, write_text
from utils.pictures.exhibit import CEILING, ERROR_COLORS, ERROR_NAMES, Exhibit
from utils.pictures.rendering import look_at_voxels, render_voxels

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

_PANEL = (384, 512)  # height, width; pixels, as the others
_DPI, _GAP, _TITLE, _LEGEND, _HEADER = 100, 12, 30, 32, 36


def write_ply(path: str | Path, labels: np.ndarray) -> bool:
    """Write the occupied voxels as coloured points, byte for byte as the original does.

    labels: (X, Y, Z) int, 0..11 and 255; 0 and 255 are not drawn. Returns whether there was a voxel
    to draw; if not, no file is written.
    """
    indices = np.argwhere(is_occupied(labels))
    if not len(indices):
        return False
    colors = np.array(CLASS_COLORS)[labels[tuple(indices.T)]]
    rows = io.StringIO()
    np.savetxt(rows, np.hstack([indices, colors]), fmt="%d")
    write_text(path, _PLY_HEADER.format(count=len(indices)) + rows.getvalue())
    return True


def render_volumes(exhibit: Exhibit, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Pictures of a scene's volumes as cubes, from one viewpoint behind and above the camera.

    size: (height, width) in pixels. Returns title -> (height, width, 4) uint8 RGBA of the visible
    surface and the prediction and, with a label, of ground truth and errors; without the ceiling.
    """
    volumes = {"Visible surface": (exhibit.visible, exhibit.visible_colors)}
    volumes["Prediction"] = _palette(exhibit.shown_prediction, CLASS_COLORS)
    if exhibit.label is not None:
        volumes["Ground truth"] = _palette(exhibit.shown_label, CLASS_COLORS)
        volumes["Errors"] = _palette(exhibit.errors, ERROR_COLORS)
    not_ceiling = exhibit.classes != CEILING
    volumes = {title: (solid & not_ceiling, colors) for title, (solid, colors) in volumes.items()}

    together = np.any([solid for solid, _ in volumes.values()], axis=0)
    if not together.any():
        return {title: np.zeros((*size, 4), np.uint8) for title in volumes}
    viewpoint = look_at_voxels(together, exhibit.azimuth, exhibit.elevation, size)
    return {title: render_voxels(*volume, viewpoint) for title, volume in volumes.items()}


def save_scene_picture(path: str | Path, exhibit: Exhibit) -> None:
    """Draw a scene into a PNG.

    Image, depth, visible surface and prediction; with a label, ground truth and errors too. Voxels
    are drawn as cubes from one viewpoint behind and above the camera, without the ceiling. The
    depth is left out where it is not given and no camera fits the mapping; a map has no image.
    """
    pictures = render_volumes(exhibit, _PANEL)
    depth, depth_title = exhibit.depth, "Depth"
    if depth is None and exhibit.camera is not None:
        depth = raycast_labels(exhibit.visible.astype(np.uint8), NYU_INTRINSICS, *exhibit.camera)
        depth_title = "Depth of the visible voxels"
    titles = ["Image"] * (exhibit.image is not None) + [depth_title] * (depth is not None)
    titles += pictures
    figure, panels = _panels(exhibit.name, titles, legend_rows=1 if exhibit.label is None else 2)
    if exhibit.image is not None:
        panels["Image"].imshow(exhibit.image)
    if depth is not None:
        _draw_depth(figure, panels[depth_title], depth)

    height, width = IMAGE_SIZE  # the coordinates of every panel
    for title, cubes in pictures.items():
        panels[title].imshow(cubes, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    names = [name + " (not drawn)" * (name == "ceiling") for name in CLASS_NAMES[1:]]
    _legend(figure, names, CLASS_COLORS[1:], row=0)
    if exhibit.label is not None:
        _legend(figure, ERROR_NAMES[1:], ERROR_COLORS[1:], row=1)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", pil_kwargs={"compress_level": 3})


def _palette(indices: np.ndarray, colors: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Solid voxels and their colours of a volume of indices; 0 is empty."""
    return indices > 0, np.array(colors, np.uint8)[indices]


def _panels(name: str, titles: list[str], legend_rows: int) -> tuple[Figure, dict[str, Axes]]:
    """A figure with an empty panel for each title, its coordinates the pixels of the image."""
    columns = {4: 2, 6: 3}.get(len(titles), len(titles))
    rows = len(titles) // columns
    height, width = _PANEL
    full_width = columns * (width + _GAP) + _GAP
    bottom = legend_rows * _LEGEND + 2 * _GAP
    full_height = _HEADER + rows * (height + _TITLE) + bottom
    figure = Figure(figsize=(full_width / _DPI, full_height / _DPI), dpi=_DPI)
    middle = 1 - 0.6 * _HEADER / full_height
    figure.text(0.5, middle, name, ha="center", va="center", fontsize=15, parse_math=False)
    box = {"left": _GAP / full_width, "right": 1 - _GAP / full_width, "wspace": _GAP / width}
    box |= {"bottom": bottom / full_height, "top": 1 - (_HEADER + _TITLE) / full_height}
    box |= {"hspace": _TITLE / height}
    panels = dict(zip(titles, figure.subplots(rows, columns, gridspec_kw=box).flat, strict=True))
    limits = {"xlim": (-0.5, IMAGE_SIZE[1] - 0.5), "ylim": (IMAGE_SIZE[0] - 0.5, -0.5)}
    for title, panel in panels.items():
        panel.set(**limits, xticks=[], yticks=[])
        panel.set_title(title, fontsize=13)
        panel.spines[:].set_color("0.8")
    return figure, panels


def _draw_depth(figure: Figure, panel: Axes, depth: np.ndarray) -> None:
    """The measured depths in colour, and a bar that says how far each colour is."""
    measured = depth[depth > 0]
    low, high = np.percentile(measured, [1, 99]) if measured.size else (0, 1)
    shown = np.where(depth > 0, depth, np.nan)
    colors = panel.imshow(shown, vmin=low, vmax=high, interpolation_stage="rgba")
    panel.add_patch(Rectangle((12, 402), 266, 66, color="white", alpha=0.8))
    inset = panel.inset_axes([44, 412, 200, 18], transform=panel.transData)
    bar = figure.colorbar(colors, cax=inset, orientation="horizontal")
    bar.set_ticks([low, high], labels=[f"{low:.1f} m", f"{high:.1f} m"])


def _legend(figure: Figure, names: list[str], colors: list[tuple], row: int) -> None:
    """A row of names and colours at the bottom; row: how many rows are below it."""
    full_width, full_height = figure.get_size_inches() * _DPI
    pairs = zip(names, colors, strict=True)
    handles = [Patch(color=np.array(color) / 255, label=name) for name, color in pairs]
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, (0.4 * _GAP + row * _LEGEND) / full_height),
        ncols=len(handles),
        frameon=False,
        fontsize=full_width / 132,  # the longest legend in one row
        handlelength=1,
        handleheight=1,
    )
