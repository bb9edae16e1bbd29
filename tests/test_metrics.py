"""Metrics, tables and PLY files against golden numbers and scikit-learn."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score
from weights_rule import z_values

from constants import CLASS_NAMES, IGNORE_INDEX, NO_PIXEL
from utils.metrics import (
    SSCMetrics,
    constant_prediction,
    format_table,
    protocol_rows,
    table_row,
)
from utils.pictures.picture import write_ply


def fake_prediction(seed, label3d):
    """The rule of the golden file for predictions that need no network."""
    z = z_values(f"fakepred|{seed}", 2 * 129600).reshape(2, 129600)
    label = np.where(label3d == 255, 0, label3d)
    random = np.clip(np.floor((z[1] + 0.5) * 3), 0, 11).astype(np.int64)
    return np.where(z[0] < 0.4, label, random)


@pytest.fixture(scope="module")
def predictions(golden_batch):
    """Two generated scenes and their fake predictions, (2, 60, 36, 60)."""
    batch = golden_batch([0, 1])
    fakes = [fake_prediction(seed, batch["label3d"][seed].flatten().numpy()) for seed in (0, 1)]
    return batch, torch.from_numpy(np.stack(fakes)).view(2, 60, 36, 60)


def first(batch, n):
    return {key: value[:n] for key, value in batch.items()}


@pytest.mark.parametrize(("scenes", "key"), [(1, "seed0"), (2, "seeds01")])
def test_equal_to_the_originals_metrics(scenes, key, golden, predictions):
    expected = golden("golden_pieces.json")["metrics"][key]
    batch, prediction = predictions
    metrics = SSCMetrics()
    metrics.update(prediction[:scenes], first(batch, scenes))
    scores = metrics.compute()
    assert metrics.ssc[0].tolist() == expected["cm_SSC"]
    assert metrics.sc[0].tolist() == expected["cm_SC"]
    for name, theirs in {"iou": "IoU", "precision": "precision", "recall": "recall"}.items():
        assert scores["sc"][name] == pytest.approx(expected[f"SC_{theirs}"], abs=1e-4)
    by_class = list(scores["ssc"]["iou"].values())
    assert by_class == pytest.approx(expected["SSC_iou"][1:], abs=1e-4)
    assert scores["ssc"]["miou"] == pytest.approx(expected["SSC_mIoU_1_11"], abs=1e-4)


def test_the_baseline_is_the_best_constant_prediction(predictions):
    batch, prediction = predictions
    metrics = SSCMetrics()
    metrics.update(prediction, batch)
    name, baseline = constant_prediction(metrics)
    scores = baseline.compute()
    constants = {}
    for label, class_name in enumerate(CLASS_NAMES[1:], start=1):
        constant = SSCMetrics()
        constant.update(torch.full_like(prediction, label), batch)
        constants[class_name] = constant.compute()
    assert scores == constants[name]
    assert scores["ssc"]["miou"] == max(other["ssc"]["miou"] for other in constants.values())
    assert scores["sc"]["recall"] == 100


@pytest.mark.parametrize("protocol", ["paper", "all_voxels"])
def test_equal_to_scikit_learn(protocol, predictions):
    batch, prediction = predictions
    metrics = SSCMetrics()
    metrics.update(prediction, batch)
    scores = metrics.compute()
    labelled = batch["label3d"] != IGNORE_INDEX
    scored = labelled & batch["label_weight"] if protocol == "paper" else labelled
    hidden = scored & (batch["mapping"] == NO_PIXEL) if protocol == "paper" else labelled
    scores = scores if protocol == "paper" else scores["all_voxels"]

    truth, guess = batch["label3d"][scored].numpy(), prediction[scored].numpy()
    expected = 100 * jaccard_score(truth, guess, labels=range(1, 12), average=None)
    assert list(scores["ssc"]["iou"]) == list(CLASS_NAMES[1:])
    assert list(scores["ssc"]["iou"].values()) == pytest.approx(expected.tolist())
    assert scores["ssc"]["miou"] == pytest.approx(expected.mean())
    truth, guess = batch["label3d"][hidden].numpy() > 0, prediction[hidden].numpy() > 0
    for name, score in {
        "precision": precision_score, "recall": recall_score, "iou": jaccard_score,
    }.items():  # fmt: skip
        assert scores["sc"][name] == pytest.approx(100 * score(truth, guess))


def test_known_labels_count_over_all_voxels_and_unknown_ones_as_empty(predictions):
    batch, prediction = predictions
    known = prediction.clone()
    known[:, :20], known[:, 20:30] = IGNORE_INDEX, 0
    metrics, oracle = SSCMetrics(), SSCMetrics()
    metrics.update(prediction, batch, known)
    oracle.update(torch.cat([torch.zeros_like(known[:, :30]), prediction[:, 30:]], dim=1), batch)
    scores = metrics.compute()
    assert scores["known"] == oracle.compute()["all_voxels"] != scores["all_voxels"]
    assert list(protocol_rows(scores)) == ["paper", "all_voxels", "known"]
    assert list(protocol_rows(oracle.compute())) == ["paper", "all_voxels"]


def test_logits_count_like_their_argmax_and_scenes_add_up(predictions):
    batch, prediction = predictions
    logits = torch.nn.functional.one_hot(prediction, 12).permute(0, 4, 1, 2, 3).float()
    whole, pooled = SSCMetrics(), SSCMetrics()
    whole.update(logits, batch)
    for i in range(2):
        scene = SSCMetrics()
        scene.update(prediction[i : i + 1], {k: v[i : i + 1] for k, v in batch.items()})
        pooled.merge(scene)
    assert whole.compute() == pooled.compute()
    scored = batch["label_weight"] & (batch["label3d"] != IGNORE_INDEX)
    oracle = confusion_matrix(batch["label3d"][scored], prediction[scored], labels=range(12))
    assert whole.ssc[0].tolist() == oracle.tolist()


def test_a_class_that_never_occurs_counts_as_zero():
    batch = {
        "label3d": torch.full((1, 60, 36, 60), 2),
        "label_weight": torch.ones(1, 60, 36, 60, dtype=torch.bool),
        "mapping": torch.full((1, 60, 36, 60), NO_PIXEL),
    }
    metrics = SSCMetrics()
    metrics.update(batch["label3d"], batch)
    scores = metrics.compute()
    assert scores["ssc"]["iou"]["floor"] == 100
    assert scores["ssc"]["miou"] == pytest.approx(100 / 11)


def test_the_table_has_the_papers_order_and_rounding():
    by_class = dict(zip(CLASS_NAMES[1:], range(11), strict=True))
    scores = {
        "sc": {"iou": 75.04, "precision": 88.0, "recall": 83.5},
        "ssc": {"iou": by_class, "miou": 47.66},
    }
    header, row = format_table({"CleanerS": table_row(scores)}).splitlines()
    assert header.split()[:4] == ["prec.", "recall", "IoU", "ceiling"]
    assert row.split() == (
        ["CleanerS", "88.0", "83.5", "75.0"] + [f"{i}.0" for i in range(11)] + ["47.7"]
    )


def test_ply_is_the_originals_byte_for_byte(golden, golden_batch, tmp_path):
    pieces = golden("golden_pieces.json")
    path = tmp_path / "small.ply"
    assert write_ply(path, np.array(pieces["ply_input"]))
    assert path.read_text() == pieces["ply_text"]

    batch = golden_batch([0])
    shown = torch.where(batch["label_weight"], batch["label3d"], 0)[0].numpy()
    write_ply(path, shown)
    assert path.stat().st_size == pieces["ply_gt_seed0"]["bytes"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest[:16] == pieces["ply_gt_seed0"]["sha256_16"]


@pytest.mark.parametrize("value", [0, IGNORE_INDEX])
def test_nothing_to_draw_writes_no_ply(value, tmp_path):
    assert not write_ply(tmp_path / "empty.ply", np.full((3, 4, 5), value))
    assert not list(tmp_path.iterdir())
