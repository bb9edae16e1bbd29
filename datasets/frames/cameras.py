"""Other cameras than NYUv2's: presets, intrinsics files, and the way to NYUv2's view of a scene.

The network learnt how large things look through one camera, 640x480 pixels with NYU_INTRINSICS, and
takes its image features by pixel. A frame of another camera is therefore resampled to that focal
length (`to_nyu_view`), so that a chair at 2 m covers as many pixels as in training. Depth is
resampled to the nearest pixel, never interpolated, and what a wider camera measured beside the 640
x 480 pixels is kept for the TSDF. A frame of NYUv2's own camera stays as it is, bit for bit.
"""

import re
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from constants import IMAGE_MEAN, IMAGE_SIZE, NYU_INTRINSICS
from datasets.files import read_npy, read_text
from datasets.frames.camera_files import Camera, read_camera, stray_word
from datasets.frames.stamps import pose_matrix
from errors import InputError

# Width, height, fx, fy, cx, cy as commonly used where the own calibration is unknown; a calibration
# of your own device is better.
PRESETS = {
    "nyu": [(640, 480, 518.8579, 519.4696, 325.58, 253.74)],
    "kinect-v1": [(640, 480, 525, 525, 319.5, 239.5)],  # ROS and PCL
    "kinect-v2": [  # Open3D: depth camera, colour camera
        (512, 424, 365.456, 365.456, 254.878, 205.395),
        (1920, 1080, 1059.9718, 1059.9718, 975.7193, 545.9533),
    ],
    "realsense-d435": [  # nominal field of view of the colour camera, to which depth is aligned
        (1280, 720, 920, 920, 639.5, 359.5),
        (848, 480, 613, 613, 423.5, 239.5),
        (640, 480, 613, 613, 319.5, 239.5),
    ],
    "realsense-l515": [  # likewise
        (1280, 720, 905, 905, 639.5, 359.5),
        (640, 480, 603, 603, 319.5, 239.5),
    ],
    "azure-kinect": [  # colour camera in 16:9 and 4:3, depth camera's narrow field of view
        (1280, 720, 608, 608, 639.5, 363.5),
        (2048, 1536, 973, 973, 1023.5, 773.5),
        (640, 576, 504, 504, 319.5, 333.5),
    ],
    "iphone-lidar": [(1920, 1440, 1440, 1440, 959.5, 719.5)],  # ARKit; its depth has 256x192
    "primesense": [(640, 480, 525, 525, 319.5, 239.5)],  # Open3D, Redwood
    "tum": [(640, 480, 525, 525, 319.5, 239.5)],  # the benchmark's recommendation
    "sunrgbd": [  # its four sensors differ in image size
        (561, 427, 518.857901, 519.469611, 284.582449, 208.736166),
        (730, 530, 529.5, 529.5, 365, 265),
        (681, 531, 691.584229, 691.584229, 362.777557, 264.75),
        (591, 441, 570.342205, 570.342205, 310, 225),
    ],
}
PRESET_DEPTH_UNITS = {"nyu": "sscnet", "tum": "tum", "sunrgbd": "sscnet"}  # others: mm

FIELD_OF_VIEW = (20, 120)  # degrees of the image's width and height that are believed
# A principal point further from the image's centre, in its width or height, belongs to another
# image size; NYUv2's is 0.03 off.
MAX_OFF_CENTRE = 0.1


class NYUView(NamedTuple):
    """A frame as NYUv2's camera would have taken it."""

    image: np.ndarray  # (480, 640, 3) uint8 RGB; the mean colour where the frame ends
    depth: np.ndarray  # (480, 640) float32 metres, 0 = not measured
    # The same with what the frame's camera measured beside it: at least as large.
    wide_depth: np.ndarray  # (H, W) float32 metres
    wide_intrinsics: np.ndarray  # (3, 3) float32: focal length of NYU_INTRINSICS


def to_nyu_view(rgb: np.ndarray, depth: np.ndarray, K: np.ndarray) -> NYUView:
    """Resample a frame to the focal length of NYU_INTRINSICS.

    rgb: (H, W, 3) uint8; depth: (H, W) float32 metres; K: (3, 3) of both, see check_intrinsics.
    """
    columns, left = _wide_axis(depth.shape[1], IMAGE_SIZE[1], K, 0)
    rows, top = _wide_axis(depth.shape[0], IMAGE_SIZE[0], K, 1)
    bordered = np.pad(depth, 1)  # 0, not measured, is the nearest of what lies beside the frame
    nearest_rows = np.rint(rows).astype(int).clip(-1, depth.shape[0]) + 1
    nearest_columns = np.rint(columns).astype(int).clip(-1, depth.shape[1]) + 1
    wide = bordered[np.ix_(nearest_rows, nearest_columns)]
    wide_K = NYU_INTRINSICS.copy()
    wide_K[:2, 2] += left, top
    window = np.s_[top : top + IMAGE_SIZE[0], left : left + IMAGE_SIZE[1]]
    image = _resample_image(rgb, columns[window[1]], rows[window[0]])
    return NYUView(image, np.ascontiguousarray(wide[window]), wide, wide_K)


def _wide_axis(size: int, nyu_size: int, K: np.ndarray, axis: int) -> tuple[np.ndarray, int]:
    """Positions in the frame of the wide view's columns (axis 0) or rows (1), in pixels.

    Returns (positions (n,), how many of them come before NYUv2's first).
    """
    K, nyu = np.float64(K), np.float64(NYU_INTRINSICS)
    ratio, centre, nyu_centre = K[axis, axis] / nyu[axis, axis], K[axis, 2], nyu[axis, 2]
    start = min(0, int(np.ceil((-0.5 - centre) / ratio + nyu_centre)))
    stop = max(nyu_size - 1, int(np.floor((size - 0.5 - centre) / ratio + nyu_centre)))
    return (np.arange(start, stop + 1) - nyu_centre) * ratio + centre, -start


def _resample_image(rgb: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    step = max(columns[1] - columns[0], rows[1] - rows[0])
    if step > 1.5:  # bilinear sampling would skip pixels: average them first
        height, width = (max(1, round(n / step)) for n in rgb.shape[:2])
        columns = (columns + 0.5) * (width / rgb.shape[1]) - 0.5
        rows = (rows + 0.5) * (height / rgb.shape[0]) - 0.5
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    map_u, map_v = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return cv2.remap(
        rgb, map_u, map_v, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=tuple(round(c) for c in IMAGE_MEAN),
    )  # fmt: skip


def preset_intrinsics(name: str, shape: tuple[int, int]) -> np.ndarray:
    """Intrinsics of a preset for images of a shape (rows, columns): (3, 3) float32.

    Sizes of the same proportions as the preset's are scaled. Raises InputError for an unknown name
    or other proportions.
    """
    if name not in PRESETS:
        raise InputError(f"--camera {name}: use one of {', '.join(PRESETS)}, or --intrinsics")
    height, width = shape
    for w, h, *numbers in sorted(PRESETS[name], key=lambda entry: entry[:2] != (width, height)):
        if same_proportions(shape, (h, w)):
            return scale_intrinsics(_matrix(*numbers), (h, w), shape)
    sizes = ", ".join(f"{w}x{h}" for w, h, *_ in PRESETS[name])
    raise InputError(
        f"--camera {name}: known for images of {sizes}, and these have {width}x{height}: give "
        "--intrinsics"
    )


def check_same_view(rgb: np.ndarray, depth: np.ndarray) -> None:
    """Raise InputError for an image and a depth of different sizes."""
    if rgb.shape[:2] != depth.shape:
        raise InputError(
            f"rgb has {rgb.shape[1]}x{rgb.shape[0]} pixels and depth "
            f"{'x'.join(map(str, depth.shape[::-1]))}: both must be of the same view and size; "
            "align the depth to the colour camera, or the other way round"
        )


def same_proportions(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    across, along = shape[1] * other[0], shape[0] * other[1]
    return min(other) > 0 and abs(across - along) <= 0.005 * across


def scale_intrinsics(
    K: np.ndarray, shape: tuple[int, int], new_shape: tuple[int, int]
) -> np.ndarray:
    """Intrinsics of the same camera after resizing its images, shapes (rows, columns)."""
    scale = np.array([new_shape[1] / shape[1], new_shape[0] / shape[0]])
    scaled = np.array(K, np.float64)
    scaled[[0, 1], [0, 1]] *= scale
    scaled[:2, 2] = (scaled[:2, 2] + 0.5) * scale - 0.5
    return scaled.astype(np.float32)


def read_intrinsics(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Intrinsics of a file of any kind for images of a shape, without distortion: (3, 3) float32.

    Raises InputError for a file that states lens distortion: see read_camera.
    """
    camera = read_camera(path)
    if camera.lens is not None:
        raise InputError(f"{path}: it states lens distortion: use read_camera and undistort")
    return camera_matrix(camera, shape, path)


def camera_matrix(
    camera: Camera, shape: tuple[int, int], name: str | Path = "camera", crop: bool = False
) -> np.ndarray:
    """Intrinsics of a camera, scaled to images of a shape (rows, columns): (3, 3) float32, checked.

    crop: the images are a part of the sensor's, so their centre may be anywhere.
    """
    recorded = camera.shape or shape
    if not same_proportions(shape, recorded):
        raise InputError(
            f"{name}: intrinsics of images of {recorded[1]}x{recorded[0]} pixels, and these have "
            f"{shape[1]}x{shape[0]}"
        )
    return check_intrinsics(scale_intrinsics(camera.K, recorded, shape), shape, name, crop)


def check_intrinsics(
    K: np.ndarray, shape: tuple[int, int], name: str | Path = "intrinsics", crop: bool = False
) -> np.ndarray:
    """Return K as (3, 3) float32; InputError unless it is a camera of images of this shape.

    shape: (rows, columns). Without skew; fields of view within FIELD_OF_VIEW; the principal point
    near the image's centre unless they are a crop: far from it, K is that of another resolution.
    """
    K = np.asarray(K, dtype=np.float32)
    if K.shape != (3, 3) or not np.isfinite(K).all():
        raise InputError(f"{name}: intrinsics must be a finite 3x3 matrix")
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    if not np.allclose(K, _matrix(fx, fy, cx, cy), atol=1e-3) or min(fx, fy) <= 0:
        raise InputError(
            f"{name}: intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, without "
            "skew"
        )
    height, width = shape
    off = max(abs(cx - (width - 1) / 2) / width, abs(cy - (height - 1) / 2) / height)
    if off > MAX_OFF_CENTRE and not crop:
        raise InputError(
            f"{name}: the principal point ({cx:.0f}, {cy:.0f}) is far from the centre of images of "
            f"{width}x{height} pixels: are these intrinsics of another resolution? Scale them, or "
            "give JSON with the width and height they are for; for images that are a part of the "
            "sensor's, give --crop"
        )
    for focal, size in ((fx, width), (fy, height)):
        angle = 2 * np.degrees(np.arctan(size / 2 / focal))
        if not FIELD_OF_VIEW[0] <= angle <= FIELD_OF_VIEW[1]:
            raise InputError(
                f"{name}: a focal length of {focal:.0f} pixels would make {size} pixels "
                f"{angle:.0f} degrees wide: are these intrinsics of another resolution?"
            )
    return K


def _matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float32)


def read_pose(path: str | Path) -> np.ndarray:
    """A pose in a file of numbers: (4, 4) camera to world, or (3,) gravity, float32.

    4x4, 3x4, or as TUM writes it, [time] tx ty tz qx qy qz qw; as text or .npy.
    """
    try:
        if Path(path).suffix.lower() == ".npy":
            numbers = np.asarray(read_npy(path), np.float64).reshape(-1)
        else:
            words = re.sub(r"#.*|[\[\](),;]", " ", read_text(path)).split()
            numbers = np.array(words, dtype=np.float64)
    except ValueError as error:
        if (stray := stray_word(path)) is not None:
            raise InputError(f"{path}, {stray}, and else these are plain numbers") from error
        numbers = np.empty(0)
    if numbers.size in (7, 8):
        return pose_matrix(numbers[-7:], path)
    if numbers.size == 12:
        numbers = np.append(numbers, [0, 0, 0, 1])
    if numbers.size == 16 and not np.isfinite(numbers).all():
        raise InputError(f"{path}: the pose of this frame was lost (not finite)")
    if numbers.size not in (3, 16) or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: write a 4x4 camera-to-world matrix, or the three numbers of gravity's "
            "direction in the camera's frame (x right, y down, z forward)"
        )
    numbers = numbers.astype(np.float32)
    return numbers.reshape(4, 4) if numbers.size == 16 else numbers
