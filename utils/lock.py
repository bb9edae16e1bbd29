"""One run writes a checkpoint, one command a folder: a file beside or in it says which."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from errors import InputError
from utils.files import check_writable


class RunLock:
    """`<path>.lock`, with the host and the number of the process that writes `path`.

    A lock of a process that is gone is taken over, as far as that can be known: on the same host.
    what: is written. Raises InputError where another run holds it.
    """

    def __init__(self, path: Path, what: str = "checkpoint") -> None:
        self.what = what
        self.path = path.with_name(f"{path.name}.lock")
        own = f"{socket.gethostname()} {os.getpid()}\n"
        try:
            with open(self.path, "x", encoding="utf-8") as file:
                file.write(own)
        except FileExistsError:
            self._check_holder()
            self.path.write_text(own, encoding="utf-8")

    def _check_holder(self) -> None:
        try:
            text = self.path.read_text(encoding="utf-8")
            if not text:  # made a moment ago: its owner may not have written yet
                time.sleep(0.2)
                text = self.path.read_text(encoding="utf-8")
            host, number = text.split()
            number = int(number)
        except (OSError, ValueError):  # taken away meanwhile, or cut off by a full disk
            return
        if host != socket.gethostname() or _is_another_that_runs(number):
            raise InputError(
                f"{self.path}: process {number} on {host} writes this {self.what}: two runs must "
                "not; wait for it, give another one, or remove this file if that run is gone"
            )

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


@contextlib.contextmanager
def sole_writer(*folders: Path) -> Iterator[None]:
    """A context in which no other process that asks for it writes to these folders; makes them."""
    with contextlib.ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders}):
            check_writable(folder / "prepare")
            stack.callback(RunLock(folder / "prepare", "folder").release)
        yield


def _is_another_that_runs(number: int) -> bool:
    if number == os.getpid():
        return False
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is someone else's
    return True
