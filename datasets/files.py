"""Every file of arrays, images or numbers from outside is read here.

It may come from anywhere: no code in it is run, what its header claims is judged before memory is
taken for it, and whatever is wrong becomes one InputError that names it.
"""

import contextlib
import io
import itertools
import math
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, UnidentifiedImageError

from errors import InputError, one_line

MAX_ARRAY_BYTES = 8 << 20  # of an .npz, and of an array in it; the largest of NYUv2 have 1 MB
MAX_IMAGE_BYTES = 1 << 28
MAX_TEXT_BYTES = 1 << 16
MAX_PIXELS = 1 << 26
MAX_SCANS = 100  # of a progressive JPEG; encoders write about ten, and each takes the time of all
MAX_CHUNK = 1 << 26  # values that HDF5 unpacks at once
_ORIENTATION = 0x0112  # of EXIF
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "PPM", "BMP")
CONVERT = {  # what is not read, and what to make of it
    b"\x76\x2f\x31\x01": "an EXR: save its depth channel in metres as .npy, or colour as PNG",
    b"ftyphei": "a HEIC photo: save it as PNG or JPEG",
    b"ftypmif1": "a HEIC photo: save it as PNG or JPEG",
}


def read_bytes(path: str | Path, limit: int) -> bytes:
    """All bytes of a file that has at most `limit` of them."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: no file, but a folder or a device")
        if status.st_size > limit:
            raise InputError(f"{path}: too large: larger than {limit} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_text(path: str | Path, limit: int = MAX_TEXT_BYTES) -> str:
    """A text file in UTF-8 of at most `limit` bytes; a byte-order mark is dropped.

    UTF-16, which Windows' shells write, is read where its mark says so.
    """
    data = read_bytes(path, limit)
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read (not text in UTF-8)") from None


def read_array(path: str | Path, key: str, kinds: str, size: int | None = None) -> np.ndarray:
    """The array `key` of an .npz, of a type in `kinds` (NumPy's letters) and with `size` values."""
    packed = io.BytesIO(read_bytes(path, MAX_ARRAY_BYTES))
    try:
        with zipfile.ZipFile(packed) as archive:
            data = io.BytesIO(_unpack(archive, f"{key}.npy"))
        values = np.lib.format.read_array(data, allow_pickle=False)
        if values.dtype.kind not in kinds or size not in (None, values.size):
            wanted = "numbers" if size is None else f"{size} numbers"
            raise ValueError(f"it is {values.dtype} {values.shape} instead of {wanted}")
        if data.read(1):
            raise ValueError("it is longer than its header says")
        return values
    except Exception as error:  # whatever zip files and their decompressors have in store
        raise InputError(
            f"{path}: no usable array {key} ({one_line(error)}); make or get the file again"
        ) from error


def _unpack(archive: zipfile.ZipFile, name: str) -> bytes:
    """All bytes of a member, its checksum compared."""
    info = archive.getinfo(name)
    # What NumPy writes, and 3D-Sketch wrote. Python's zipfile unpacks the others without a limit.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        raise ValueError(f"it is packed by method {info.compress_type}")
    if info.file_size > MAX_ARRAY_BYTES:
        raise ValueError(f"it has {info.file_size} bytes")
    with archive.open(info) as member:
        if info.compress_type != zipfile.ZIP_LZMA:
            return member.read(info.file_size)
        # LZMA, too, is unpacked without a limit, but so many packed bytes at once: 30 MB at most.
        return b"".join(iter(lambda: member.read(4096), b""))


def read_npy(path: str | Path) -> np.ndarray:
    """The array of an .npy, of any type and shape."""
    data = read_bytes(path, 8 * MAX_PIXELS + 4096)
    if data.startswith(b"PK"):
        raise InputError(f"{path}: an .npz, not a NumPy array: give its array as .npy")
    try:
        raw = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy's reader of headers raises those of Python's own
        raise InputError(f"{path}: not a NumPy array ({one_line(error)})") from None
    if raw.size > MAX_PIXELS:
        raise InputError(f"{path}: {raw.size} values are more than {MAX_PIXELS} pixels")
    return raw


def read_rgb(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A colour image, of a height and width if given: (H, W, 3) uint8 RGB.

    Transparency is dropped, and a rotation that metadata ask for is not done: see read_photo.
    """
    return _rgb(open_image(path, size), path)


def read_photo(path: str | Path) -> tuple[np.ndarray, int]:
    """A colour image as stored, as read_rgb, and the degrees clockwise by which EXIF turns it.

    Raises InputError for one that EXIF mirrors.
    """
    image = open_image(path)
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # metadata may be damaged where the image is not
        orientation = 1
    if orientation in (2, 4, 5, 7):
        raise InputError(f"{path}: EXIF says that it is mirrored: save it as it is to be seen")
    return _rgb(image, path), {3: 180, 6: 90, 8: 270}.get(orientation, 0)


def _rgb(image: Image.Image, path: str | Path) -> np.ndarray:
    if image.mode not in ("RGB", "RGBA", "P"):
        raise InputError(
            f"{path}: a colour image is needed, not one of mode {image.mode}"
            + (": is it the depth?" if image.mode.startswith(("I", "F")) else "")
        )
    return np.array(image.convert("RGB"))


def read_depth_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A depth image as stored, of 16 bits or more, or an .npy: (H, W) of integers or floats."""
    if Path(path).suffix.lower() == ".npy":
        raw = read_npy(path)
    else:
        image = open_image(path, size)
        if image.mode == "L":
            raise InputError(
                f"{path}: 8 bits a pixel are a picture of the depth, not the depth: give the "
                "16-bit image of the sensor"
            )
        if not image.mode.startswith(("I", "F")):
            raise InputError(
                f"{path}: a colour image (mode {image.mode}), not depth (16-bit grey): are --rgb "
                "and --depth swapped?"
            )
        raw = np.array(image)
    if raw.ndim == 3 and raw.shape[2] == 1:
        raw = raw[..., 0]
    if raw.ndim != 2 or raw.dtype.kind not in "uif":
        raise InputError(f"{path}: depth must be (height, width) numbers, not {raw.shape}")
    return raw


def open_image(path: str | Path, size: tuple[int, int] | None = None) -> Image.Image:
    """An image, decoded whole."""
    data = read_bytes(path, MAX_IMAGE_BYTES)
    for mark, advice in CONVERT.items():
        if mark in data[:12]:
            raise InputError(f"{path}: {advice}")
    try:
        if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
            raise ValueError(f"more than {MAX_SCANS} scans")
        image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        found = f"{image.width}x{image.height} pixels"
        if size is not None and (image.height, image.width) != size:
            raise InputError(f"{path}: {found}; images of NYUv2 have {size[1]}x{size[0]}")
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"{path}: {found} are more than {MAX_PIXELS}")
        image.verify()  # checksums of a PNG, without which damaged pixels become black
        image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)  # verified, it is used up
        image.load()
        return image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image ({', '.join(IMAGE_FORMATS)})") from None
    except Exception as error:  # each image format of the library raises its own types
        raise InputError(
            f"{path}: not an image, or damaged ({one_line(error)}); get it again"
        ) from None


class _BoundedFile(io.FileIO):
    """A file for HDF5, which else reads as much as a damaged file asks for, past its end too."""

    def readinto(self, buffer: memoryview) -> int:
        size = memoryview(buffer).nbytes
        if size > MAX_CHUNK or super().readinto(buffer) != size:
            raise OSError(f"{size} bytes are to be read at once, or behind the end")
        return size


def count_mat_images(path: str | Path) -> int:
    """How many images the HDF5 file nyu_depth_v2_labeled.mat has."""
    wanted = "a folder nor the HDF5 file nyu_depth_v2_labeled.mat with images: is --rgb right?"
    with _images_of_mat(path, f"neither {wanted}") as (images, _):
        shape, dtype = images.shape, images.dtype
    if len(shape) != 4 or shape[1:] != (3, 640, 480) or dtype != np.uint8 or shape[0] > 9999:
        raise InputError(f"{path}: images is {dtype} {shape}, expected uint8 (n, 3, 640, 480)")
    return shape[0]


def read_mat_image(path: str | Path, index: int) -> np.ndarray:
    """Image `index`, from 0, of nyu_depth_v2_labeled.mat: (480, 640, 3) uint8 RGB."""
    with _images_of_mat(path, f"image {index} cannot be read") as (images, filters):
        if h5py.h5z.FILTER_DEFLATE in filters:
            _check_chunks(images, index, 1 << filters.index(h5py.h5z.FILTER_DEFLATE))
        return images[index].transpose(2, 1, 0)  # MATLAB's axes are reversed


@contextlib.contextmanager
def _images_of_mat(path: str | Path, wrong: str) -> Iterator[tuple[h5py.Dataset, list[int]]]:
    """The data set `images` and its filters, if it lies in the file and is packed as by MATLAB.

    Whatever else is the matter becomes an InputError that begins with `wrong`.
    """
    try:
        with _BoundedFile(path) as raw, h5py.File(raw) as file:
            if not isinstance(file.get("images", getlink=True), h5py.HardLink):
                raise ValueError("images lies in another file, or nowhere")
            images = file["images"]
            if images.is_virtual or images.external:
                raise ValueError("images lies in another file")
            size = math.prod(images.chunks or ())
            if size > MAX_CHUNK:
                raise ValueError(f"images has chunks of {size} values, more than {MAX_CHUNK}")
            properties = images.id.get_create_plist()
            filters = [properties.get_filter(n)[0] for n in range(properties.get_nfilters())]
            known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
            if not set(filters) <= known or len(filters) > len(set(filters)):
                raise ValueError("images is packed by other methods than MATLAB's")
            yield images, filters
    except Exception as error:  # whatever HDF5 has in store for damaged files
        raise InputError(f"{path}: {wrong} ({one_line(error)})") from None


def _check_chunks(images: h5py.Dataset, index: int, skipped: int) -> None:
    """Raise ValueError unless an image's chunks inflate to what they should: HDF5 has no limit.

    skipped: the bit of a chunk's mask that says that it is not deflated.
    """
    size = math.prod(images.chunks)
    first, *others = images.chunks
    starts = [range(0, n, c) for n, c in zip(images.shape[1:], others, strict=True)]
    for start in itertools.product([index // first * first], *starts):
        mask, packed = images.id.read_direct_chunk(start)
        unpacked = b"" if mask & skipped else zlib.decompressobj().decompress(packed, size + 1)
        if len(unpacked) > size:
            raise ValueError("a chunk is longer than it should be")
