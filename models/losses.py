"""Supervised losses, and the distillation losses KD-T, KD-SC and KD-SA (paper section 3.3).

Every loss is a sum over a part of the batch divided by a count. The counts of a whole global batch
(several processes, gradient accumulation) can be given, so that the partial losses add up to what
one process would compute on the whole.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from constants import IGNORE_INDEX, NO_VOXEL, NUM_CLASSES, NYU_CLASS_VOXELS
from models.projection import take_rows


class LossCounts(NamedTuple):
    """What the losses are means over."""

    samples: Tensor  # ()
    voxels: Tensor  # () supervised voxels
    pixels: Tensor  # () mapped pixels with a label


def at_least_single(x: Tensor) -> Tensor:
    """Half precision to float32; anything else stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def supervised_voxels(batch: dict) -> Tensor:
    """(B, 129600) bool: where the loss and the paper's evaluation look."""
    return (batch["label_weight"] & (batch["label3d"] != IGNORE_INDEX)).flatten(1)


def pixel_labels(batch: dict) -> Tensor:
    """(P,) int64 in 0..11 and 255: the label of the voxel that each mapped pixel sees.

    label_weight plays no part here.
    """
    mapping2d = batch["mapping2d"].flatten(1).long()
    mapped = mapping2d != NO_VOXEL
    labels = batch["label3d"].flatten(1).gather(1, mapping2d.clamp(min=0))
    return labels[mapped]


def count_losses(batch: dict) -> LossCounts:
    labels = pixel_labels(batch)
    return LossCounts(
        torch.tensor(len(batch["label3d"]), device=labels.device),
        supervised_voxels(batch).sum(),
        (labels != IGNORE_INDEX).sum(),
    )


def class_weights(balance: float) -> Tensor:
    """(12,) float32: inverse frequency of the classes in NYUv2's training scenes, to a power.

    Their mean over the supervised voxels of those scenes is 1, so that a loss keeps its size.

    Args:
        balance: the power: 0 weighs all voxels alike (the paper), 1 all classes.
    """
    counts = torch.tensor(NYU_CLASS_VOXELS, dtype=torch.float64)
    weights = counts**-balance
    return (weights * counts.sum() / (weights * counts).sum()).float()


def _cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float, balance: float, count: Tensor
) -> Tensor:
    """Label-smoothed cross-entropy over (N, 12) logits; 0 where every label is ignored.

    The weight is that of a voxel's own class, for the smoothed part too (unlike PyTorch's).
    """
    loss = F.cross_entropy(
        logits, labels, ignore_index=IGNORE_INDEX, label_smoothing=smoothing,
        reduction="none" if balance else "sum",
    )  # fmt: skip
    if balance:  # an ignored voxel's loss is 0, whatever its weight
        weights = class_weights(balance).to(loss)
        loss = torch.dot(weights[labels.clamp(max=NUM_CLASSES - 1)], loss)
    return loss / count.clamp(min=1)


def supervised_losses(
    out,
    batch: dict,
    label_smoothing: float = 0.2,
    counts: LossCounts | None = None,
    class_balance: float = 0.0,
) -> dict[str, Tensor]:
    """Cross-entropy of the voxels and of the mapped pixels.

    Args:
        out: SSCOutput of the network.
        batch: with label3d, label_weight and mapping2d.
        counts: of the global batch; by default those of this batch.
        class_balance: see class_weights.

    Returns:
        loss_3d and loss_2d, unweighted scalars, in at least single precision.
    """
    counts = counts or count_losses(batch)
    voxels = supervised_voxels(batch).flatten().nonzero().squeeze(1)
    logits = at_least_single(take_rows(out.logits, voxels))
    labels = batch["label3d"].flatten()[voxels]
    return {
        "loss_3d": _cross_entropy(logits, labels, label_smoothing, class_balance, counts.voxels),
        "loss_2d": _cross_entropy(
            at_least_single(out.logits_2d),
            pixel_labels(batch),
            label_smoothing,
            class_balance,
            counts.pixels,
        ),
    }


def _inverse_norms(rows: Tensor) -> Tensor:
    return rows.norm(dim=1, keepdim=True).clamp(min=1e-8).reciprocal()


class _SemanticDistillation(torch.autograd.Function):
    """KD-SC and KD-SA of one sample's supervised voxels, with their gradients worked out by hand.

    Autograd would run some hundred operations more, each on few numbers.

    The centres are those of the classes present, without empty; the voxels include the empty ones.
    """

    @staticmethod
    def forward(ctx, student, teacher, labels):
        """(N, 12) logits of both, (N,) labels in 0..11 -> kd_sc, kd_sa; gradients to student."""
        classes = torch.arange(NUM_CLASSES, device=labels.device)
        one_hot = (labels.unsqueeze(1) == classes).to(student.dtype)
        size = one_hot.sum(dim=0)
        present = (size > 0).to(student.dtype)
        present[0] = 0
        # Shares of the means over classes and over voxels; absent classes have none.
        of_class = (present / present.sum().clamp(min=1)).unsqueeze(1)
        of_voxel = of_class.T / max(len(labels), 1)
        of_size = size.clamp(min=1).reciprocal().unsqueeze(1)

        centre_s, centre_t = ((one_hot.T @ logits) * of_size for logits in (student, teacher))
        log_p, log_q = centre_s.log_softmax(dim=1), centre_t.log_softmax(dim=1)
        q = log_q.exp()
        kd_sc = (of_class * q * (log_q - log_p)).sum()

        scale_s, scale_t = _inverse_norms(student), _inverse_norms(teacher)
        length = _inverse_norms(centre_s)
        unit_s, unit_t = centre_s * length, centre_t * _inverse_norms(centre_t)
        cosine = (student @ unit_s.T).mul_(scale_s)
        difference = cosine - (teacher @ unit_t.T).mul_(scale_t)
        weighted = difference * of_voxel
        kd_sa = torch.dot(weighted.flatten(), difference.flatten())

        # Of a cosine a = u v: (v - a u) / |s| to s where u = s / |s|, and likewise to the centre.
        weighted *= 2 * scale_s
        to_rows = weighted @ unit_s
        to_centre = weighted.T @ student
        weighted *= cosine
        to_rows -= student * (weighted.sum(dim=1, keepdim=True) * scale_s)
        to_centre -= unit_s * (unit_s * to_centre).sum(dim=1, keepdim=True)
        to_centre *= length * of_size
        to_rows += to_centre.index_select(0, labels)
        ctx.save_for_backward(of_class * (log_p.exp() - q) * of_size, to_rows, labels)
        return kd_sc, kd_sa

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_sc, grad_sa):
        of_centres, of_rows, labels = ctx.saved_tensors
        return (of_centres * grad_sc).index_select(0, labels).add_(of_rows * grad_sa), None, None


class _SquaredDistance(torch.autograd.Function):
    """Sum of squared differences from a constant, in one pass over each.

    The difference is kept, so that the constant can go, and becomes the gradient in its place.
    """

    BLOCK = 2**18  # values: 1 MB stays in the cache

    @staticmethod
    def forward(ctx, x, target):
        difference = torch.empty_like(x, memory_format=torch.channels_last_3d)
        total = torch.zeros((), dtype=torch.float64)
        volumes = (v.permute(0, 2, 3, 4, 1).reshape(-1) for v in (x, target, difference))
        blocks = (values.split(_SquaredDistance.BLOCK) for values in volumes)
        for values, targets, out in zip(*blocks, strict=True):
            torch.sub(values, targets, out=out)
            total += at_least_single(out).square().sum()
        ctx.difference = difference
        return total.to(torch.promote_types(x.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        if ctx.difference is None:
            raise RuntimeError("KD-T has one backward pass only: its difference was used up")
        result, ctx.difference = ctx.difference, None
        return result.mul_(2 * grad), None


def _squared_distance(x: Tensor, target: Tensor) -> Tensor:
    """Sum of squared differences of two volumes; no gradient for the target."""
    if x.device.type == "cpu":
        return _SquaredDistance.apply(x, target)
    return F.mse_loss(at_least_single(x), at_least_single(target), reduction="sum")


def distillation_losses(
    out, teacher_out, batch: dict, counts: LossCounts | None = None
) -> dict[str, Tensor]:
    """What the student learns from the teacher on the clean surface.

    - kd_t: mean squared difference of the TSDF features over all voxels and channels.
    - kd_sc: KL divergence, teacher to student, between the softmax of the class centres (mean
      logits by ground-truth class), mean over the classes present.
    - kd_sa: mean squared difference of the cosines between voxels and class centres.

    Each is a mean over the samples; a sample without a labelled object adds 0 to kd_sc and kd_sa.

    Args:
        out, teacher_out: SSCOutput of student and teacher.
        batch: with label3d and label_weight.
        counts: of the global batch; by default those of this batch.

    Returns:
        kd_t, kd_sc and kd_sa, unweighted scalars, in at least single precision.
    """
    samples = len(batch["label3d"]) if counts is None else counts.samples
    values_per_sample = out.tsdf_feature[0].numel()
    kd_t = _squared_distance(out.tsdf_feature, teacher_out.tsdf_feature)
    kd_t = kd_t / values_per_sample / samples

    mask = supervised_voxels(batch)
    voxels, sizes = mask.flatten().nonzero().squeeze(1), mask.sum(dim=1).tolist()
    student, teacher, labels = (
        rows.split(sizes)
        for rows in (
            at_least_single(take_rows(out.logits, voxels)),
            at_least_single(take_rows(teacher_out.logits, voxels)),
            batch["label3d"].flatten()[voxels],
        )
    )
    pairs = [_SemanticDistillation.apply(*r) for r in zip(student, teacher, labels, strict=True)]
    kd_sc, kd_sa = (torch.stack(terms).sum() / samples for terms in zip(*pairs, strict=True))
    return {"kd_t": kd_t, "kd_sc": kd_sc, "kd_sa": kd_sa}
