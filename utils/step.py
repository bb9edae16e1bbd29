"""One optimiser step: what a network learns, and how its weights change."""

import math

import torch
from easydict import EasyDict
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW

from errors import InputError
from models import losses
from models.losses import LossCounts, Targets
from models.network import CleanerS, SSCOutput
from models.projection import Surface
from utils import distributed
from utils.distributed import autocast, to_device


class Objective:
    """What a network learns: from labels alone, or from labels and a teacher.

    cfg: the `loss` settings; volume: the network's input, "tsdf" or "tsdf_cad"; teacher: a frozen
    network that is given TSDF-CAD, None: no distillation; precision: of the networks: fp32, bf16,
    fp16 or auto.
    """

    def __init__(
        self, cfg: EasyDict, volume: str, teacher: CleanerS | None = None, precision: str = "fp32"
    ) -> None:
        self.cfg = cfg
        self.volume = volume
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self.precision = precision
        names = losses.SUPERVISED + (losses.DISTILLATION if teacher is not None else ())
        weights = {name: cfg[f"weight_{name.removeprefix('loss_')}"] for name in names}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise InputError("every loss has weight 0 (loss.weight_*): there is nothing to learn")

    def losses(self, model: nn.Module, batch: dict, targets: Targets) -> dict[str, Tensor]:
        """Unweighted losses by name, but for those of weight 0.

        Networks run in mixed precision, losses in fp32.
        """
        inputs = batch["image"], batch["mapping2d"]
        with autocast(batch["image"].device, self.precision):
            if self.teacher is not None:
                with torch.no_grad():  # not inference_mode: the losses save `target` for backward
                    target = self._target(*inputs, batch["tsdf_cad"])
            out = model(*inputs, batch[self.volume])
        values = losses.supervised_losses(
            out, targets, self.cfg.label_smoothing, self.cfg.class_balance, self.weights
        )
        if self.teacher is not None:
            values |= losses.distillation_losses(out, target, targets, self.weights)
        return values

    def _target(self, image: Tensor, mapping2d: Tensor, tsdf_cad: Tensor) -> SSCOutput:
        """The teacher's outputs; of its 3D-TSDFNet alone, where only KD-T looks at them."""
        if self.weights.keys().isdisjoint(("kd_sc", "kd_sa")):
            return SSCOutput(None, None, self.teacher.tsdf_net(tsdf_cad))
        return self.teacher(image, mapping2d, tsdf_cad)

    def total(self, values: dict[str, Tensor]) -> Tensor:
        return sum(weight * values[name] for name, weight in self.weights.items())


def learning_rate(epoch: int, cfg: EasyDict) -> float:
    """Cosine from train.lr to train.lr_min; constant within an epoch, which counts from 1."""
    progress = (epoch - 1) / cfg.epochs
    return cfg.lr_min + 0.5 * (cfg.lr - cfg.lr_min) * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, weight_decay: float, encoder_lr: float = 1.0) -> list[dict]:
    """Trainable parameters: weights of two or more dimensions are decayed, the others are not.

    Groups of a trained 2D encoder, if any, come last, with `lr_scale` encoder_lr instead of 1.
    """
    groups = {
        (scale, decay): {"params": [], "weight_decay": decay, "lr_scale": scale}
        for scale in (1.0, encoder_lr)
        for decay in (weight_decay, 0.0)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            one_dimensional = parameter.ndim <= 1 or name.endswith(".bias")
            scale = encoder_lr if "net_2d.encoder." in name else 1.0
            groups[scale, 0.0 if one_dimensional else weight_decay]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def build_optimizer(model: nn.Module, cfg: EasyDict) -> AdamW:
    """A fused implementation: one kernel, which can leave out a step by itself."""
    groups = parameter_groups(model, cfg.weight_decay, cfg.encoder_lr)
    return AdamW(groups, lr=cfg.lr, fused=True)


def seed_step(seed: int, step: int) -> None:
    """Make dropout and flips of a step depend on seed, step and process alone."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + distributed.rank())


def train_step(
    model: nn.Module,
    optimizer: AdamW,
    scaler: GradScaler,
    objective: Objective,
    batches: list[dict],
    cfg: EasyDict,
    device: torch.device,
) -> tuple[dict[str, Tensor], Tensor]:
    """One optimiser step over micro-batches, by the `train` settings cfg.

    Waits for a GPU seven times a micro-batch, where numbers of pixels and voxels are asked for.

    A step whose loss (or, but for fp16, gradient) is not finite in any process leaves weights and
    optimiser as they were; with cfg.max_skipped, which goes on behind it, batch statistics too.

    Returns the detached losses of the global batch, by name: this process's part; and
    (1 + len(batches),) bool: whether the step was skipped, and whether each micro-batch of this
    process had a loss that is not finite.
    """
    batches = [to_device(batch, device) for batch in batches]
    batches = [batch | {"mapping2d": Surface.of(batch["mapping2d"])} for batch in batches]
    targets = [Targets.of(batch, objective.cfg.free_space) for batch in batches]
    counts = torch.stack([torch.stack(target.counts) for target in targets]).sum(dim=0)
    # Data parallel training averages gradients; the losses are means over all processes' voxels.
    counts = LossCounts(*(distributed.all_sum(counts) / distributed.world_size()))
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if cfg.max_skipped else []
    sums, not_finite = {}, []
    for i, (batch, target) in enumerate(zip(batches, targets, strict=True)):
        with distributed.no_sync(model, skip=i < len(batches) - 1):
            parts = objective.losses(model, batch, target._replace(counts=counts))
            total = objective.total(parts)
            finite = total.detach().isfinite()
            # fp16's scaler looks at gradients alone, which may be finite where the loss is not.
            scaler.scale(total * torch.where(finite, 1.0, float("nan"))).backward()
        for name, loss in {**parts, "total": total}.items():
            sums[name] = sums.get(name, 0) + loss.detach()
        not_finite.append(~finite)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(
        [p for group in optimizer.param_groups for p in group["params"]], cfg.clip_norm
    )
    not_finite = torch.stack(not_finite)
    skipped = not_finite.any()
    if not scaler.is_enabled():  # which handles gradients that overflow, and skips by itself
        skipped |= ~norm.isfinite()
    skipped = distributed.all_max(skipped.to(torch.float32))
    optimizer.found_inf = skipped  # 1: a fused optimiser changes nothing (the scaler's interface)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    skipped = skipped.bool()
    for buffer, before in buffers:
        buffer.copy_(torch.where(skipped, before, buffer))
    return sums, torch.cat([skipped[None], not_finite])
