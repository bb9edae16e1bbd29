"""The Markdown table of a folder of results, which runs/*.sh write: mean and spread over seeds.

    python runs/table.py docs/results/rooms

The folder holds ROW_seedN.csv, as test_NYU.py writes results.csv, a line a protocol (older ones
without `known`). The spread is the standard deviation over seeds, left out for a single one.
"""

import argparse
import csv
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from errors import InputError, exit_on_input_error
from utils.metrics import COLUMNS, PROTOCOLS


def read_rows(folder: Path) -> dict[tuple[str, str], list[list[float]]]:
    """(protocol, row) -> the scores of each seed, in the order of COLUMNS."""
    rows = {}
    for path in sorted(folder.glob("*_seed*.csv")):
        row = path.stem.partition("_seed")[0]
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        if tuple(line.get("protocol") for line in lines) not in (PROTOCOLS, PROTOCOLS[:2]):
            raise InputError(f"{path} is not the result of an evaluation: remove it, run it again")
        for scores in lines:
            try:
                values = [float(scores[column]) for column in COLUMNS]
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{path} is not the result of an evaluation") from error
            rows.setdefault((scores["protocol"], row), []).append(values)
    if not rows:
        raise InputError(f"{folder}: no results in it (ROW_seedN.csv)")
    return rows


def cell(values: tuple[float, ...]) -> str:
    """Mean and standard deviation."""
    text = f"{statistics.mean(values):.1f}"
    return f"{text} ± {statistics.stdev(values):.1f}" if len(values) > 1 else text


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Mean and spread of results over seeds.")
    parser.add_argument("folder", type=Path)
    rows = read_rows(parser.parse_args().folder)
    print(f"| protocol | | seeds | {' | '.join(COLUMNS)} |")
    print("|" + "---|" * (len(COLUMNS) + 3))
    for (protocol, row), seeds in sorted(rows.items(), reverse=True):
        cells = [cell(column) for column in zip(*seeds, strict=True)]
        print(f"| {protocol} | {row} | {len(seeds)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
