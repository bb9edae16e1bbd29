"""Images and poses that belong together by their time, as TUM's RGB-D data sets are written."""

from pathlib import Path

import numpy as np

from datasets.files import read_text
from errors import InputError

WITHIN = 0.02  # seconds; what TUM's associate.py takes
_ROUNDING = 1e-6  # of seconds since 1970 in double precision
_MAX_LIST = 1 << 24  # bytes


def stamp_of(word: str) -> float | None:
    """Seconds, of a word that is a number."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def match_times(first: list[float], second: list[float]) -> list[tuple[int, int]]:
    """Pairs of indices, the closest times first chosen, each index once; sorted by the first."""
    order = np.argsort(second, kind="stable")
    times = np.asarray(second, float)[order]
    reach = WITHIN + _ROUNDING
    pairs = [
        (abs(time - times[k]), i, int(order[k]))
        for i, time in enumerate(first)
        for k in range(*np.searchsorted(times, [time - reach, time + reach]))
    ]
    chosen, taken = {}, set()
    for _, i, j in sorted(pairs):
        if i not in chosen and j not in taken:
            chosen[i] = j
            taken.add(j)
    return sorted(chosen.items())


def rows_of(path: Path) -> list[list[str]]:
    """The words of each line that is no comment."""
    lines = read_text(path, limit=_MAX_LIST).splitlines()
    return [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def read_stamped_files(path: Path) -> list[tuple[float, Path]]:
    """A list like rgb.txt: a time and a file a line."""
    found = []
    for words in rows_of(path):
        stamp = stamp_of(words[0])
        if stamp is None or len(words) < 2:
            raise InputError(f"{path}: write a time and a file on each line, as TUM's rgb.txt has")
        found.append((stamp, path.parent / " ".join(words[1:])))
    return found


def is_trajectory(path: Path) -> bool:
    """Whether a text file has a time and seven numbers on its first line."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    first = next(iter(rows_of(path)), [])
    return len(first) == 8 and all(_is_number(word) for word in first)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class Trajectory:
    """Camera-to-world poses by time: lines `time tx ty tz qx qy qz qw`."""

    def __init__(self, path: Path) -> None:
        try:
            rows = np.array(rows_of(path), dtype=np.float64).reshape(-1, 8)
        except ValueError:
            raise InputError(
                f"{path}: write `time tx ty tz qx qy qz qw` on each line, as TUM's groundtruth.txt"
            ) from None
        rows = rows[np.isfinite(rows[:, 0])]
        self.path, self.rows = path, rows[np.argsort(rows[:, 0], kind="stable")]

    def pose_at(self, time: float) -> np.ndarray:
        """(4, 4) float32, the nearest in time; InputError without a usable one within reach."""
        if len(self.rows):
            row = self.rows[np.abs(self.rows[:, 0] - time).argmin()]
            if abs(row[0] - time) <= WITHIN + _ROUNDING:
                return pose_matrix(row[1:], self.path)
        raise InputError(f"{self.path}: no pose within {WITHIN} s of {time:.6f}")


def pose_matrix(numbers: np.ndarray, path: Path) -> np.ndarray:
    """(4, 4) float32 of tx ty tz qx qy qz qw."""
    from scipy.spatial.transform import Rotation  # takes half a second

    length = np.linalg.norm(numbers[3:])
    if not np.isfinite(numbers).all() or abs(length - 1) > 0.01:
        raise InputError(f"{path}: the pose of this frame was lost (no unit quaternion)")
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = Rotation.from_quat(numbers[3:]).as_matrix()
    pose[:3, 3] = numbers[:3]
    return pose
