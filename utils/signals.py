"""SIGTERM and SIGINT, obeyed when it is safe."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

GRACE = 60  # seconds that a process which reads data lives on after SIGTERM


class Stopped(SystemExit):
    """The end of a run that was asked to stop; the exit status is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class StopSignals:
    """Inside this context a signal is noted in `number` (0: none), for the loop to obey."""

    def __init__(self) -> None:
        self.number, self._now = 0, False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.number:  # launchers may send it more than once
            self.number = number
            if self._now:
                raise Stopped(number)

    def __enter__(self) -> "StopSignals":
        both = signal.SIGTERM, signal.SIGINT
        self._before = {number: signal.signal(number, self._handle) for number in both}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Here a signal raises Stopped: nothing is lost that is not made again quickly."""
        self._now = True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self._now = False


def wait_for_main(worker: int) -> None:
    """Let a worker of a DataLoader outlive signals that were sent to the whole job.

    The main process needs its workers until the step is done, and ends them itself then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # Windows has none, nor sends SIGTERM
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
