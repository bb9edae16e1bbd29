"""Which turn makes a frame upright: what its depth says of it, and the verdict with its image's.

Scores are natural logarithms of likelihoods, up to a common constant, one for each of TURNS. Those
of the depth weigh what a room shows to an upright camera: floor and table tops below it, little
above it, and a camera that is rolled and tilted little. Wall, floor and ceiling are at right angles
in every turn, so this is weaker evidence than the image's (utils/upright.py).
"""

from typing import NamedTuple

import numpy as np

from datasets.frames.gravity import Patches, gravity_of_faces
from datasets.frames.turning import TURNS, turn_directions
from errors import InputError

SURE = 0.96  # probability from which a turn is believed
FOOLED = 0.2  # of the frames show a ceiling or a wall as if it were a floor: no depth is sure alone
CLEAR = 0.99  # that the image alone gives to the expected turn, so that the depth is not asked

_LEVEL = np.cos(np.radians(12))
_UPRIGHT = np.sin(np.radians(10))
# Of what `_view` gives, per unit; from runs/fit_upright.py, as is the image's part.
WEIGHTS = {
    "no floor": 0.91,
    "lowest": 2.97,
    "higher": 2.92,
    "room": 3.48,
    "above": -1.94,
    "roll": -0.11,
    "tilt": -0.83,
}


class Verdict(NamedTuple):
    turn: int  # one of TURNS, by which the images are to be turned
    sure: bool
    belief: str | None  # for the user; None where it is as expected


def views(faces: Patches) -> np.ndarray:
    """What the four turned cameras see, (4, 7), in the order of WEIGHTS. faces: of find_faces."""
    return np.array([_view(faces, turn) for turn in TURNS])


def depth_scores(faces: Patches) -> np.ndarray:
    """Scores (4,) of a depth image's faces."""
    chances = probabilities(views(faces) @ list(WEIGHTS.values()))
    return np.log((1 - FOOLED) * chances + FOOLED / len(TURNS))


def _view(faces: Patches, turn: int) -> list[float]:
    measured, points, normals = (turn_directions(a, turn) for a in faces[:3])
    try:
        gravity = gravity_of_faces(Patches(measured, points, normals, faces.areas))
    except InputError:
        return [1.0] + [0.0] * (len(WEIGHTS) - 1)
    heights, up = measured @ gravity, -(normals @ gravity)
    level, low = up > _LEVEL, points @ gravity > np.quantile(heights, 0.99) - 0.1
    room = np.mean((np.abs(up) < _UPRIGHT) | (np.abs(up) > np.cos(np.arcsin(_UPRIGHT))))
    roll, tilt = np.degrees(np.arcsin(gravity[[0, 2]]))
    return [
        0.0,
        np.sqrt(np.mean(level & low)),
        np.sqrt(np.mean(level & ~low)),
        room,
        np.mean(heights < 0),
        (roll / 10) ** 2,
        (tilt / 20) ** 2,
    ]


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Of the four turns, (4,), all as likely as each other before anything is seen."""
    likelihoods = np.exp(scores - scores.max())
    return likelihoods / likelihoods.sum()


def judge(scores: np.ndarray, expected: int = 0) -> Verdict:
    """The turn that scores (4,) speak for; expected: the one that is said where nothing is known.

    Where none is sure, the expected one is kept, and doubted.
    """
    chances = probabilities(scores)
    best = TURNS[int(np.argmax(chances))]
    if chances.max() >= SURE and best == expected:
        return Verdict(expected, True, None)
    if chances.max() >= SURE:
        belief = f"not upright: completed after turning it by {best} degrees clockwise"
        return Verdict(best, True, f"{belief}; if that is wrong, give --rotate {expected}")
    other = best if best != expected else "90|180|270"
    return Verdict(
        expected, False, f"it may not be upright: give --rotate {other}, or --rotate {expected}"
    )
