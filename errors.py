"""The one error that a user can mend: a wrong file, setting or environment."""

import functools
import sys


class InputError(Exception):
    """An unusable file, folder or setting: one line that names it and says what to do."""


def exit_on_input_error(main):
    """Make an entry point print an InputError as one line on stderr and exit with status 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapper
