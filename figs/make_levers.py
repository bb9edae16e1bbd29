"""Draw what each lever was worth on the validation scenes of NYUv2 (docs/RESULTS.md).

    python figs/make_levers.py docs/results/levers.csv docs/results/levers.png

A line of the file is a lever: what was trained, and SC IoU and SSC mIoU without and with it. How
they were measured is in docs/EXPERIMENTS.md.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figs.charts import draw_table

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


if __name__ == "__main__":
    draw_table("Draw what each lever was worth.", draw)
