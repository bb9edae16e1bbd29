"""The training loop that teacher and student share; what differs is the Objective."""

import csv
import io
import math
import os
import resource
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, DistributedSampler
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from config import flatten, to_plain
from errors import InputError
from models.checkpoints import Checkpoint
from models.losses import LossCounts, count_losses, distillation_losses, supervised_losses
from utils import distributed
from utils.checkpoint import restore, save_checkpoint
from utils.evaluation import autocast, evaluate, to_device
from utils.files import write_text

# Settings that say where and how fast, not what is learnt.
LOCAL_SETTINGS = (
    "data.root",
    "data.cad_root",
    "data.test_ids",
    "data.input",
    "data.workers",
    "model.pretrained",
    "train.eval_every",
    "train.teacher_path",
    "train.student_path",
)


class Objective:
    """What a network learns: from labels alone, or from labels and a teacher.

    Args:
        cfg: the `loss` settings.
        volume: the network's input, "tsdf" or "tsdf_cad".
        teacher: a frozen network that is given TSDF-CAD; None: no distillation.
        precision: of the networks: fp32, bf16 or fp16.
    """

    def __init__(self, cfg, volume: str, teacher=None, precision: str = "fp32"):
        self.cfg = cfg
        self.volume = volume
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self.precision = precision

    def losses(self, model, batch: dict, counts: LossCounts) -> dict[str, torch.Tensor]:
        """Unweighted losses by name. Networks run in mixed precision, losses in fp32."""
        inputs = batch["image"], batch["mapping2d"]
        with autocast(batch["image"].device, self.precision):
            if self.teacher is not None:
                with torch.no_grad():
                    target = self.teacher(*inputs, batch["tsdf_cad"])
            out = model(*inputs, batch[self.volume])
        losses = supervised_losses(out, batch, self.cfg.label_smoothing, counts)
        if self.teacher is not None:
            losses |= distillation_losses(out, target, batch, counts)
        return losses

    def total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(
            self.cfg[f"weight_{name.removeprefix('loss_')}"] * loss for name, loss in losses.items()
        )


def learning_rate(epoch: int, cfg) -> float:
    """Cosine from train.lr to train.lr_min; constant within an epoch, which counts from 1."""
    progress = (epoch - 1) / cfg.epochs
    return cfg.lr_min + 0.5 * (cfg.lr - cfg.lr_min) * (1 + math.cos(math.pi * progress))


def parameter_groups(model, weight_decay: float) -> list[dict]:
    """Trainable parameters: weights of two or more dimensions are decayed, the others are not."""
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            one_dimensional = parameter.ndim <= 1 or name.endswith(".bias")
            (no_decay if one_dimensional else decay).append(parameter)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]


def build_optimizer(model, cfg, device: torch.device) -> torch.optim.AdamW:
    groups = parameter_groups(model, cfg.weight_decay)
    return torch.optim.AdamW(groups, lr=cfg.lr, fused=device.type == "cuda")


def seed_step(seed: int, step: int) -> None:
    """Make dropout and flips of a step depend on seed, step and process alone."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + distributed.rank())


def train_step(model, optimizer, scaler, objective, batches, cfg, device) -> dict:
    """One optimiser step over micro-batches; returns the detached losses of the global batch."""
    batches = [to_device(batch, device) for batch in batches]
    counts = torch.stack([torch.stack(count_losses(batch)) for batch in batches]).sum(dim=0)
    # Data parallel training averages gradients; the losses are means over all processes' voxels.
    counts = LossCounts(*(distributed.all_sum(counts) / distributed.world_size()))
    sums = {}
    for i, batch in enumerate(batches):
        with distributed.no_sync(model, skip=i < len(batches) - 1):
            losses = objective.losses(model, batch, counts)
            total = objective.total(losses)
            scaler.scale(total).backward()
        for name, loss in {**losses, "total": total}.items():
            sums[name] = sums.get(name, 0) + loss.detach()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(
        [p for group in optimizer.param_groups for p in group["params"]], cfg.clip_norm
    )
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return sums


def run_name(path: str | Path) -> str:
    """checkpoint/CleanerS_ckpt.pth -> CleanerS."""
    return Path(path).stem.removesuffix("_ckpt")


def best_path(path: str | Path) -> Path:
    return Path(path).with_name(f"{Path(path).stem}_best.pth")


def check_settings(checkpoint: Checkpoint, cfg, sections: tuple[str, ...]) -> None:
    """Make sure that a checkpoint was made with these settings, but for LOCAL_SETTINGS.

    Args:
        sections: what is compared: top-level names of the settings.

    Raises:
        InputError: names the file and the settings that differ.
    """
    if checkpoint.meta is None:
        print(f"{checkpoint.path}: a file of the original, taken for preset nyu_segformer_b2")
        return
    ours, theirs = (
        {key: value for key, value in flatten(settings) if key not in LOCAL_SETTINGS}
        for settings in (cfg, checkpoint.meta["config"])
    )
    different = [
        f"{key}={theirs.get(key)} instead of {value}"
        for key, value in ours.items()
        if key.split(".")[0] in sections and theirs.get(key) != value
    ]
    if different:
        raise InputError(
            f"{checkpoint.path} was made with other settings ({', '.join(different)}): give the "
            "same, or move the file away"
        )


def is_finished(checkpoint: Checkpoint) -> bool:
    """Whether the run that writes this file is over."""
    meta = checkpoint.meta
    return meta is None or meta["epoch"] >= meta["config"]["train"]["epochs"]


def _loader(dataset, cfg) -> DataLoader:
    sampler = DistributedSampler(
        dataset,
        num_replicas=distributed.world_size(),
        rank=distributed.rank(),
        seed=cfg.seed,
        drop_last=True,
    )
    return DataLoader(
        dataset,
        batch_size=cfg.train.batch_size,
        sampler=sampler,
        num_workers=cfg.data.workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        persistent_workers=cfg.data.workers > 0,
    )


def _train_epoch(model, optimizer, scaler, objective, loader, epoch, cfg, device) -> dict:
    """Returns the mean losses of the epoch, and where its time went."""
    steps = len(loader) // cfg.train.accumulate
    sums, waited, start = {}, 0.0, time.perf_counter()
    batches = iter(loader)
    bar = tqdm(range(steps), desc=f"epoch {epoch}", disable=not distributed.is_main(), leave=False)
    for step in bar:
        before = time.perf_counter()
        group = [next(batches) for _ in range(cfg.train.accumulate)]
        waited += time.perf_counter() - before
        seed_step(cfg.seed, (epoch - 1) * steps + step)
        losses = train_step(model, optimizer, scaler, objective, group, cfg.train, device)
        sums = {name: sums.get(name, 0) + loss for name, loss in losses.items()}
        if step % 20 == 0:  # reading a loss waits for the device
            bar.set_postfix(loss=f"{losses['total'].item():.3f}")
    means = distributed.all_sum(torch.stack(list(sums.values()))) / distributed.world_size() / steps
    seconds = time.perf_counter() - start
    return {
        **dict(zip(sums, means.tolist(), strict=True)),
        "seconds": seconds,
        "seconds_per_step": seconds / steps,
        "waiting_for_data": waited / seconds,
    }


def peak_memory_gb(device: torch.device) -> float:
    """The most memory this process has held: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _to_csv(rows: list[dict]) -> str:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def train(cfg, model, objective, train_set, test_set, path, device, checkpoint=None) -> None:
    """Train a network and write it to `path` after every epoch.

    Beside it, `<name>_best.pth` is the epoch with the best SSC mIoU on the test scenes (the
    paper's selection). `logs/<run>/` gets a line of CSV per epoch and TensorBoard's events.

    Args:
        checkpoint: go on where it stands; without one, a file at `path` is moved aside.

    Raises:
        InputError: too few scenes for a step, a loss that is not finite, a file that cannot be
            written, or one to resume that does not belong to these settings.
    """
    loader = _loader(train_set, cfg)
    if len(loader) < cfg.train.accumulate:
        raise InputError(
            f"{len(train_set)} training scenes are too few for one step of train.batch_size="
            f"{cfg.train.batch_size} x train.accumulate={cfg.train.accumulate} on "
            f"{distributed.world_size()} processes"
        )

    path, log_dir = Path(path), Path("logs") / run_name(path)
    model.to(device)
    objective.teacher = objective.teacher.to(device) if objective.teacher is not None else None
    optimizer = build_optimizer(model, cfg.train, device)
    scaler = torch.amp.GradScaler(device.type, enabled=cfg.train.precision == "fp16")
    meta = {"epoch": 0, "best_miou": -1.0, "best_epoch": 0, "history": []}
    if checkpoint is not None:
        check_settings(checkpoint, cfg, ("seed", "data", "loss", "model", "train"))
        restore(checkpoint, model, optimizer, scaler)
        meta = checkpoint.meta
    elif path.exists() and distributed.is_main():
        previous = path.with_name(f"{path.stem}_previous.pth")
        print(f"{path} exists: moved to {previous}")
        os.replace(path, previous)
    meta |= {"config": to_plain(cfg), "input": objective.volume}

    parallel = distributed.wrap(
        model, device, cfg.train.sync_bn, find_unused=not cfg.model.freeze_encoder
    )
    writer = SummaryWriter(log_dir) if distributed.is_main() else None

    for epoch in range(meta["epoch"] + 1, cfg.train.epochs + 1):
        lr = learning_rate(epoch, cfg.train)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loader.sampler.set_epoch(epoch)
        train_set.set_epoch(epoch)
        parallel.train()
        row = {"epoch": epoch, "lr": lr}
        row |= _train_epoch(parallel, optimizer, scaler, objective, loader, epoch, cfg, device)
        if not math.isfinite(row["total"]):
            raise InputError(
                f"the loss is not finite in epoch {epoch}: lower train.lr, or use "
                f"train.precision=fp32; {path} still holds epoch {epoch - 1}"
            )
        is_last = epoch == cfg.train.epochs
        if is_last or (cfg.train.eval_every and epoch % cfg.train.eval_every == 0):
            distributed.broadcast_buffers(model)
            metrics, _ = evaluate(
                model, test_set, objective.volume, device, cfg.train.precision, cfg.data.workers
            )
            scores = metrics.compute()
            row |= {f"sc_{name}": value for name, value in scores["sc"].items()}
            row |= {f"ssc_{name}": value for name, value in scores["ssc"]["iou"].items()}
            row["ssc_miou"] = scores["ssc"]["miou"]
            row["all_voxels_ssc_miou"] = scores["all_voxels"]["ssc"]["miou"]
        row["peak_memory_gb"] = peak_memory_gb(device)

        is_best = row.get("ssc_miou", -1.0) > meta["best_miou"]
        if is_best:
            meta |= {"best_miou": row["ssc_miou"], "best_epoch": epoch}
        meta |= {"epoch": epoch, "history": [*meta["history"], row]}
        if distributed.is_main():
            # The best first: the other file says which epoch was best.
            if is_best:
                save_checkpoint(best_path(path), model, meta)
            training = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
            save_checkpoint(path, model, meta, training)
            write_text(log_dir / "metrics.csv", _to_csv(meta["history"]))
            for name, value in row.items():
                writer.add_scalar(name, value, epoch)
            print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    distributed.barrier()
    if writer:
        writer.close()
