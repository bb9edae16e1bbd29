"""The files of a frame, read: colour and depth of one view, their camera, and what was believed."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from constants import IMAGE_SIZE, NYU_INTRINSICS
from datasets.files import read_depth_image, read_photo
from datasets.frames import cameras
from datasets.frames.camera_files import Camera, read_camera
from datasets.frames.depth import to_metres
from datasets.frames.distortion import undistort
from datasets.frames.finding import FrameFiles
from datasets.frames.turning import as_exif_says, turn_image, turn_intrinsics
from errors import InputError


class ReadFrame(NamedTuple):
    """A frame as its files say it."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 metres
    K: np.ndarray  # (3, 3)
    pose: np.ndarray | None  # (4, 4) camera to world, or (3,) gravity
    beliefs: list[str]  # lines on what was believed
    exif: int  # the turn that EXIF speaks for
    raw: np.ndarray  # (H, W), the depth's numbers as stored


def stated_camera(words: list[str], rectified: bool = False) -> Camera:
    """A camera by the words of --intrinsics: its file, or four numbers fx fy cx cy.

    rectified: of images whose distortion was undone before.
    """
    if len(words) == 1 and words[0].count(",") == 3 and not Path(words[0]).exists():
        words = words[0].split(",")
    if len(words) == 1:
        camera = read_camera(words[0])
        return camera.as_rectified() if rectified else camera
    try:
        fx, fy, cx, cy = map(float, words)
    except ValueError:
        raise InputError("--intrinsics: give a file, or four numbers fx fy cx cy") from None
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))


@dataclass(frozen=True)
class FrameReader:
    """Reads frames of one camera: a preset's, a stated one, or by default NYUv2's."""

    preset: str | None = None  # of cameras.PRESETS
    camera: Camera | None = None
    name: str = "--intrinsics"  # of that camera, in messages
    depth_unit: str | None = None  # of depth.UNITS, or its units in a metre; default: the camera's
    crop: bool = False  # the images are a part of what the camera states
    rotate: int | None = None  # degrees clockwise that make the images upright; default: EXIF's

    def __call__(self, files: FrameFiles) -> ReadFrame:
        """Raises InputError for files that are broken, or not of one view of this camera."""
        # First: of all that can be wrong with a frame, a lost pose is found in the shortest time.
        pose = cameras.read_pose(files.pose) if isinstance(files.pose, Path) else files.pose
        (rgb, exif), raw = read_photo(files.rgb), read_depth_image(files.depth)
        rgb, exif, turned = as_exif_says(rgb, exif, raw.shape, files.rgb)
        beliefs, sizes = [*turned], [raw.shape]
        if self.preset is None and self.camera is None:
            beliefs.append("camera: neither --camera nor --intrinsics given, taken as nyu")
        if rgb.shape[:2] != raw.shape and cameras.same_proportions(rgb.shape[:2], raw.shape):
            sizes.append(rgb.shape[:2])  # aligned, but the camera may be given for either size
            rgb = cv2.resize(rgb, raw.shape[::-1], interpolation=cv2.INTER_AREA)
            beliefs.append(f"{files.rgb}: taken as aligned with the depth, and resized to its size")
        cameras.check_same_view(rgb, raw)
        try:
            K = self._matrix(sizes[0])
        except InputError:
            if len(sizes) == 1:
                raise
            K = cameras.scale_intrinsics(self._matrix(sizes[1]), sizes[1], sizes[0])

        def find_height(depth: np.ndarray) -> float | None:
            from datasets.frames.gravity import floor_below  # takes seconds, and is rarely needed

            turn = exif if self.rotate is None else self.rotate
            return floor_below(turn_image(depth, turn), turn_intrinsics(K, depth.shape, turn))

        depth, belief = to_metres(raw, self._unit(raw), files.depth, find_height)
        beliefs.append(belief)
        if self.camera is not None and self.camera.lens is not None:
            rgb, depth = undistort(rgb, depth, K, self.camera.lens)
            kind = "fisheye" if self.camera.lens.fisheye else "Brown-Conrady"
            line = f"lens distortion ({kind}) of {self.name} undone"
            beliefs.append(f"{line}; if the images are without it already, give --rectified")
        return ReadFrame(rgb, depth, K, pose, beliefs, exif, raw)

    def _matrix(self, shape: tuple[int, int]) -> np.ndarray:
        """Intrinsics (3, 3) for images of this shape."""
        if self.camera is not None:
            return cameras.camera_matrix(self.camera, shape, self.name, self.crop)
        if self.preset is not None:
            return cameras.preset_intrinsics(self.preset, shape)
        if shape != IMAGE_SIZE:
            raise InputError("give the camera by --camera or --intrinsics")
        return NYU_INTRINSICS

    def _unit(self, raw: np.ndarray) -> str | None:
        if self.depth_unit is not None or raw.dtype.kind == "f":
            return self.depth_unit
        if self.camera is not None and self.camera.per_metre is not None:
            return f"{self.camera.per_metre:g}"
        return cameras.PRESET_DEPTH_UNITS.get(self.preset)
