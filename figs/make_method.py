"""Draw the figure of the method, figs/method.svg.

    python figs/make_method.py

What its networks see is a generated room.
"""

import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Polyline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from constants import CLASS_COLORS, GRID, IGNORE_INDEX, NO_PIXEL
from datasets.geometry import NYUCAD_INTRINSICS
from datasets.rooms import make_room
from datasets.voxels import downsample_labels, mapping_from_depth
from utils.pictures.rendering import look_at_voxels, render_voxels

ROOM = 0, "test", 1  # seed, split, number
WIDTH, HEIGHT, MIDDLE = 880, 500, 250  # pixels of 1/96 inch, as all positions; y points up
CUBES = 176, 220  # height, width of a picture of voxels
TEACHER, STUDENT, DISTILLATION, INK = "#0072B2", "#C25400", "#00785A", "#303030"
BOXES = (  # x, distance from the middle, width, name, what it does
    (288, 186, 88, "2DNet", "frozen encoder"),
    (402, 186, 100, "Projection", "to voxels, fills holes"),
    (348, 100, 208, "3D-TSDFNet", "features of the surface"),
    (582, 143, 108, "3D-SSCNet", "completes the scene"),
)
LOSSES = (  # x, width, name, what is compared
    (348, 140, "KD-T", "features of the surface,\nvoxel by voxel"),
    (568, 116, "KD-SC", "class centres:\nmeans of logits"),
    (692, 112, "KD-SA", "affinities of voxels\nto class centres"),
)


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of a room: image (RGB); surface of the clean and of the noisy TSDF, labels (RGBA)."""
    room = make_room(*ROOM)
    view = room.pose, room.origin
    clean = mapping_from_depth(room.cad_depth, NYUCAD_INTRINSICS, *view) != NO_PIXEL
    noisy = mapping_from_depth(room.depth, room.K, *view) != NO_PIXEL
    labels = downsample_labels(room.labels)
    things = (labels > 1) & (labels != IGNORE_INDEX)  # all but the ceiling
    azimuth = float(np.arctan2(room.pose[0, 2], room.pose[1, 2]) + np.radians(15))
    viewpoint = look_at_voxels(things | noisy, azimuth, np.radians(36), CUBES)
    grey = np.full((*GRID, 3), 190, np.uint8)
    colors = np.array(CLASS_COLORS, np.uint8)[np.where(things, labels, 0)]
    volumes = (clean, grey), (noisy, grey), (things, colors)
    cubes = (render_voxels(*volume, viewpoint) for volume in volumes)
    return cv2.resize(room.rgb, (220, 165), interpolation=cv2.INTER_AREA), *cubes


class Canvas:
    """Words, boxes and pictures, placed by their centres, and arrows."""

    def __init__(self) -> None:
        self.axes = Figure(figsize=(WIDTH / 96, HEIGHT / 96)).add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT), autoscale_on=False)
        self.axes.axis("off")

    def text(self, x: float, y: float, words: str, size: float = 10, **style: str) -> None:
        style = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.3} | style
        self.axes.text(x, y, words, fontsize=0.75 * size, zorder=4, **style)

    def box(self, x: float, y: float, w: float, h: float, color: str, fill: str, r: int) -> None:
        shape, style = f"round,pad=0,rounding_size={r}", {"edgecolor": color, "facecolor": fill}
        box = FancyBboxPatch((x - w / 2, y - h / 2), w, h, shape, linewidth=1.2, zorder=2, **style)
        self.axes.add_patch(box)

    def arrow(self, *points: tuple[float, float], color: str = INK) -> None:
        style = {"arrowstyle": "-|>", "mutation_scale": 8, "linewidth": 1.2, "color": color}
        style["linestyle"] = "-" if color == INK else (0, (4, 2))
        self.axes.add_patch(FancyArrowPatch(path=Polyline(points), zorder=3, **style))

    def picture(self, x: float, y: float, width: float, array: np.ndarray) -> None:
        height = width * array.shape[0] / array.shape[1]
        extent = x - width / 2, x + width / 2, y - height / 2, y + height / 2
        self.axes.imshow(array, extent=extent, interpolation="none", aspect="auto", zorder=3)


def draw_network(canvas: Canvas, up: int, color: str, title: str, surface: np.ndarray) -> None:
    """The network above the middle of the figure (up = 1), or its mirror image below (-1)."""
    near, image_row, sum_row, tsdf_row = (MIDDLE + up * y for y in (48, 186, 143, 100))
    canvas.box(440, MIDDLE + up * 147, 616, 190, color, color + "10", 10)
    canvas.text(440, MIDDLE + up * 227, title, 12.5, color=color, weight="bold")
    canvas.picture(182, tsdf_row, 90, surface)
    canvas.text(182, MIDDLE + up * 143, "TSDF-CAD" if up > 0 else "noisy TSDF")
    for x, y, width, name, detail in BOXES:
        y = MIDDLE + up * y
        canvas.box(x, y, width, 42, color, "white", 6)
        canvas.text(x, y + 3, name, 12.5, weight="bold", va="baseline")
        canvas.text(x, y - 12, detail, 9, va="baseline")
    canvas.box(490, sum_row, 22, 22, color, "white", 11)
    canvas.text(490, sum_row, "+", 16)
    canvas.text(692, sum_row, "class logits\nof voxels", 11)
    for x, y, name in ((288, sum_row, "2D label loss"), (817, MIDDLE + up * 96, "3D label loss")):
        canvas.box(x, y, 84, 20, INK, "white", 10)
        canvas.text(x, y, name)
    canvas.arrow((332, image_row), (352, image_row))
    canvas.arrow((230, tsdf_row), (244, tsdf_row))
    canvas.arrow((501, sum_row), (528, sum_row))
    canvas.arrow((636, sum_row), (656, sum_row))
    canvas.arrow((63, near), (63, image_row), (244, image_row))
    canvas.arrow((452, image_row), (490, image_row), (490, sum_row + 11 * up))
    canvas.arrow((452, tsdf_row), (490, tsdf_row), (490, sum_row - 11 * up))
    canvas.arrow((288, image_row - 21 * up), (288, sum_row + 10 * up))
    canvas.arrow((728, sum_row), (817, sum_row), (817, MIDDLE + up * 106))
    canvas.arrow((817, near), (817, MIDDLE + up * 86))
    loss, fork = MIDDLE + up * 29, MIDDLE + up * 76
    canvas.arrow((348, tsdf_row - 21 * up), (348, loss), color=DISTILLATION)
    canvas.arrow((692, sum_row - 17 * up), (692, loss), color=DISTILLATION)
    canvas.arrow((692, fork), (568, fork), (568, loss), color=DISTILLATION)


def main() -> None:
    canvas, (image, clean, noisy, labels) = Canvas(), pictures()
    canvas.picture(63, MIDDLE, 110, image)
    canvas.picture(817, MIDDLE, 110, labels)
    canvas.text(70, MIDDLE + 53, "RGB image", ha="left")
    canvas.text(810, MIDDLE + 53, "labels", ha="right")
    draw_network(canvas, 1, TEACHER, "Teacher: trained first, on labels, then frozen", clean)
    draw_network(canvas, -1, STUDENT, "Student: trained on labels and by the teacher", noisy)
    canvas.text(464, MIDDLE, "distillation\nlosses", 11, color=DISTILLATION)
    for x, width, name, detail in LOSSES:
        canvas.box(x, MIDDLE, width, 58, DISTILLATION, DISTILLATION + "16", 12)
        canvas.text(x, MIDDLE + 12, name, 12.5, color=DISTILLATION, weight="bold", va="baseline")
        canvas.text(x, MIDDLE - 9, detail)
    matplotlib.rcParams["svg.hashsalt"] = "method"  # the same names in the file every time
    canvas.axes.figure.savefig(Path(__file__).with_name("method.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
