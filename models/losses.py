"""Supervised losses, and the distillation losses KD-T, KD-SC and KD-SA (paper section 3.3).

Every loss of the paper is a sum over a part of the batch divided by a count. The counts of a whole
global batch (several processes, gradient accumulation) can be given, so that the partial losses add
up to what one process would compute on the whole.
"""

import functools
from collections.abc import Container
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from constants import IGNORE_INDEX, NUM_CLASSES, NUM_VOXELS, NYU_CLASS_VOXELS
from models.network import SSCOutput
from models.projection import Surface, by_voxel

PAPERS = ("loss_3d", "loss_2d")
SUPERVISED = (*PAPERS, "lovasz", "affinity")
DISTILLATION = ("kd_t", "kd_sc", "kd_sa")


class LossCounts(NamedTuple):
    """What the losses are means over."""

    samples: Tensor  # ()
    voxels: Tensor  # () supervised voxels, each as its weight
    pixels: Tensor  # () mapped pixels with a label


def supervised_voxels(batch: dict[str, Tensor]) -> Tensor:
    """(B, 129600) bool: where the loss and the paper's evaluation look."""
    return (batch["label_weight"] & (batch["label3d"] != IGNORE_INDEX)).flatten(1)


class Targets(NamedTuple):
    """What the losses look at in a batch: computed once a step, shared by all of them."""

    voxels: Tensor  # (V,) int64: flat indices in the batch of the supervised voxels, ascending
    labels: Tensor  # (V,) int64 in 0..11
    weights: Tensor | None  # (V,) float32 in their cross-entropy; None: all 1
    sizes: list[int]  # how many of the V each sample has
    pixel_labels: Tensor  # (P,) int64 in 0..11 and 255: of the voxel that each mapped pixel sees
    counts: LossCounts  # of this batch, or of the global one

    @classmethod
    def of(cls, batch: "dict[str, Tensor] | Targets", free_space: float = 0.0) -> "Targets":
        """Of a batch with label3d, label_weight (for voxels only) and mapping2d; or itself.

        free_space: the weight of empty voxels without label_weight, in free space and outside the
        view, beside which the occupied ones there count as all others do. 0: the paper's, which
        looks at neither.
        """
        if isinstance(batch, cls):
            return batch
        scored, labels = supervised_voxels(batch), batch["label3d"].flatten(1)
        supervised = labels != IGNORE_INDEX if free_space else scored
        voxels = supervised.flatten().nonzero().squeeze(1)
        sizes = supervised.sum(dim=1)
        weights, total = None, sizes.sum()
        if free_space:
            weights = torch.where(scored | (labels > 0), 1.0, free_space).flatten()[voxels]
            total = weights.sum()
        pixels = Surface.of(batch["mapping2d"]).pixels
        pixel_labels = labels.flatten()[pixels.sample * NUM_VOXELS + pixels.voxel]
        counts = LossCounts(
            torch.full((), len(labels), device=labels.device),
            total,
            (pixel_labels != IGNORE_INDEX).sum(),
        )
        voxel_labels = labels.flatten()[voxels]
        return cls(voxels, voxel_labels, weights, sizes.tolist(), pixel_labels, counts)


def at_least_single(x: Tensor) -> Tensor:
    """Half precision to float32; anything else stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@functools.cache
def class_weights(balance: float, device: torch.device | str = "cpu") -> Tensor:
    """(12,) float32: inverse frequency of the classes in NYUv2's training scenes, to a power.

    The power `balance` is 0 to weigh all voxels alike (the paper), 1 all classes. The mean over the
    supervised voxels of those scenes is 1, so that a loss keeps its size. Copied to a device once:
    not to be changed.
    """
    counts = torch.tensor(NYU_CLASS_VOXELS, dtype=torch.float64)
    weights = counts**-balance
    return (weights * counts.sum() / (weights * counts).sum()).float().to(device)


def _cross_entropy(
    logits: Tensor,
    labels: Tensor,
    count: Tensor,
    smoothing: float,
    balance: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Label-smoothed cross-entropy over (N, 12) logits; 0 where every label is ignored.

    The weight is that of a voxel's own class, for the smoothed part too (unlike PyTorch's).
    """
    loss = F.cross_entropy(
        at_least_single(logits), labels, ignore_index=IGNORE_INDEX, label_smoothing=smoothing,
        reduction="none",
    )  # fmt: skip
    if balance:  # an ignored voxel's loss is 0, whatever its weight
        balanced = class_weights(balance, loss.device).to(loss.dtype)
        loss = loss * balanced[labels.clamp(max=NUM_CLASSES - 1)]
    if weights is not None:
        loss = loss * weights
    return loss.sum() / count.clamp(min=1)


def lovasz_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-softmax of (N, 12) logits and (N,) labels; 0 where there are none."""
    from segmentation_models_pytorch.losses import LovaszLoss  # which takes seconds to import

    return LovaszLoss("multiclass")(logits, labels).sum()


def scene_class_affinity_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """MonoScene's semantic and geometric affinity losses of (N, 12) logits and (N,) labels.

    Minus the logarithms of precision, recall and specificity, counted with probabilities: mean over
    the classes present, empty among them, and once more for "occupied" (Cao and de Charette, CVPR
    2022, section 3.3.1). A ratio of nothing counts as 1, and none as less than 1e-6.
    """
    probabilities = logits.softmax(dim=1)
    truth = F.one_hot(labels, NUM_CLASSES).to(probabilities.dtype)
    probabilities = torch.cat([probabilities, 1 - probabilities[:, :1]], dim=1)
    truth = torch.cat([truth, 1 - truth[:, :1]], dim=1)
    hits, rejections = (probabilities * truth).sum(0), ((1 - probabilities) * (1 - truth)).sum(0)
    parts = torch.stack([hits, hits, rejections])
    wholes = torch.stack([probabilities.sum(0), truth.sum(0), (1 - truth).sum(0)])
    ratios = torch.where(wholes > 0, parts / wholes.clamp(min=1e-6), 1.0)
    minus_logs = -ratios.clamp(min=1e-6).log().sum(0)
    present = truth[:, :NUM_CLASSES].any(0)
    semantic = (minus_logs[:NUM_CLASSES] * present).sum() / present.sum().clamp(min=1)
    return semantic + minus_logs[NUM_CLASSES]


def supervised_losses(
    out: SSCOutput,
    batch: dict[str, Tensor] | Targets,
    label_smoothing: float = 0.2,
    class_balance: float = 0.0,
    names: Container[str] = PAPERS,
) -> dict[str, Tensor]:
    """Cross-entropy of the voxels (loss_3d) and of the mapped pixels (loss_2d), unweighted.

    Beside the paper's, two that neither smoothing nor weights touch: lovasz, the Lovász-softmax
    loss (Berman et al., CVPR 2018), which extends 1 - IoU of the classes to probabilities;
    affinity, see scene_class_affinity_loss. Both are counted over all voxels of the batch together,
    as the scores are: scene by scene, a class of a few voxels weighs as much as in a scene full of
    it. Of a global batch in parts they are the mean over the parts, each as its number of scenes.

    Returns scalars in at least single precision, of the losses in `names`.
    """
    targets, losses = Targets.of(batch), {}
    how, counts = (label_smoothing, class_balance), targets.counts
    if not {"loss_3d", "lovasz", "affinity"}.isdisjoint(names):
        rows = by_voxel(out.logits).index_select(0, targets.voxels)
    if "loss_3d" in names:
        losses["loss_3d"] = _cross_entropy(
            rows, targets.labels, counts.voxels, *how, targets.weights
        )
    for name, loss in (("lovasz", lovasz_loss), ("affinity", scene_class_affinity_loss)):
        if name in names:
            share = len(targets.sizes) / counts.samples
            losses[name] = loss(at_least_single(rows), targets.labels) * share
    if "loss_2d" in names:
        losses["loss_2d"] = _cross_entropy(out.logits_2d, targets.pixel_labels, counts.pixels, *how)
    return losses


def _class_shares(labels: Tensor) -> Tensor:
    """(N,) labels -> (11, N): a row for each class but empty; times logits, its centre, or 0."""
    classes = torch.arange(1, NUM_CLASSES, device=labels.device)
    members = (classes[:, None] == labels).double()
    return members / members.sum(dim=1, keepdim=True).clamp(min=1)


def semantic_centre_loss(student: Tensor, teacher: Tensor, shares: Tensor) -> Tensor:
    """KD-SC of a scene's logits (N, 12): class centres (mean logits) shall be the teacher's.

    KL(softmax(teacher's centre) || softmax(student's centre)), mean over the classes present.
    """
    log_s, log_t = ((shares @ logits).log_softmax(dim=1) for logits in (student, teacher))
    divergence = F.kl_div(log_s, log_t, reduction="sum", log_target=True)
    return divergence / shares.any(dim=1).sum().clamp(min=1)


def semantic_affinity_loss(student: Tensor, teacher: Tensor, shares: Tensor) -> Tensor:
    """KD-SA of a scene's logits (N, 12): voxels shall be as close to the centres as the teacher's.

    Squared difference of the cosines between a voxel and the centre of a class present, mean over
    all pairs.
    """

    def affinity(logits: Tensor) -> Tensor:  # (N, 11)
        voxels, centres = (F.normalize(x, dim=1, eps=1e-8) for x in (logits, shares @ logits))
        return voxels @ centres.T

    squares = F.mse_loss(affinity(student), affinity(teacher), reduction="sum")
    return squares / (len(student) * shares.any(dim=1).sum()).clamp(min=1)


def distillation_losses(
    out: SSCOutput,
    teacher_out: SSCOutput,
    batch: dict[str, Tensor] | Targets,
    names: Container[str] = DISTILLATION,
) -> dict[str, Tensor]:
    """What the student learns from the teacher on the clean surface, unweighted; see above.

    kd_t is the mean squared difference of the TSDF features over all voxels and channels; kd_sc and
    kd_sa are means over the scenes, to which one without a labelled object adds 0.
    """
    targets, losses = Targets.of(batch), {}
    scenes = targets.counts.samples
    if "kd_t" in names:
        features = (at_least_single(by_voxel(o.tsdf_feature)) for o in (out, teacher_out))
        squares = F.mse_loss(*features, reduction="sum")
        losses["kd_t"] = squares / out.tsdf_feature[0].numel() / scenes
    semantic = {"kd_sc": semantic_centre_loss, "kd_sa": semantic_affinity_loss}
    wanted = [name for name in semantic if name in names]
    if wanted:
        student, teacher = (  # in double precision: a centre adds up thousands of voxels
            by_voxel(o.logits).index_select(0, targets.voxels).double().split(targets.sizes)
            for o in (out, teacher_out)
        )
        shares = map(_class_shares, targets.labels.split(targets.sizes))
        rows = list(zip(student, teacher, shares, strict=True))
        for name in wanted:
            total = sum(semantic[name](*scene) for scene in rows)
            losses[name] = total.to(at_least_single(out.logits).dtype) / scenes
    return losses
