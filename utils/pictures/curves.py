"""Curves of a training run, from the metrics.csv that it writes."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from errors import InputError
from utils.files import atomic_file

# Column -> name in the legend; the losses are unweighted, the total is not.
LOSSES = {
    "total": "total", "loss_3d": "3D", "loss_2d": "2D",
    "kd_t": "KD-T", "kd_sc": "KD-SC", "kd_sa": "KD-SA",
}  # fmt: skip
SCORES = {
    "sc_iou": "SC IoU",
    "ssc_miou": "SSC mIoU",
    "all_voxels_ssc_miou": "SSC mIoU, all voxels",
}


def save_training_curves(path: str | Path, metrics_csv: str | Path) -> None:
    """Draw losses, learning rate and, where there are any, the scores of each epoch into a PNG.

    Args:
        path: the PNG to write.
        metrics_csv: logs/<run>/metrics.csv; of epochs without evaluation the scores are empty.

    Raises:
        InputError: the CSV is missing or broken, or the PNG cannot be written.
    """
    columns = read_metrics(metrics_csv)
    panels = {"Loss": LOSSES, "Score, %": SCORES, "Learning rate": {"lr": None}}
    panels = {
        title: {column: name for column, name in names.items() if column in columns}
        for title, names in panels.items()
    }
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        raise InputError(f"{metrics_csv}: neither losses nor scores in it; is it another file?")

    figure = Figure(figsize=(5.5 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for column, name in names.items():
            known = np.isfinite(columns[column])
            axis.plot(columns["epoch"][known], columns[column][known], ".-", label=name)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
        if title == "Loss":
            axis.set_yscale("log")  # the distillation losses are small beside the others
        else:
            axis.set_ylim(bottom=0)
        if len(names) > 1:
            axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)


def read_metrics(path: str | Path) -> dict[str, np.ndarray]:
    """The columns of a metrics.csv as floats, one value an epoch; NaN where a field is empty.

    Columns without any value are left out.

    Raises:
        InputError: it is missing, has no epoch, a line too short or too long, or text for a number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if "epoch" not in header or not rows:
            raise ValueError("no column epoch, or no epoch")
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise ValueError(f"line {number} has {len(row)} fields, not {len(header)}")
        values = np.array([[float(field) if field else np.nan for field in row] for row in rows])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not the metrics.csv of a run ({reason})") from None
    columns = dict(zip(header, values.T, strict=True))
    if not np.isfinite(columns["epoch"]).all():
        raise InputError(f"{path}: not the metrics.csv of a run (an epoch without a number)")
    return {name: column for name, column in columns.items() if np.isfinite(column).any()}
