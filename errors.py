"""The errors that a user can mend: a wrong file, setting or environment."""

import functools
import io
import os
import re
import sys
from collections.abc import Callable
from datetime import timedelta


class InputError(Exception):
    """An unusable file, folder or setting: one line that names it and says what to do."""


def one_line(error: Exception) -> str:
    """The message of an exception, short, printable and on one line, or its type's name."""
    text = " ".join(str(error).split())
    return "".join(filter(str.isprintable, text))[:120] or type(error).__name__


# What libraries raise as a RuntimeError though nothing is wrong with the program.
ENVIRONMENT_ERRORS = {
    r"DataLoader worker .*(killed|exited)": (
        "a process that reads data was killed, mostly for want of memory: free memory (also in "
        "/dev/shm), or lower data.workers"
    ),
    r"gloo|closed by peer|Connection reset|nccl(Remote|System)Error|NCCL communicator .*abort": (
        "the connection to another process of this job broke: see that process's message"
    ),
    r"CUDA out of memory": (
        "the GPU's memory does not suffice: use train.recompute=true, or start anew with a lower "
        "train.batch_size and a higher train.accumulate, or with train.precision=bf16"
    ),
}


def explain(error: Exception) -> str | None:
    """One line for an error that a user can mend; None for any other."""
    if isinstance(error, InputError):
        # From a worker of a DataLoader it comes as a traceback, the message at its end.
        return str(error).splitlines()[-1].removeprefix("errors.InputError: ")
    if isinstance(error, RuntimeError):
        for pattern, meaning in ENVIRONMENT_ERRORS.items():
            if re.search(pattern, str(error)):
                reason = str(error).splitlines()[0][:200]
                return f"{meaning}; a training goes on with --resume ({reason})"
    return None


def _is_first_to_say(message: str) -> bool:
    """Whether no other process that torchrun started has said this."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        return True
    from torch.distributed import DistError, TCPStore

    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(*address, is_master=False, timeout=timedelta(seconds=10))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"error {attempt} {message}", 1) == 1
    except (KeyError, ValueError, DistError):  # better said twice than never
        return True


def exit_on_input_error(main: Callable) -> Callable:
    """Make an entry point print such an error as one line on stderr and exit with status 2.

    Of several processes under torchrun, one prints what all of them met. A terminal that lacks a
    letter of some name shows its number instead.
    """

    @functools.wraps(main)
    def wrapper(*args: object, **kwargs: object) -> object:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return main(*args, **kwargs)
        except (InputError, RuntimeError) as error:
            message = explain(error)
            if message is None:
                raise
            if _is_first_to_say(message):
                print(f"error: {message}", file=sys.stderr, flush=True)
            sys.exit(2)

    return wrapper
