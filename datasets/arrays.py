"""The .npz files of the prepared data: read without trusting them, write them whole or not at all."""

import contextlib
import lzma
import math
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from errors import InputError

_MAX_ELEMENTS = 1 << 24
_BROKEN = (
    EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_array(path, key="arr_0", shape=(None,)):
    """One array of an .npz file, of the given shape (None: any length).

    The header is checked before anything is allocated, nothing is unpickled, the checksum is verified.
    Raises InputError naming the file if it is missing, damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            found, fortran_order, dtype = read_header(file)
            fits = len(found) == len(shape) and all(
                n in (None, m) for n, m in zip(shape, found, strict=True)
            )
            if not fits or math.prod(found) > _MAX_ELEMENTS or dtype.hasobject:
                wanted = tuple("any" if n is None else n for n in shape)
                raise InputError(
                    f"{path}: {key} is {dtype} of shape {found}, expected numbers of shape {wanted}"
                )
            data = file.read(math.prod(found) * dtype.itemsize)
            if file.read(1):  # reading to the end also makes zipfile verify the checksum
                raise ValueError("longer than its header says")
        return np.frombuffer(data, dtype).reshape(found, order="F" if fortran_order else "C")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except _BROKEN as error:
        reason = str(error).strip("'\"").splitlines() or [type(error).__name__]
        raise InputError(f"{path}: not a readable .npz with {key} ({reason[0]})") from None


def write_arrays(path, *arrays):
    """Write arr_0, arr_1, ... as a compressed .npz, creating the folder; atomic."""
    with atomic_file(path) as file:
        np.savez_compressed(file, *arrays)


@contextlib.contextmanager
def atomic_file(path):
    """A binary file to write to that appears at path only when complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
