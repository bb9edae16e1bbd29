"""One scene to show, and what of it is drawn: for picture.py and page.py."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from constants import CLASS_NAMES, GRID, IGNORE_INDEX, IMAGE_SIZE, NO_PIXEL
from datasets import nyu
from datasets.poses import recover_pose
from errors import InputError
from utils.pictures.rendering import look_at_voxels, seen_voxels

CEILING = CLASS_NAMES.index("ceiling")
FIRST_OBJECT = CLASS_NAMES.index("chair")  # what is neither room nor window

# What became of an evaluated voxel, and its colour (told apart by colour-blind readers too).
ERROR_NAMES = ("", "correct", "missed", "hallucinated", "wrong class")
ERROR_COLORS = ((0, 0, 0), (205, 205, 205), (0, 114, 178), (213, 94, 0), (240, 228, 66))

ELEVATION = np.radians(36)  # of the view over the camera's shoulder
_AZIMUTHS = np.radians([0, 15, -15, 30, -30])  # from the camera's heading; the first of the best
_ALL_AROUND = np.radians(np.arange(-150, 181, 30))


@dataclass
class Exhibit:
    """One scene to show: what the camera saw, what the network made of it, and the truth if known.

    name: title of the scene.
    image: (480, 640, 3) uint8 RGB; None: of a map of many frames, which is drawn without.
    mapping: (60, 36, 60) int, pixel index v * 640 + u of a voxel, 307200 none: the visible surface.
    prediction: (60, 36, 60) int, classes 0..11.
    label: the truth, (60, 36, 60) int, classes 0..11 and 255; None where unknown.
    evaluated: (60, 36, 60) bool, the voxels that the loss and the paper's scores count; other
        predictions are not drawn. None: all. For a frame without truth: what the camera sees or
        what is hidden from it, `(mapping != NO_PIXEL) | (tsdf < -0.5)`.
    depth: (480, 640) metres, 0 not measured; None: ray-cast from the visible surface.
    pose, origin: of the camera with NYU_INTRINSICS, (4, 4) camera to world, (3,) world metres; None
        together: recovered from `mapping`.
    colors: (60, 36, 60, 3) uint8 RGB of the visible surface; None: those of its pixels.
    elevation: of the view on the voxels, radians.
    A map's volumes may have another size, all the same.
    """

    name: str
    image: np.ndarray | None
    mapping: np.ndarray
    prediction: np.ndarray
    label: np.ndarray | None = None
    evaluated: np.ndarray | None = None
    depth: np.ndarray | None = None
    pose: np.ndarray | None = None
    origin: np.ndarray | None = None
    colors: np.ndarray | None = None
    elevation: float = ELEVATION

    def __post_init__(self) -> None:
        grid = GRID if self.image is not None else self.prediction.shape
        if self.evaluated is None:
            self.evaluated = np.ones(grid, bool)
        shapes = {"image": (*IMAGE_SIZE, 3), "depth": IMAGE_SIZE, "colors": (*grid, 3)}
        shapes |= dict.fromkeys(("mapping", "prediction", "label", "evaluated"), grid)
        for field, shape in shapes.items():
            array = getattr(self, field)
            if array is not None and array.shape != shape:
                raise InputError(f"{self.name}: {field} must be {shape}, not {array.shape}")

    @classmethod
    def of_files(
        cls, scene: nyu.SceneFiles, prediction: np.ndarray, where: np.ndarray | None = None
    ) -> "Exhibit":
        """A scene of NYUDataset, read from its files, and the classes predicted for it.

        where: (60, 36, 60) bool, what is evaluated if it has a label; None: what the paper scores.
        """
        label = nyu.read_label(scene.label)
        where = nyu.read_label_weight(scene.tsdf) if where is None else where
        return cls(
            name=scene.name,
            image=nyu.read_image(scene.image),
            mapping=nyu.read_mapping(scene.mapping),
            prediction=prediction,
            label=label,
            evaluated=where & (label != IGNORE_INDEX),
        )

    @property
    def visible(self) -> np.ndarray:
        """The voxels with a pixel: (60, 36, 60) bool."""
        return self.mapping != NO_PIXEL

    @property
    def visible_colors(self) -> np.ndarray:
        """Image colours of the visible voxels, (60, 36, 60, 3) uint8 RGB; others black."""
        if self.colors is not None:
            return self.colors
        pixels = np.concatenate([self.image.reshape(-1, 3), np.zeros((1, 3), np.uint8)])
        return pixels[self.mapping]

    @property
    def shown_prediction(self) -> np.ndarray:
        """The prediction, empty where nothing is evaluated: (60, 36, 60)."""
        return np.where(self.evaluated, self.prediction, 0)

    @property
    def shown_label(self) -> np.ndarray:
        """The truth, empty where there is no label: (60, 36, 60)."""
        return np.where(self.label == IGNORE_INDEX, 0, self.label)

    @property
    def errors(self) -> np.ndarray:
        """Indices into ERROR_NAMES, (60, 36, 60) uint8; 0: empty and rightly so, or not judged."""
        truth, prediction = self.shown_label, self.shown_prediction
        judged = self.evaluated & (self.label != IGNORE_INDEX)
        nothing = ~judged | (truth == 0) & (prediction == 0)
        cases = [nothing, truth == prediction, prediction == 0, truth == 0]
        return np.select(cases, [0, 1, 2, 3], 4).astype(np.uint8)

    @property
    def classes(self) -> np.ndarray:
        """Class of each voxel by the best knowledge, (60, 36, 60): the truth, else predicted."""
        if self.label is None:
            return self.shown_prediction
        return np.where(self.shown_label > 0, self.shown_label, self.shown_prediction)

    @cached_property
    def camera(self) -> tuple[np.ndarray, np.ndarray] | None:
        """pose and origin, recovered if need be; None where no camera fits the mapping."""
        if self.pose is not None or self.image is None:
            return None if self.pose is None else (self.pose, self.origin)
        try:
            return recover_pose(self.mapping)
        except InputError:  # nothing to be refused: there is less to be drawn
            return None

    @cached_property
    def azimuth(self) -> float:
        """Of the best view over the camera's shoulder, radians from array axis 2 towards axis 0.

        The direction, within 30 degrees of the camera's heading, from which most object voxels are
        seen, of a map's any; see utils.pictures.rendering.look_at_voxels.
        """
        heading, around = 0.0, _AZIMUTHS if self.image is not None else _ALL_AROUND
        if self.camera is not None:
            pose, _ = self.camera
            heading = float(np.arctan2(pose[0, 2], pose[1, 2]))
        drawn = (self.classes > 0) & (self.classes != CEILING)
        if not drawn.any():
            return heading
        objects = self.classes >= FIRST_OBJECT

        def count(azimuth: float) -> int:
            viewpoint = look_at_voxels(drawn, azimuth, self.elevation, (120, 160))
            return (seen_voxels(drawn, viewpoint) & objects).sum()

        return max((heading + around).tolist(), key=count)
