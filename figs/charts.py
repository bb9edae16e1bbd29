"""The command line of the scripts beside it that draw a CSV file."""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from errors import InputError, exit_on_input_error
from utils.files import atomic_file


@exit_on_input_error
def draw_table(description: str, draw: Callable[[list[dict[str, str]]], Figure]) -> None:
    """Draw the CSV file that the command line names first, into the PNG that it names second."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("table", type=Path, help="CSV file")
    parser.add_argument("out", type=Path, help="PNG file")
    args = parser.parse_args()
    try:
        with open(args.table, newline="", encoding="utf-8") as file:
            figure = draw(list(csv.DictReader(file)))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{args.table} is not a table for this chart: {error!r}") from error
    with atomic_file(args.out) as file:
        figure.savefig(file, format="png", dpi=110)
