"""Image files that may come from anywhere: what a header claims is judged before it is decoded."""

import re
import stat
from pathlib import Path

import cv2
import numpy as np

from constants import IMAGE_SIZE
from errors import InputError

MAX_BYTES = 16 << 20  # of a file; 640x480 pixels of three 16-bit values have 1.8 MB
MAX_SCANS = 100  # of a progressive JPEG; encoders write about ten, and each takes the time of all

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)


def read_bytes(path):
    """All bytes of an image file. Raises InputError if it is missing, no file, or too large."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise InputError(f"{path}: not an image: no file, or larger than {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def decode(data, flags, path):
    """Decode a PNG or JPEG of 640x480, as cv2.imdecode. Raises InputError for anything else."""
    size = _declared_size(data)
    if size is not None and size != IMAGE_SIZE:
        raise InputError(f"{path}: {size[1]}x{size[0]} pixels; images of NYUv2 have 640x480")
    image = None
    is_whole = _is_whole_png if data.startswith(_PNG) else _is_whole_jpeg
    if size is not None and is_whole(data):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    if image is None:
        raise InputError(f"{path}: not an image, or damaged; get it again")
    if image.shape[:2] != IMAGE_SIZE:  # turned by the orientation that a JPEG asks for
        height, width = image.shape[:2]
        raise InputError(f"{path}: {width}x{height} pixels; images of NYUv2 have 640x480")
    return image


def _declared_size(data):
    """Height and width in the header of a PNG or JPEG; None without one."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if data.startswith(_JPEG):
        return _declared_size_of_jpeg(data)
    return None


def _is_whole_png(data):
    """Whether every chunk lies in the file: OpenCV takes the memory that a chunk asks for."""
    position = len(_PNG)
    while position < len(data) and data[position + 4 : position + 8] != b"IEND":
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return position + 12 <= len(data)


def _declared_size_of_jpeg(data):
    position = len(_JPEG)
    while marker := _MARKER.search(data, position):
        kind, position = marker[1][0], marker.end()
        if kind <= 0x01 or 0xD0 <= kind <= 0xD8:  # nothing belongs to it
            continue
        if kind in (0xD9, 0xDA):  # end, or pixels
            return None
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
            sizes = data[position + 3 : position + 7]
            return int.from_bytes(sizes[:2], "big"), int.from_bytes(sizes[2:], "big")
        position += int.from_bytes(data[position : position + 2], "big")
    return None


def _is_whole_jpeg(data):
    # Some versions of OpenCV make up the rest of a JPEG that was cut off, that is, of one without
    # an end-of-image marker behind its last start-of-scan marker.
    cut_off = data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return not cut_off and data.count(b"\xff\xda") <= MAX_SCANS
