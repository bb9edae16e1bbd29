"""Camera files as tools write them: intrinsics, lens distortion, the image size they are for.

A file becomes numbers or nested dictionaries (JSON, YAML, OpenCV's YAML, `key = value`), in which
every dictionary with intrinsics is a camera. What a file leaves open, such as which of two
different cameras is meant, is asked for and never guessed.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from datasets.files import read_npy, read_text
from datasets.frames.distortion import Lens, lens
from datasets.frames.stamps import stamp_of
from errors import InputError, one_line

_MATRICES = ("intrinsicmatrix", "cameramatrix", "camk", "k", "intrinsics", "intrinsic")
_MATRICES += ("mcolorintrinsic", "mcalibrationcolorintrinsic")
_MATRICES += ("mdepthintrinsic", "mcalibrationdepthintrinsic")
_FOCAL = (("fx", "fy"), ("flx", "fly"), ("fxcolor", "fycolor"), ("fxdepth", "fydepth"))
_CENTRE = (("cx", "cy"), ("ppx", "ppy"), ("mxcolor", "mycolor"), ("mxdepth", "mydepth"))
_SIZES = (("width", "height"), ("w", "h"), ("imagewidth", "imageheight"))
_DISTORTION = ("d", "coeffs", "distortioncoefficients", "distortioncoeffs", "distcoeffs")
_DISTORTION += ("distortion", "dist")
_MODELS = ("distortionmodel", "model", "distortion", "cameramodel")
_COLMAP = {  # numbers of focal lengths, model and places of k1 k2 p1 p2 ... behind the centre
    "SIMPLE_PINHOLE": (1, None), "PINHOLE": (2, None), "SIMPLE_RADIAL": (1, "radial"),
    "RADIAL": (1, "radial"), "OPENCV": (2, "opencv"), "FULL_OPENCV": (2, "opencv"),
    "OPENCV_FISHEYE": (2, "fisheye"),
}  # fmt: skip
_RS_PRINT = re.compile(
    r"\[\s*(\d+)x(\d+)\s+p\[(\S+) (\S+)\]\s+f\[(\S+) (\S+)\]\s+([A-Za-z_ 0-9-]*?)\s*\[([^\]]*)\]"
)
_PAIR = re.compile(r"^\s*([A-Za-z_][\w ]*?)\s*[=:]\s*(.+?)\s*(?:(?:#|//).*)?$", re.M)
# Of OpenCV's XML: a tag, and what is in it or in its <data>.
_XML = re.compile(r"<(\w+)(?: [^<>]*)?>\s*(?:<rows>.{0,200}?<data>\s*)?([^<>\s][^<>]*)<", re.S)
_NAMES = re.compile(r"\W*fx\W+fy\W+cx\W+cy\b", re.I)  # the head of a table
# Units of the depth in a metre, by NICE-SLAM and ORB-SLAM.
_PER_METRE = ("pngdepthscale", "depthmapfactor", "rgbddepthmapfactor")


class Camera(NamedTuple):
    """A camera as a file states it."""

    K: np.ndarray  # (3, 3) float64
    shape: tuple[int, int] | None = None  # rows, columns of the images it is for, where stated
    lens: Lens | None = None  # None: without distortion
    per_metre: float | None = None  # units of its depth images in a metre, where that is certain
    rectified: np.ndarray | None = None  # (3, 3) of its images without distortion: P of ROS

    def as_rectified(self) -> "Camera":
        """The camera of images whose distortion was undone before."""
        K = self.K if self.rectified is None else self.rectified
        return Camera(K, self.shape, None, self.per_metre)


def read_camera(path: str | Path) -> Camera:
    """The camera of a file; InputError if there is none, or if there are different ones."""
    try:
        found = list(_cameras(path))
    except InputError:
        raise
    except Exception as error:  # parsers raise many types for broken text
        raise _no_camera(path) from error
    if not found:
        raise _no_camera(path)
    first, *others = found
    if not np.isfinite(first.K).all():
        (fx, _, cx), (_, fy, cy), _ = first.K
        raise InputError(
            f"{path}: broken intrinsics, not finite: fx = {fx}, fy = {fy}, cx = {cx}, cy = {cy}"
        )
    for other in others:
        if not (np.array_equal(first.K, other.K) and first[1:3] == other[1:3]):
            raise InputError(
                f"{path}: {len(found)} cameras that differ (colour and depth?): keep the one of "
                "the images, or give fx fy cx cy"
            )
    return first


def _no_camera(path: str | Path) -> InputError:
    if (stray := stray_word(path)) is not None:
        return InputError(f"{path}, {stray}, and else these are plain numbers of a camera")
    return InputError(
        f"{path}: no camera intrinsics: write a 3x3 matrix, fx fy cx cy, or JSON with fx, fy, cx, "
        "cy"
    )


def _cameras(path: str | Path) -> Iterator[Camera]:
    if Path(path).suffix.lower() in (".npy", ".npz"):
        yield Camera(_matrix(read_npy(path)))
        return
    text = read_text(path)
    try:
        plain = [float(word) for word in _plain_words(text)]
    except ValueError:
        yield from _stated(re.sub(r"^[ \t]*(#|//).*$", "", text, flags=re.M).strip(), path)
    else:
        yield Camera(_matrix(plain))


def _plain_words(text: str) -> list[str]:
    """The words of plain numbers, without comments, brackets and commas."""
    text = re.sub(r"(?m)(#|//).*$", "", text)
    return re.sub(
        r"[\[\](),;]", " ", text[len(match[0]) :] if (match := _NAMES.match(text)) else text
    ).split()


def stray_word(path: str | Path) -> str | None:
    """A word that spoils a text file of plain numbers, with its line, for a message.

    None unless most of its words are numbers, and for a kind of file in which words are names.
    """
    text = "" if Path(path).suffix.lower() in (".npy", ".npz") else read_text(path)
    lines = [(n, _plain_words(line)) for n, line in enumerate(text.splitlines(), 1)]
    words = [(n, word) for n, line in lines for word in line]
    stray = [(n, word) for n, word in words if stamp_of(word) is None]
    if not stray or 2 * len(stray) > len(words) or re.search('[{}:="]', text):
        return None
    number, word = stray[0]
    return f"line {number}: {word[:40]!r} is no number"


def _stated(text: str, path: str | Path) -> Iterator[Camera]:
    """Cameras of text that has more than numbers."""
    if printed := _RS_PRINT.findall(text):
        for w, h, cx, cy, fx, fy, model, coeffs in printed:
            numbers = list(map(float, coeffs.replace(",", " ").split()))
            K = _matrix([float(n) for n in (fx, fy, cx, cy)])
            yield Camera(K, (int(h), int(w)), lens(model, numbers, path))
        return
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if all(len(row) > 4 and row[1].isupper() and row[2].isdigit() for row in rows):
        yield from (_colmap(row, path) for row in rows)
    elif text.startswith("{") or text.startswith("["):
        yield from _walk(json.loads(text), path)
    elif text.lower().count("ppx") > 1:
        raise InputError(f"{path}: several cameras: keep the one of the images")
    else:
        yield from _walk(_named(text), path)


def _named(text: str) -> list[dict]:
    """The dictionaries of YAML, of OpenCV's XML, or of lines like `fx = 585`."""
    try:  # ROS writes a message after the other
        yaml_text = re.sub(r"^%YAML.*$|!!opencv-matrix", "", text, flags=re.M)
        found = [part for part in yaml.load_all(yaml_text, _Loader) if isinstance(part, dict)]
    except yaml.YAMLError:
        found = []
    # Without runs of blanks, over which expressions may go again and again.
    lines = "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
    return found or [dict((_XML if text.startswith("<") else _PAIR).findall(lines))]


class _Loader(yaml.SafeLoader):
    """Without references: a few lines of them can stand for a billion values."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references (*name) are not read")
        return super().compose_node(parent, index)


def _colmap(row: list[str], path: str | Path) -> Camera:
    """A line of cameras.txt. COLMAP's pixel centres are at one half."""
    _, model, w, h, *words = row
    if model not in _COLMAP:
        raise InputError(f"{path}: COLMAP's model {model} is not supported: undistort first")
    count, distortion = _COLMAP[model]
    numbers = [float(word) for word in words]
    focal, centre, rest = numbers[:count], numbers[count : count + 2], numbers[count + 2 :]
    if distortion == "radial":
        rest = [*rest, 0, 0, 0][:4] if len(rest) < 3 else rest
    K = _matrix([focal[0], focal[-1], centre[0] - 0.5, centre[1] - 0.5])
    return Camera(K, (int(h), int(w)), lens(distortion, rest, path))


def _walk(content: Any, path: str | Path, depth: int = 0) -> Iterator[Camera]:  # noqa: ANN401
    """Every camera in nested dictionaries and lists."""
    whole = content
    if depth > 8:
        raise ValueError("too deep")
    if isinstance(content, dict):
        flat = {_plain_key(key): value for key, value in content.items()}
        try:
            camera = _camera(flat, path)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: the numbers of its camera cannot be read ({one_line(error)})"
            ) from error
        if camera is not None:
            yield camera
            return
        content = list(content.values())
    if isinstance(content, list):
        if depth and all(isinstance(value, int | float) for value in content):
            return
        if (
            not depth
            and content is whole
            and all(isinstance(v, int | float | list) for v in content)
        ):
            yield Camera(_matrix(content))
            return
        for value in content:
            yield from _walk(value, path, depth + 1)


def _plain_key(key: object) -> str:
    """A key in small letters without anything else; of ORB-SLAM's Camera.fx the fx."""
    key = re.sub(r"^camera1?\.(type)?", lambda m: "cameramodel" * bool(m[1]), str(key).lower())
    return re.sub("[^a-z0-9]", "", key)


def _camera(flat: dict, path: str | Path) -> Camera | None:
    """The camera of one dictionary, its keys in small letters without anything else."""
    w, h = next(((flat[a], flat[b]) for a, b in _SIZES if a in flat and b in flat), (0, 0))
    if "resolution" in flat:  # Kalibr
        w, h = flat["resolution"]
    shape = (int(h), int(w)) if w and h else None
    focal = next(((flat[a], flat[b]) for a, b in _FOCAL if a in flat and b in flat), None)
    centre = next(((flat[a], flat[b]) for a, b in _CENTRE if a in flat and b in flat), None)
    matrix = next((_data(flat[k]) for k in _MATRICES if _data(flat.get(k)) is not None), None)
    if any(_differ(flat, key, key.replace("color", "depth")) for key in flat if "color" in key):
        raise InputError(
            f"{path}: cameras of colour and depth that differ: give fx fy cx cy of the one to "
            "which the images are aligned"
        )
    if focal and centre:
        K = _matrix([float(n) for n in (*focal, *centre)])
    elif matrix is not None:
        K = _matrix(matrix)
    elif _data(flat.get("p")) is not None:
        K = _matrix(_data(flat["p"]))
    elif "cameraanglex" in flat and shape:  # nerfstudio, Blender
        f = shape[1] / 2 / math.tan(float(flat["cameraanglex"]) / 2)
        K = _matrix([f, f, (shape[1] - 1) / 2, (shape[0] - 1) / 2])
    else:
        return None
    return Camera(K, shape, _lens_of(flat, path), _units_in_a_metre(flat), _rectified(flat))


def _units_in_a_metre(flat: dict) -> float | None:
    """Of the depth images, where a file says it and its meaning is certain."""
    scales = {k: v for k, v in flat.items() if isinstance(v, int | float) and 0 < v < np.inf}
    if "camk" in flat and "depthscale" in scales:  # of BOP: what makes millimetres of the numbers
        return 1000 / scales["depthscale"]
    for key in (*_PER_METRE, "depthscale", "scale"):
        if scales.get(key, 0) >= 100 or (key in scales and key in _PER_METRE):
            return float(scales[key])
    # Of RealSense: metres. In between, other tools mean other things.
    return 1 / scales["depthscale"] if scales.get("depthscale", 1) <= 0.01 else None


def _rectified(flat: dict) -> np.ndarray | None:
    """Of ROS' P or projection_matrix, 3x4, whose last column is the shift of a stereo pair."""
    numbers = _data(flat.get("p")) or _data(flat.get("projectionmatrix"))
    if numbers is None or len(numbers) != 12 or not numbers[0]:
        return None
    return np.array(numbers, np.float64).reshape(3, 4)[:, :3]


def _data(value: Any) -> list | None:  # noqa: ANN401
    """Numbers of a list, of text, or of OpenCV's {rows, cols, data}."""
    value = value.get("data") if isinstance(value, dict) else value
    if isinstance(value, str):
        words = re.sub(r"[\[\](),;]", " ", value).split()
        value = [float(word) for word in words] if words and _numeric(words) else None
    return value if isinstance(value, list) and value else None


def _numeric(words: list[str]) -> bool:
    return all(re.fullmatch(r"[-+.\deE]+", word) for word in words)


def _differ(flat: dict, colour: str, depth: str) -> bool:
    """Whether ScanNet's info.txt has other numbers for the depth camera."""
    if depth not in flat or not (words := str(flat[colour]).split()) or not _numeric(words):
        return False
    return not np.allclose(*(np.float64(str(flat[key]).split()) for key in (colour, depth)), 1e-3)


def _lens_of(flat: dict, path: str | Path) -> Lens | None:
    numbers = next((_data(flat[k]) for k in _DISTORTION if _data(flat.get(k)) is not None), None)
    model = next((flat[k] for k in _MODELS if isinstance(flat.get(k), str | int)), None)
    if flat.get("isfisheye") is True:
        model = "fisheye"
    if numbers is None:
        k = [float(flat.get(f"k{n}") or 0) for n in range(1, 7)]
        p = [float(flat.get(f"p{n}") or 0) for n in (1, 2)]
        if re.search("fish|equi|kannala", str(model).lower()):
            return lens(model, k[:4], path)
        if k[3] and "k5" not in flat:
            raise InputError(f"{path}: k4 without k5 and k6: name the distortion's model")
        if any(float(flat.get(key) or 0) for key in ("codx", "cody")):
            raise InputError(f"{path}: a centre of distortion (codx, cody) is not supported")
        numbers = [*k[:2], *p, *k[2:]]
    return lens(model, numbers, path)


def _matrix(numbers: Any) -> np.ndarray:  # noqa: ANN401
    """(3, 3) float64 of fx fy cx cy, or of a 3x3, 3x4 or 4x4 matrix by row or by column.

    Of a matrix by column the centre stands in the last row, which by row is 0 0 1.
    """
    values = np.asarray(numbers, np.float64).reshape(-1)
    if values.size == 4:
        fx, fy, cx, cy = values
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    shape = {9: (3, 3), 12: (3, 4), 16: (4, 4)}.get(values.size)
    if shape is None:
        raise ValueError(f"{values.size} numbers instead of 4, 9, 12 or 16")
    K = values.reshape(shape)
    if K.shape[1] == 4 and K[:3, 3].any():
        raise ValueError("a fourth column that is not zero")
    K = K[:3, :3]
    return K.T if K[2, :2].any() and not K[:2, 2].any() else K
