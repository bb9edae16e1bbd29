"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from errors import InputError


@contextlib.contextmanager
def atomic_file(path: str | Path, backup: str | Path | None = None) -> Iterator[BinaryIO]:
    """A binary file to write to that replaces `path` only when complete; makes the folder.

    backup: where the older file of that name goes, in the same folder; None: away. Raises
    InputError if it cannot be written (full disk, read-only folder); an older file then stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        os.fsync(descriptor)


def check_writable(path: str | Path) -> None:
    """Raise the InputError of `atomic_file` now, rather than after an epoch of training."""
    probe = Path(path).with_name(f".{Path(path).name}.check")
    write_text(probe, "")
    probe.unlink(missing_ok=True)  # of two that check at once, the other may have removed it


def remove_temporaries(path: Path) -> None:
    """Remove what killed processes left of writing `path`; `folder / "*"`: of any of its files."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(text.encode())
