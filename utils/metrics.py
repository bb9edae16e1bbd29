"""Scene completion (SC) and semantic scene completion (SSC) scores under both protocols."""

import torch
from torch import Tensor

from constants import CLASS_NAMES, IGNORE_INDEX, NO_PIXEL, NUM_CLASSES

PROTOCOLS = ("paper", "all_voxels", "known")  # see SSCMetrics
COLUMNS = ("prec.", "recall", "IoU", *CLASS_NAMES[1:], "avg.")


def confusion_matrix(truth: Tensor, prediction: Tensor, where: Tensor, num_classes: int) -> Tensor:
    """(num_classes, num_classes) int64: rows truth, columns prediction, over the voxels `where`.

    Voxels elsewhere go to a bin of their own: no shape depends on the data, so a GPU need not wait.
    """
    bins = num_classes * num_classes
    index = torch.where(where, truth * num_classes + prediction, bins)
    counts = torch.zeros(bins + 1, dtype=torch.int64, device=index.device)
    counts.scatter_add_(0, index, torch.ones_like(index))
    return counts[:bins].view(num_classes, num_classes)


def class_ratios(confusion: Tensor) -> dict[str, Tensor]:
    """Precision, recall and IoU of every class in per cent; 0 for a class that never occurs."""
    hit = confusion.diagonal().double()
    predicted, actual = confusion.sum(dim=0), confusion.sum(dim=1)
    return {
        "precision": 100 * hit / predicted.clamp(min=1),
        "recall": 100 * hit / actual.clamp(min=1),
        "iou": 100 * hit / (predicted + actual - confusion.diagonal()).clamp(min=1),
    }


def _table(sc: Tensor, ssc: Tensor) -> dict:
    occupied = {name: values[1].item() for name, values in class_ratios(sc).items()}
    iou = class_ratios(ssc)["iou"][1:]
    by_class = dict(zip(CLASS_NAMES[1:], iou.tolist(), strict=True))
    return {"sc": occupied, "ssc": {"iou": by_class, "miou": iou.mean().item()}}


class SSCMetrics:
    """Confusion counts pooled over scenes, and the scores made of them, by protocol.

    The paper's: SSC on voxels with label_weight and a label; SC (occupied or empty) on those of
    them that no pixel sees (mapping is 307200). Empty voxels in front of the surface have no
    label_weight, so false positives there cost nothing.
    all_voxels: SC and SSC on every voxel with a label (as MonoScene evaluates).
    known: the same for the labels that a user gets, datasets.voxels.known_labels, where these are
    given: the network's, but for what the depth proves empty, and for the unknown (255), which
    counts as empty here.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        kind, protocols = {"dtype": torch.int64, "device": device}, len(PROTOCOLS)
        self.sc = torch.zeros(protocols, 2, 2, **kind)  # protocol, truth, prediction
        self.ssc = torch.zeros(protocols, NUM_CLASSES, NUM_CLASSES, **kind)

    def update(self, prediction: Tensor, batch: dict, known: Tensor | None = None) -> None:
        """Count a batch (of NYUDataset's samples).

        prediction: logits (B, 12, 60, 36, 60) float, or labels (B, 60, 36, 60) int in 0..11;
        known: (B, 60, 36, 60) int in 0..11 and 255.
        """
        if prediction.is_floating_point():
            prediction = prediction.argmax(dim=1)
        truth, prediction = batch["label3d"].flatten().long(), prediction.flatten().long()
        labelled = truth != IGNORE_INDEX
        scored = labelled & batch["label_weight"].flatten()
        hidden = scored & (batch["mapping"].flatten() == NO_PIXEL)
        self.to(truth.device)
        counted = [(prediction, hidden, scored), (prediction, labelled, labelled)]
        if known is not None:
            known = known.flatten().long()
            counted.append((torch.where(known == IGNORE_INDEX, 0, known), labelled, labelled))
        for i, (classes, sc_where, ssc_where) in enumerate(counted):
            self.sc[i] += confusion_matrix((truth > 0).long(), (classes > 0).long(), sc_where, 2)
            self.ssc[i] += confusion_matrix(truth, classes, ssc_where, NUM_CLASSES)

    def to(self, device: str | torch.device) -> "SSCMetrics":
        self.sc, self.ssc = self.sc.to(device), self.ssc.to(device)
        return self

    def merge(self, other: "SSCMetrics") -> None:
        """Add the counts of another part of the data."""
        self.to(other.sc.device)
        self.sc += other.sc
        self.ssc += other.ssc

    def compute(self) -> dict:
        """Scores in per cent of the paper's protocol, and the same under "all_voxels" and, where
        labels for it were given, "known":

        {"sc": {"precision", "recall", "iou"}, "ssc": {"iou": {class: value}, "miou": value}}. The
        mean is over the classes 1..11; a class that does not occur counts as 0.
        """
        paper, everything, known = map(_table, self.sc.cpu(), self.ssc.cpu())
        scores = {**paper, "all_voxels": everything}
        return scores | {"known": known} if self.ssc[2].any() else scores


def constant_prediction(metrics: SSCMetrics) -> tuple[str, SSCMetrics]:
    """The most frequent object class of the scored voxels, and its scores if predicted everywhere.

    A baseline for both tasks: its SC calls everything occupied.
    """
    metrics = metrics.to("cpu")
    constant, truth = SSCMetrics(), metrics.ssc.sum(dim=2)
    frequent = truth[0, 1:].argmax().item() + 1
    constant.ssc[:, :, frequent] = truth
    constant.sc[:, :, 1] = metrics.sc.sum(dim=2)
    return CLASS_NAMES[frequent], constant


def table_row(scores: dict) -> list[float]:
    """The scores of a protocol as the row of the paper's Table 1: its `COLUMNS`."""
    sc, ssc = scores["sc"], scores["ssc"]
    return [sc["precision"], sc["recall"], sc["iou"], *ssc["iou"].values(), ssc["miou"]]


def protocol_rows(scores: dict) -> dict[str, list[float]]:
    """`table_row` under each protocol, by its name."""
    others = {name: table_row(scores[name]) for name in PROTOCOLS[1:] if name in scores}
    return {PROTOCOLS[0]: table_row(scores)} | others


def format_table(rows: dict[str, list[float]]) -> str:
    """A text table with one decimal, as in the paper: {row name: `table_row`}."""
    width = max(len(name) for name in rows)
    lines = [f"{'':{width}}  " + " ".join(f"{column:>7}" for column in COLUMNS)]
    for name, values in rows.items():
        lines.append(f"{name:{width}}  " + " ".join(f"{value:7.1f}" for value in values))
    return "\n".join(lines)
