"""Weights inside what libraries and habits wrap around them: dicts in dicts, prefixes of names."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from errors import InputError

# Under which a file may hold its state dict, beside epochs, optimisers and the like.
_NESTINGS = ("model", "net", "network", "state_dict", "model_state_dict", "model_state")
# What PyTorch adds to the names where a part is wrapped: by DataParallel, by compile, by FSDP.
_WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_(fsdp|checkpoint)_wrapped_module)\.")


def _check_state(state: object, path: str | Path) -> None:
    """Raise an InputError unless this is a state dict: tensors by names fit to print."""
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and key.isprintable() and len(key) <= 200 and isinstance(value, Tensor)
        for key, value in state.items()
    ):
        raise InputError(f"{path} holds no network weights")


def state_of(content: dict, path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file's content, under the names of the module that was wrapped."""
    state = content
    for _ in range(3):  # more has not been seen, and a dict may hold itself
        state = next((state[k] for k in _NESTINGS if isinstance(state.get(k), dict)), state)
    _check_state(state, path)
    state = {key: value for key, value in state.items() if key != "n_averaged"}  # AveragedModel's
    unwrapped = {_WRAPPERS.sub("", key): value for key, value in state.items()}
    if len(unwrapped) < len(state):
        raise InputError(f"{path} holds some weights twice, with and without `module.`")
    return unwrapped


def part_of(
    state: dict[str, Tensor], is_own: Callable[[str], bool], path: str | Path
) -> dict[str, Tensor]:
    """The network in a state dict that may hold it under a prefix (`backbone.`), and more beside.

    is_own: whether a name is one of the network's. Raises InputError where the names are found
    under two prefixes, one not clearly more than the other, because either could be meant.
    """
    found = Counter()
    for key in state:
        for place in (0, *(dot.end() for dot in re.finditer(r"\.", key))):
            if is_own(key[place:]):
                found[key[:place]] += 1
    prefixes = [prefix for prefix, count in found.items() if 2 * count > max(found.values())]
    if len(prefixes) > 1:
        raise InputError(
            f"{path} holds several networks ({', '.join(prefixes[:3])}): save one of them alone"
        )
    prefix = prefixes[0] if prefixes else ""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
