"""Draw the scores of networks that were taught free space, over its weight (docs/EXPERIMENTS.md).

    python figs/make_free_space.py docs/results/free_space.csv docs/results/free_space.png

A line of the file is a network in one protocol: its `loss.free_space`, and its scores on the
validation scenes of NYUv2. How they were measured is in docs/EXPERIMENTS.md.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figs.charts import draw_table

PROTOCOLS = {"paper": "the paper's voxels", "all_voxels": "all labelled voxels"}
SCORES = {
    "sc_precision": "precision, %",
    "sc_recall": "recall, %",
    "sc_iou": "SC IoU, %",
    "ssc_miou": "SSC mIoU, %",
}


def draw(rows: list[dict[str, str]]) -> Figure:
    """A panel a score, a line a protocol."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    axes = figure.subplots(1, len(SCORES))
    for axis, (column, title) in zip(axes, SCORES.items(), strict=True):
        for protocol, name in PROTOCOLS.items():
            own = [row for row in rows if row["protocol"] == protocol]
            weights = [float(row["free_space"]) for row in own]
            scores = [float(row[column]) for row in own]
            (line,) = axis.plot(weights, scores, "o-", label=name)
            for point in zip(weights, scores, strict=True):
                axis.annotate(
                    f"{point[1]:.1f}", point, (0, 6), textcoords="offset points", ha="center",
                    fontsize=8, color=line.get_color(),
                )  # fmt: skip
        axis.set(title=title, xlabel="weight of empty voxels", xscale="log")
        ticks = sorted({float(row["free_space"]) for row in rows})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.margins(x=0.15, y=0.2)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, loc="best")
    return figure


if __name__ == "__main__":
    draw_table("Draw scores over the weight of free space.", draw)
