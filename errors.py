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
            # From a worker of a DataLoader it comes as a traceback, the message at its end.
            message = str(error).splitlines()[-1].removeprefix("errors.InputError: ")
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)

    return wrapper
