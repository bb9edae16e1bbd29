"""Arrays of .npz files that may come from anywhere: no code is run, and no more memory is taken
than an array of NYUv2 has.
"""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from errors import InputError, one_line

MAX_BYTES = 8 << 20  # of a file, and of an array in it; the largest of NYUv2 have 1 MB
# What NumPy writes, and 3D-Sketch wrote. Python's zipfile unpacks the others without a limit.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
# LZMA, too, is unpacked without a limit, but in pieces of so many packed bytes: 30 MB at most.
_PIECE = 4096


def read_array(path, key, kinds, size=None):
    """Read an array of an .npz.

    kinds: NumPy's letters for the types to accept, such as "biuf". size: number of values; None:
    any number.

    Not np.load: it allocates what a header asks for, and takes longer. Here sizes are judged
    before anything is unpacked. Raises InputError, naming the file, for anything but such an array.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: missing")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"the file has more than {MAX_BYTES} bytes")
        with zipfile.ZipFile(path) as archive:
            data = _unpack(archive, f"{key}.npy")
        file = io.BytesIO(data)
        shape, fortran_order, dtype = _read_header(file)
        count = math.prod(shape)
        if dtype.kind not in kinds or size not in (None, count):
            wanted = "numbers" if size is None else f"{size} numbers"
            raise ValueError(f"it is {dtype} {shape} instead of {wanted}")
        if len(data) - file.tell() != count * dtype.itemsize:
            raise ValueError("it is shorter or longer than its header says")
        values = np.frombuffer(data, dtype, offset=file.tell())
        return values.reshape(shape, order="F" if fortran_order else "C")
    except Exception as error:  # whatever zip files and their decompressors have in store
        raise InputError(
            f"{path}: no usable array {key} ({one_line(error)}); make or get the file again"
        ) from error


def _unpack(archive, name):
    """All bytes of a member, its checksum compared."""
    info = archive.getinfo(name)
    if info.compress_type not in _PACKINGS:
        raise ValueError(f"it is packed by method {info.compress_type}")
    if info.file_size > MAX_BYTES:
        raise ValueError(f"it has {info.file_size} bytes")
    with archive.open(info) as member:
        if info.compress_type != zipfile.ZIP_LZMA:
            return member.read(info.file_size)
        return b"".join(iter(lambda: member.read(_PIECE), b""))


def _read_header(file):
    """Shape, Fortran order and dtype of an .npy file."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
