"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from errors import InputError


def _temporary(path: Path, process: str) -> str:
    return f".{path.name}.{process}.tmp"


@contextlib.contextmanager
def atomic_file(path: str | Path, backup: str | Path | None = None) -> Iterator[BinaryIO]:
    """A binary file to write to that replaces `path` only when complete; makes the folder.

    backup: where the older file of that name goes, in the same folder; None: away. Raises
    InputError if it cannot be written (full disk, read-only folder); an older file then stays.
    """
    path = Path(path)
    temporary = path.with_name(_temporary(path, str(os.getpid())))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if backup is not None and path.exists():
            os.replace(path, backup)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): free space, or choose a folder "
            "that you may write to"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a renaming outlast a power failure, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(path: str | Path) -> None:
    """Raise the InputError of `atomic_file` now, rather than after an epoch of training."""
    path = Path(path)
    with atomic_file(path.with_name(f".{path.name}.check")):
        pass
    path.with_name(f".{path.name}.check").unlink()


def remove_temporaries(path: str | Path) -> None:
    """Remove what a killed process left of writing `path`; nobody else may be writing it.

    Its name may be a pattern: `folder / "*"` for every file of a folder.
    """
    path = Path(path)
    for temporary in path.parent.glob(_temporary(path, "*")):
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all. Raises InputError as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(text.encode())
