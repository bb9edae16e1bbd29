"""One run writes a checkpoint: a file beside it says which."""

import contextlib
import os
import socket
from pathlib import Path

from errors import InputError


class RunLock:
    """`<path>.lock`, with the host and the number of the process that writes `path`.

    A lock of a process that is gone is taken over, as far as that can be known: on the same host.
    Raises InputError where another run holds it.
    """

    def __init__(self, path: Path) -> None:
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
            host, number = self.path.read_text(encoding="utf-8").split()
            number = int(number)
        except (OSError, ValueError):  # taken away meanwhile, or cut off by a full disk
            return
        if host != socket.gethostname() or _is_another_that_runs(number):
            raise InputError(
                f"{self.path}: process {number} on {host} writes this checkpoint: two runs must "
                "not; wait for it, give another path, or remove this file if that run is gone"
            )

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


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
