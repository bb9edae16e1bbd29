"""Names of the original's entries."""

from models.checkpoints import ORIGINAL_PREFIXES


def to_original_name(key):
    """The original's name of one of our entries."""
    for old, new in ORIGINAL_PREFIXES.items():
        if key.startswith(new):
            return old + key[len(new) :]
    return key
