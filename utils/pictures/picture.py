"""Voxels to files that other programs show: PLY and PNG.

The interactive page is in page.py, training curves are in curves.py.
"""

import dataclasses
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from constants import (
    CLASS_COLORS,
    CLASS_NAMES,
    GRID,
    IGNORE_INDEX,
    IMAGE_MEAN,
    IMAGE_SIZE,
    IMAGE_STD,
    NO_PIXEL,
)
from datasets.geometry import NYU_INTRINSICS
from datasets.poses import recover_pose
from datasets.raycast import raycast_labels
from datasets.voxels import is_occupied
from errors import InputError
from utils.files import atomic_file, write_text
from utils.pictures.rendering import look_at_voxels, render_voxels, seen_voxels

CEILING = CLASS_NAMES.index("ceiling")
FIRST_OBJECT = CLASS_NAMES.index("chair")  # what is neither room nor window

# What became of an evaluated voxel, and its colour (told apart by colour-blind readers too).
ERROR_NAMES = ("", "correct", "missed", "hallucinated", "wrong class")
ERROR_COLORS = ((0, 0, 0), (205, 205, 205), (0, 114, 178), (213, 94, 0), (240, 228, 66))

_ELEVATION = np.radians(36)
_AZIMUTHS = np.radians([0, 15, -15, 30, -30])  # from the camera's heading; the first of the best

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
    indices = np.argwhere(is_occupied(labels))
    if not len(indices):
        return False
    colors = np.array(CLASS_COLORS)[labels[tuple(indices.T)]]
    rows = io.StringIO()
    np.savetxt(rows, np.hstack([indices, colors]), fmt="%d")
    write_text(path, _PLY_HEADER.format(count=len(indices)) + rows.getvalue())
    return True


@dataclass
class SceneView:
    """One scene to show: what the camera saw, what the network made of it, and the truth if known.

    name: title of the scene.
    image: (480, 640, 3) uint8 RGB.
    mapping: (60, 36, 60) int, pixel index v * 640 + u of a voxel, 307200 none: the visible surface.
    prediction: (60, 36, 60) int, classes 0..11.
    label: the truth, (60, 36, 60) int, classes 0..11 and 255; None where unknown.
    evaluated: (60, 36, 60) bool, the voxels that the loss and the paper's scores count; other
        predictions are not drawn. None: all. For a frame without truth: what the camera sees or
        what is hidden from it, `(mapping != NO_PIXEL) | (tsdf < -0.5)`.
    depth: (480, 640) metres, 0 not measured; None: ray-cast from the visible surface.
    K, pose, origin: the camera, (3, 3), (4, 4) camera to world, (3,) world metres; pose and origin
        may be None together: they are then recovered from `mapping`.

    Raises InputError for an array of another shape.
    """

    name: str
    image: np.ndarray
    mapping: np.ndarray
    prediction: np.ndarray
    label: np.ndarray | None = None
    evaluated: np.ndarray | None = None
    depth: np.ndarray | None = None
    K: np.ndarray = dataclasses.field(default_factory=NYU_INTRINSICS.copy)
    pose: np.ndarray | None = None
    origin: np.ndarray | None = None

    def __post_init__(self):
        shapes = {"image": (*IMAGE_SIZE, 3), "depth": IMAGE_SIZE}
        shapes |= dict.fromkeys(("mapping", "prediction", "label", "evaluated"), GRID)
        for field, shape in shapes.items():
            array = getattr(self, field)
            if array is not None and array.shape != shape:
                raise InputError(f"{self.name}: {field} must be {shape}, not {array.shape}")

    @classmethod
    def from_sample(cls, sample: dict, prediction) -> "SceneView":
        """Of a test sample of NYUDataset (never augmented) and labels (60, 36, 60), as tensors."""
        arrays = {
            key: sample[key].cpu().numpy()
            for key in ("image", "mapping", "label3d", "label_weight")
        }
        image = arrays["image"].transpose(1, 2, 0) * IMAGE_STD + IMAGE_MEAN
        return cls(
            name=sample["name"],
            image=np.rint(image).clip(0, 255).astype(np.uint8),
            mapping=arrays["mapping"],
            prediction=prediction.cpu().numpy(),
            label=arrays["label3d"],
            evaluated=arrays["label_weight"] & (arrays["label3d"] != IGNORE_INDEX),
        )

    @property
    def visible(self) -> np.ndarray:
        """The voxels with a pixel: (60, 36, 60) bool."""
        return self.mapping != NO_PIXEL

    @property
    def visible_colors(self) -> np.ndarray:
        """Image colours of the visible voxels, (60, 36, 60, 3) uint8 RGB; others black."""
        pixels = np.concatenate([self.image.reshape(-1, 3), np.zeros((1, 3), np.uint8)])
        return pixels[self.mapping]

    @property
    def shown_prediction(self) -> np.ndarray:
        """The prediction, empty where nothing is evaluated: (60, 36, 60)."""
        if self.evaluated is None:
            return self.prediction
        return np.where(self.evaluated, self.prediction, 0)

    @property
    def shown_label(self) -> np.ndarray:
        """The truth, empty where there is no label: (60, 36, 60)."""
        return np.where(self.label == IGNORE_INDEX, 0, self.label)

    @property
    def errors(self) -> np.ndarray:
        """Indices into ERROR_NAMES, (60, 36, 60) uint8; 0: empty and rightly so, or not judged."""
        truth, prediction = self.shown_label, self.shown_prediction
        kinds = np.select(
            [(truth == 0) & (prediction == 0), truth == prediction, prediction == 0, truth == 0],
            [0, 1, 2, 3],
            4,
        )
        judged = self.label != IGNORE_INDEX
        if self.evaluated is not None:
            judged = judged & self.evaluated
        return np.where(judged, kinds, 0).astype(np.uint8)

    @property
    def classes(self) -> np.ndarray:
        """Class of each voxel by the best knowledge, (60, 36, 60): the truth, else predicted."""
        if self.label is None:
            return self.shown_prediction
        return np.where(self.shown_label > 0, self.shown_label, self.shown_prediction)

    @cached_property
    def camera(self) -> tuple[np.ndarray, np.ndarray] | None:
        """pose and origin, recovered if need be; None where no camera fits the mapping."""
        if self.pose is not None:
            return self.pose, self.origin
        try:
            return recover_pose(self.mapping, self.K)
        except InputError:  # nothing to be refused: there is less to be drawn
            return None

    @cached_property
    def azimuth(self) -> float:
        """Of the best view over the camera's shoulder, radians from array axis 2 towards axis 0.

        The direction, within 30 degrees of the camera's heading, from which most object voxels are
        seen; see utils.pictures.rendering.look_at_voxels.
        """
        heading = 0.0
        if self.camera is not None:
            pose, _ = self.camera
            heading = float(np.arctan2(pose[0, 2], pose[1, 2]))
        drawn = (self.classes > 0) & (self.classes != CEILING)
        if not drawn.any():
            return heading
        objects = self.classes >= FIRST_OBJECT
        origin, size = np.zeros(3), (120, 160)

        def count(azimuth):
            camera = look_at_voxels(drawn, origin, azimuth, _ELEVATION, size)
            return (seen_voxels(drawn, *camera, origin, size) & objects).sum()

        return max((heading + _AZIMUTHS).tolist(), key=count)


def render_volumes(view: SceneView, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Pictures of a scene's volumes as cubes, from one viewpoint behind and above the camera.

    Args:
        size: height and width in pixels.

    Returns:
        Title -> (height, width, 4) uint8 RGBA of the visible surface and the prediction and, with a
        label, of ground truth and errors; without the ceiling.
    """
    volumes = {"Visible surface": (view.visible, view.visible_colors)}
    volumes["Prediction"] = _palette(view.shown_prediction, CLASS_COLORS)
    if view.label is not None:
        volumes["Ground truth"] = _palette(view.shown_label, CLASS_COLORS)
        volumes["Errors"] = _palette(view.errors, ERROR_COLORS)
    not_ceiling = view.classes != CEILING
    volumes = {title: (solid & not_ceiling, colors) for title, (solid, colors) in volumes.items()}

    together = np.any([solid for solid, _ in volumes.values()], axis=0)
    if not together.any():
        return {title: np.zeros((*size, 4), np.uint8) for title in volumes}
    origin = np.zeros(3)
    K, pose = look_at_voxels(together, origin, view.azimuth, _ELEVATION, size)
    return {
        title: render_voxels(solid, colors, K, pose, origin, size)
        for title, (solid, colors) in volumes.items()
    }


def save_scene_picture(path: str | Path, view: SceneView) -> None:
    """Draw a scene into a PNG.

    Image, depth, visible surface and prediction; with a label, ground truth and errors too. Voxels
    are drawn as cubes from one viewpoint behind and above the camera, without the ceiling. The
    depth is left out where it is not given and no camera fits the mapping.

    Raises:
        InputError: the file cannot be written.
    """
    pictures = render_volumes(view, _PANEL)
    depth, depth_title = view.depth, "Depth"
    if depth is None and view.camera is not None:
        depth = raycast_labels(view.visible.astype(np.uint8), view.K, *view.camera)
        depth_title = "Depth of the visible voxels"
    titles = ["Image", *([] if depth is None else [depth_title]), *pictures]
    figure, panels = _panels(view.name, titles, legend_rows=1 if view.label is None else 2)
    panels["Image"].imshow(view.image)
    if depth is not None:
        _draw_depth(figure, panels[depth_title], depth)

    height, width = IMAGE_SIZE  # the coordinates of every panel
    for title, cubes in pictures.items():
        panels[title].imshow(cubes, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    names = [name + " (not drawn)" * (name == "ceiling") for name in CLASS_NAMES[1:]]
    _legend(figure, names, CLASS_COLORS[1:], row=0)
    if view.label is not None:
        _legend(figure, ERROR_NAMES[1:], ERROR_COLORS[1:], row=1)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", pil_kwargs={"compress_level": 3})


def _palette(indices, colors):
    """Solid voxels and their colours of a volume of indices; 0 is empty."""
    return indices > 0, np.array(colors, np.uint8)[indices]


_PANEL = (384, 512)  # height, width; pixels, as the others
_DPI, _GAP, _TITLE, _LEGEND, _HEADER = 100, 12, 30, 32, 36


def _panels(name, titles, legend_rows):
    """A figure with an empty panel for each title, its coordinates the pixels of the image."""
    columns = {4: 2, 6: 3}.get(len(titles), len(titles))
    rows = len(titles) // columns
    height, width = _PANEL
    full_width = columns * (width + _GAP) + _GAP
    full_height = _HEADER + rows * (height + _TITLE) + legend_rows * _LEGEND + 2 * _GAP
    figure = Figure(figsize=(full_width / _DPI, full_height / _DPI), dpi=_DPI)
    middle = 1 - 0.6 * _HEADER / full_height
    style = {"ha": "center", "va": "center", "fontsize": 15, "parse_math": False}
    figure.text(0.5, middle, name, **style)
    panels = {}
    for i, title in enumerate(titles):
        row, column = divmod(i, columns)
        left = _GAP + column * (width + _GAP)
        bottom = full_height - _HEADER - (row + 1) * (height + _TITLE)
        box = left / full_width, bottom / full_height, width / full_width, height / full_height
        panels[title] = figure.add_axes(box)
        panels[title].set_title(title, fontsize=13)
        panels[title].set_xlim(-0.5, IMAGE_SIZE[1] - 0.5)
        panels[title].set_ylim(IMAGE_SIZE[0] - 0.5, -0.5)
        panels[title].set_xticks([])
        panels[title].set_yticks([])
        panels[title].spines[:].set_color("0.8")
    return figure, panels


def _draw_depth(figure, panel, depth):
    measured = depth[depth > 0]
    low, high = np.percentile(measured, [1, 99]) if measured.size else (0, 1)
    colors = ScalarMappable(Normalize(low, high), "viridis")
    picture = colors.to_rgba(depth)
    picture[depth <= 0] = 1
    panel.imshow(picture)
    panel.add_patch(Rectangle((12, 402), 266, 66, color="white", alpha=0.8))
    bar = figure.colorbar(
        colors,
        cax=panel.inset_axes([44, 412, 200, 18], transform=panel.transData),
        orientation="horizontal",
    )
    bar.set_ticks([low, high], labels=[f"{low:.1f} m", f"{high:.1f} m"])


def _legend(figure, names, colors, row):
    full_width, full_height = figure.get_size_inches() * _DPI
    handles = [
        Patch(color=np.array(color) / 255, label=name)
        for name, color in zip(names, colors, strict=True)
    ]
    figure.add_artist(
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
    )
