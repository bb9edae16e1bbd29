"""Draw what each lever was worth on the validation scenes of NYUv2 (docs/RESULTS.md).

    python figs/make_levers.py docs/results/levers.csv docs/results/levers.png

A line of the file is a lever: what was trained, and SC IoU and SSC mIoU without and with it. How
they were measured is in docs/EXPERIMENTS.md.
"""

import argparse
import csv
import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from errors import InputError, exit_on_input_error
from utils.files import atomic_file

SCORES = {"sc_iou": "SC IoU, %", "ssc_miou": "SSC mIoU, %"}


def draw(levers: list[dict[str, str]]) -> Figure:
    """A line a lever and score, from without (the dot) to with it."""
    figure = Figure(figsize=(12, 0.9 + 0.42 * len(levers)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (column, title) in zip(axes, SCORES.items(), strict=True):
        for row, lever in enumerate(levers):
            before, after = float(lever[f"{column}_without"]), float(lever[column])
            color = "tab:green" if after > before else "tab:red"
            axis.plot([before, after], [row, row], color=color, linewidth=2)
            axis.plot(before, row, "o", color="0.5", markersize=5)
            axis.plot(after, row, ">" if after > before else "<", color=color, markersize=8)
            text = f"   {after - before:+.1f}"
            axis.text(max(before, after), row, text, va="center", color=color, fontsize=9)
        axis.set(title=title)
        axis.margins(x=0.2, y=0.2)
        axis.grid(axis="x", color="0.9")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    names = [f"{lever['lever']} ({lever['network']})" for lever in levers]
    axes[0].set_yticks(range(len(levers)), names)
    axes[0].invert_yaxis()
    return figure


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what each lever was worth.")
    parser.add_argument("levers", type=Path, help="CSV file")
    parser.add_argument("out", type=Path, help="PNG file")
    args = parser.parse_args()
    try:
        with open(args.levers, newline="", encoding="utf-8") as file:
            figure = draw(list(csv.DictReader(file)))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{args.levers} is not a table of levers: {error!r}") from error
    with atomic_file(args.out) as file:
        figure.savefig(file, format="png", dpi=110)


if __name__ == "__main__":
    main()
