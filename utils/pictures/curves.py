"""Curves of a training run."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.files import atomic_file

# Title -> column -> name in the legend; the losses are unweighted, the total is not.
_PANELS = {
    "Loss": {
        "total": "total", "loss_3d": "3D", "loss_2d": "2D", "lovasz": "Lovász",
        "affinity": "affinity",
        "kd_t": "KD-T", "kd_sc": "KD-SC", "kd_sa": "KD-SA",
    },
    "Score, %": {
        "sc_iou": "SC IoU", "ssc_miou": "SSC mIoU", "all_voxels_ssc_miou": "SSC mIoU, all voxels",
    },
    "Learning rate": {"lr": None},
}  # fmt: skip


def save_training_curves(path: str | Path, history: list[dict[str, float]]) -> None:
    """Draw losses, learning rate and, where there are any, the scores of each epoch into a PNG.

    history: the rows of metrics.csv; those of epochs without evaluation have no scores.
    """
    panels = {}
    for title, names in _PANELS.items():
        curves = {name: _curve(history, column) for column, name in names.items()}
        panels[title] = {name: curve for name, curve in curves.items() if len(curve)}
    panels = {title: curves for title, curves in panels.items() if curves}
    figure = Figure(figsize=(5.5 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, curve in curves.items():
            axis.plot(*curve.T, ".-", label=name)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
        if title == "Loss":
            axis.set_yscale("log")  # the distillation losses are small beside the others
        else:
            axis.set_ylim(bottom=0)
        if len(curves) > 1:
            axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _curve(history: list[dict[str, float]], column: str) -> np.ndarray:
    """Epochs and values of a column, (n, 2), where it has a number."""
    points = [(row["epoch"], row.get(column, np.nan)) for row in history]
    return np.array([point for point in points if np.isfinite(point[1])])
