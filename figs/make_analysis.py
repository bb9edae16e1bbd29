"""What a trained network gets right and wrong, as pictures, from a checkpoint and test scenes.

    python figs/make_analysis.py --pretrained_path checkpoint/nyu_small_student.pth
        [data.root=data/NYU output=docs/results/nyu_small ...]

Writes into the folder `output`: confusion.png, scenes.png (histograms of the scores of single
scenes), best.png and worst.png (the ten scenes with the highest and lowest SSC mIoU over the
classes that occur in them: prediction, ground truth, errors). No picture shows an image of NYUv2.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import parse_settings
from constants import CLASS_NAMES
from datasets.nyu import build_dataset
from errors import exit_on_input_error
from utils.checkpoint import read_network
from utils.evaluation import evaluate
from utils.files import atomic_file
from utils.loading import loader_processes
from utils.metrics import SSCMetrics
from utils.pictures.exhibit import Exhibit
from utils.pictures.picture import render_volumes

SHOWN = 10  # best and worst scenes
PANEL = (240, 320)  # height, width of a picture of a scene


def occurring_miou(metrics: SSCMetrics) -> float:
    """Mean IoU in per cent over the object classes that occur in the truth of a scene."""
    iou = metrics.compute()["ssc"]["iou"]
    occurs = metrics.ssc[0, 1:].sum(dim=1) > 0
    values = [value for value, there in zip(iou.values(), occurs, strict=True) if there]
    return float(np.mean(values)) if values else 0.0


def save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight")


def confusion_shares(metrics: SSCMetrics) -> np.ndarray:
    """(12, 12): of the evaluated voxels of each class (rows), the per cent predicted as each."""
    counts = metrics.ssc[0].numpy()
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def draw_confusion(path: Path, share: np.ndarray) -> None:
    figure = Figure(figsize=(7.5, 6.5), dpi=100)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(share.shape):
        color = "white" if share[row, column] > 50 else "black"
        text = f"{share[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=45, ha="right")
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    title = "Per cent of the evaluated voxels of a class"
    axes.set(xlabel="prediction", ylabel="ground truth", title=title)
    save(figure, path)


def draw_histograms(path: Path, sc_iou: list[float], ssc_miou: list[float]) -> None:
    figure = Figure(figsize=(9, 3.2), dpi=100)
    titles = "SC IoU", "SSC mIoU over the classes in the scene"
    for axes, title, values in zip(figure.subplots(1, 2), titles, (sc_iou, ssc_miou), strict=True):
        axes.hist(values, bins=range(0, 101, 5), color="#0072b2", edgecolor="white")
        median = np.median(values)
        axes.axvline(median, color="#d55e00", label=f"median {median:.1f}")
        axes.set(xlim=(0, 100), xlabel=f"{title}, %", ylabel="scenes")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.tight_layout()
    save(figure, path)


def draw_scenes(path: Path, exhibits: list[Exhibit], captions: list[str]) -> None:
    """A row a scene, without what the camera saw."""
    titles = "Prediction", "Ground truth", "Errors"
    height, width = (side / 100 for side in PANEL)
    figure = Figure(figsize=(3 * width, len(exhibits) * height), dpi=100)
    spacing = {"wspace": 0, "hspace": 0.1}
    rows = figure.subplots(len(exhibits), 3, squeeze=False, gridspec_kw=spacing)
    for row, exhibit, caption in zip(rows, exhibits, captions, strict=True):
        pictures = render_volumes(exhibit, PANEL)
        for axes, title in zip(row, titles, strict=True):
            axes.imshow(pictures[title])
            axes.set_axis_off()
            axes.set_title(title if axes is not row[0] else caption, fontsize=9)
    save(figure, path)


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of what a network gets right and wrong.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    args = parse_settings(parser)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, cfg, volume = read_network(args.pretrained_path, args.overrides)
    dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)
    output = Path(cfg.output or "visual_pred")
    predictions = {}

    def keep(name: str, labels: torch.Tensor, _batch: dict) -> None:
        predictions[name] = labels.to("cpu", torch.uint8).numpy()

    how = cfg.train.precision, loader_processes(cfg), keep
    metrics, scenes = evaluate(model.to(device), dataset, volume, device, *how)
    ssc_miou = [occurring_miou(scene) for scene in scenes.values()]
    sc_iou = [scene.compute()["sc"]["iou"] for scene in scenes.values()]
    draw_confusion(output / "confusion.png", confusion_shares(metrics))
    draw_histograms(output / "scenes.png", sc_iou, ssc_miou)

    order = np.argsort(ssc_miou)
    for name, indices in (("best", order[::-1][:SHOWN]), ("worst", order[:SHOWN])):
        shown = [dataset.scenes[i] for i in indices]
        exhibits = [Exhibit.of_files(scene, predictions[scene.name]) for scene in shown]
        captions = [
            f"{scene.name}: SC IoU {sc_iou[i]:.0f}, SSC mIoU {ssc_miou[i]:.0f}"
            for i, scene in zip(indices, shown, strict=True)
        ]
        draw_scenes(output / f"{name}.png", exhibits, captions)
    print(f"written: {output}/confusion.png, scenes.png, best.png, worst.png")


if __name__ == "__main__":
    main()
