"""The training loop that teacher and student share; what differs is the Objective."""

import math
import os
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from config import to_plain
from errors import InputError
from models.losses import (
    DISTILLATION,
    SUPERVISED,
    LossCounts,
    Targets,
    distillation_losses,
    supervised_losses,
)
from models.network import SSCOutput
from models.recompute import recompute_activations
from utils import distributed
from utils.checkpoint import beside, make_way, restore, save_checkpoint
from utils.evaluation import autocast, evaluate, to_device
from utils.files import check_writable
from utils.loading import loader_processes, training_loader, workers_of
from utils.progress import LateReader, Progress
from utils.run_folder import RunFolder, peak_memory_gb, score_columns
from utils.signals import Stopped, StopSignals


class Objective:
    """What a network learns: from labels alone, or from labels and a teacher.

    Args:
        cfg: the `loss` settings.
        volume: the network's input, "tsdf" or "tsdf_cad".
        teacher: a frozen network that is given TSDF-CAD; None: no distillation.
        precision: of the networks: fp32, bf16, fp16 or auto.
    """

    def __init__(self, cfg, volume: str, teacher=None, precision: str = "fp32"):
        self.cfg = cfg
        self.volume = volume
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self.precision = precision
        names = SUPERVISED + DISTILLATION if teacher is not None else SUPERVISED
        weights = {name: cfg[f"weight_{name.removeprefix('loss_')}"] for name in names}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise InputError("every loss has weight 0 (loss.weight_*): there is nothing to learn")

    def losses(self, model, batch: dict, targets: Targets) -> dict[str, torch.Tensor]:
        """Unweighted losses by name, but for those of weight 0.

        Networks run in mixed precision, losses in fp32.
        """
        inputs = batch["image"], batch["mapping2d"]
        with autocast(batch["image"].device, self.precision):
            if self.teacher is not None:
                with torch.no_grad():  # not inference_mode: the losses save `target` for backward
                    target = self._target(*inputs, batch["tsdf_cad"])
            out = model(*inputs, batch[self.volume])
        losses = supervised_losses(
            out, targets, self.cfg.label_smoothing, self.cfg.class_balance, self.weights
        )
        if self.teacher is not None:
            losses |= distillation_losses(out, target, targets, self.weights)
        return losses

    def _target(self, image, mapping2d, tsdf_cad) -> SSCOutput:
        """The teacher's outputs; of its 3D-TSDFNet alone, where only KD-T looks at them."""
        if self.weights.keys().isdisjoint(("kd_sc", "kd_sa")):
            return SSCOutput(None, None, self.teacher.tsdf_net(tsdf_cad))
        return self.teacher(image, mapping2d, tsdf_cad)

    def total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(weight * losses[name] for name, weight in self.weights.items())


def learning_rate(epoch: int, cfg) -> float:
    """Cosine from train.lr to train.lr_min; constant within an epoch, which counts from 1."""
    progress = (epoch - 1) / cfg.epochs
    return cfg.lr_min + 0.5 * (cfg.lr - cfg.lr_min) * (1 + math.cos(math.pi * progress))


def parameter_groups(model, weight_decay: float, encoder_lr: float = 1.0) -> list[dict]:
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


def build_optimizer(model, cfg) -> torch.optim.AdamW:
    """A fused implementation: one kernel, which can leave out a step by itself."""
    groups = parameter_groups(model, cfg.weight_decay, cfg.encoder_lr)
    return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)


def seed_step(seed: int, step: int) -> None:
    """Make dropout and flips of a step depend on seed, step and process alone."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + distributed.rank())


def train_step(model, optimizer, scaler, objective, batches, cfg, device):
    """One optimiser step over micro-batches.

    Only selecting waits for a GPU: of pixels and voxels, and of each scene's classes in KD-SC and
    KD-SA.

    A step whose loss (or, but for fp16, gradient) is not finite in any process leaves weights and
    optimiser as they were; with cfg.max_skipped, which goes on behind it, batch statistics too.

    Returns:
        The detached losses of the global batch, by name: this process's part. And
        (1 + len(batches),) bool: whether the step was skipped; whether each micro-batch of this
        process had a loss that is not finite.
    """
    batches = [to_device(batch, device) for batch in batches]
    targets = [Targets.of(batch) for batch in batches]
    counts = torch.stack([torch.stack(target.counts) for target in targets]).sum(dim=0)
    # Data parallel training averages gradients; the losses are means over all processes' voxels.
    counts = LossCounts(*(distributed.all_sum(counts) / distributed.world_size()))
    buffers = [buffer.clone() for buffer in model.buffers()] if cfg.max_skipped else []
    sums, not_finite = {}, []
    for i, (batch, target) in enumerate(zip(batches, targets, strict=True)):
        with distributed.no_sync(model, skip=i < len(batches) - 1):
            losses = objective.losses(model, batch, target._replace(counts=counts))
            total = objective.total(losses)
            finite = total.detach().isfinite()
            # fp16's scaler looks at gradients alone, which may be finite where the loss is not.
            scaler.scale(total * torch.where(finite, 1.0, float("nan"))).backward()
        for name, loss in {**losses, "total": total}.items():
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
    if buffers:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(torch.where(skipped, before, buffer))
    return sums, torch.cat([skipped[None], not_finite])


def run_name(path: str | Path) -> str:
    """checkpoint/CleanerS_ckpt.pth -> CleanerS."""
    return Path(path).stem.removesuffix("_ckpt")


def use_deterministic_algorithms() -> None:
    """Same seed, same machine, same number of processes: the same weights, on GPUs too.

    On the CPU that is so anyway.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by cuBLAS
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def _culprits(names: list[list[str]], not_finite: list[float]) -> str:
    """The scenes of the micro-batches whose loss was not finite; to be called by all processes."""
    own = [name for batch, bad in zip(names, not_finite, strict=True) if bad for name in batch]
    culprits = distributed.all_gather_lists(own)
    if not culprits:  # finite losses, but a gradient that is not
        culprits = distributed.all_gather_lists([name for batch in names for name in batch])
    return ", ".join(culprits)


class Training:
    """A run: what its steps change, and what goes into its checkpoint.

    Attributes:
        meta: plain values that every checkpoint of the run holds:
            epoch: the last complete one; unfinished: Progress.state of the next, or None;
            skipped: number of steps left out; history: the rows of metrics.csv;
            best_miou, best_epoch; config; input.
    """

    def __init__(self, cfg, model, objective, loader, path, device, checkpoint):
        self.cfg, self.model, self.objective, self.loader = cfg, model, objective, loader
        self.path, self.device = path, device
        self.steps = len(loader) // cfg.train.accumulate  # of an epoch
        self.optimizer = build_optimizer(model, cfg.train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=cfg.train.precision == "fp16")
        self.meta = {"epoch": 0, "unfinished": None, "skipped": 0, "history": []}
        self.meta |= {"best_miou": -1.0, "best_epoch": 0}
        if checkpoint is not None:
            restore(checkpoint, model, self.optimizer, self.scaler)
            self.meta |= checkpoint.meta
        self.meta |= {"config": to_plain(cfg), "input": objective.volume}
        # A trained encoder's last layers, or the layers behind which no loss is.
        find_unused = not cfg.model.freeze_encoder or not objective.weights.keys() >= {*SUPERVISED}
        self.parallel = distributed.wrap(model, device, cfg.train.sync_bn, find_unused)
        self.late = LateReader(device)
        self.saved_at = time.monotonic()

    def save(self, unfinished: dict | None) -> None:
        """Write the checkpoint, in the main process. unfinished: Progress.state of an epoch."""
        self.meta["unfinished"] = unfinished
        self.saved_at = time.monotonic()
        if distributed.is_main():
            training = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            backup = beside(self.path, "backup")
            save_checkpoint(self.path, self.model, self.meta, training, backup)

    def _wants_save(self, step: int) -> bool:
        minutes, steps = self.cfg.train.save_minutes, self.cfg.train.save_steps
        overdue = minutes and time.monotonic() - self.saved_at > 60 * minutes
        return bool(overdue or (steps and step % steps == 0))

    def _read_late(self, epoch: int, bar, everything: bool) -> tuple[int, bool]:
        """What the processes told each other: (signal to stop by or 0, whether to save).

        Raises:
            InputError: more steps without a finite loss than train.max_skipped.
        """
        signal, save = 0, False
        for told, (step, names) in self.late.take(everything):
            told_signal, told_save, total, skipped, *not_finite = told
            signal, save = max(signal, int(told_signal)), save or bool(told_save)
            bar.set_postfix(loss=f"{total:.3f}", refresh=False)
            if not skipped:
                continue
            self.meta["skipped"] += 1
            message = (
                f"loss or gradient is not finite in epoch {epoch}, step {step}, for a scene of "
                f"{_culprits(names, not_finite)}"
            )
            if self.meta["skipped"] > self.cfg.train.max_skipped:
                raise InputError(
                    f"{message}: check these files (prepare_NYU.py check) or let train.max_skipped "
                    "steps pass, then --resume; or start anew with a lower train.lr, or with "
                    "train.precision=fp32"
                )
            if distributed.is_main():
                print(f"warning: {message}: step left out", file=sys.stderr, flush=True)
        return signal, save

    def train_epoch(self, epoch: int, signals: StopSignals) -> Progress:
        """The steps of an epoch, or the rest of them.

        Raises:
            Stopped: by a signal; the state is saved.
            InputError: an unreadable sample, a loss that is not finite, an unwritable file.
        """
        cfg = self.cfg.train
        progress = Progress(self.steps, self.device, self.meta["unfinished"])
        self.loader.sampler.set_epoch(epoch)
        self.loader.sampler.start = progress.step * cfg.accumulate * cfg.batch_size
        self.loader.dataset.set_epoch(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(epoch, cfg) * group["lr_scale"]
        self.parallel.train()
        steps = range(progress.step, self.steps)
        batches = iter(self.loader) if steps else None
        bar = tqdm(steps, f"epoch {epoch}", disable=not distributed.is_main(), leave=False)
        for step in bar:
            start = time.perf_counter()
            group = [next(batches) for _ in range(cfg.accumulate)]
            waited = time.perf_counter() - start
            seed_step(self.cfg.seed, (epoch - 1) * self.steps + step)
            losses, flags = train_step(
                self.parallel, self.optimizer, self.scaler, self.objective, group, cfg, self.device
            )
            wishes = [signals.number, distributed.is_main() and self._wants_save(step + 1)]
            wishes = torch.tensor(wishes, dtype=torch.float32).to(self.device, non_blocking=True)
            told = [distributed.all_max(wishes), losses["total"][None], flags.float()]
            self.late.put(torch.cat(told), (step + 1, [batch["name"] for batch in group]))
            signal, save = self._read_late(epoch, bar, everything=step == self.steps - 1)
            progress.add(losses, flags[0], time.perf_counter() - start, waited)
            if signal or save:
                self._read_late(epoch, bar, everything=True)
                self.save(progress.state())
            if signal:
                raise Stopped(signal)
        return progress

    def evaluate(self, test_set, progress: Progress, signals: StopSignals) -> dict:
        """Scores on the test scenes. A signal ends it at once; it is done again on resuming."""
        cfg = self.cfg
        unfinished = progress.state()
        distributed.broadcast_buffers(self.model)
        try:
            with signals.at_once():
                metrics, _ = evaluate(
                    self.model, test_set, self.objective.volume, self.device,
                    cfg.train.precision, loader_processes(cfg),
                )  # fmt: skip
        except Stopped:
            self.save(unfinished)
            raise
        return metrics.compute()


def train(cfg, model, objective, train_set, test_set, path, device, checkpoint=None) -> None:
    """Train a network and write it to `path` after every epoch, and within by train.save_*.

    Beside it, `<name>_backup.pth` is what `path` was before, and `<name>_best.pth` the epoch with
    the best SSC mIoU on the test scenes (the paper's selection). `logs/<run>/` is described in
    run_folder.py.

    Args:
        checkpoint: go on where it stands, as if there had been no stop (check_resumed says
            whether it is of these settings); without one, a file at `path` is moved aside.

    Raises:
        Stopped: on SIGTERM or SIGINT, when the state is saved.
        InputError: too few scenes for a step, a loss that is not finite, a file that cannot be
            written, or one to resume without training state.
    """
    if cfg.train.deterministic:
        use_deterministic_algorithms()
    loader = training_loader(train_set, cfg)
    if len(loader) < cfg.train.accumulate:
        raise InputError(
            f"{len(train_set)} training scenes are too few for one step of train.batch_size="
            f"{cfg.train.batch_size} x train.accumulate={cfg.train.accumulate} on "
            f"{distributed.world_size()} processes"
        )
    path = Path(path)
    recompute_activations(model, cfg.train.recompute)
    model.to(device)
    objective.teacher = objective.teacher.to(device) if objective.teacher is not None else None
    run = Training(cfg, model, objective, loader, path, device, checkpoint)
    meta, is_main = run.meta, distributed.is_main()
    if is_main:
        check_writable(path)
        make_way(path, checkpoint)
        folder = RunFolder(Path("logs") / run_name(path), cfg, device, checkpoint is not None)
        folder.write_metrics(meta["history"])

    with StopSignals() as signals, workers_of(loader):
        try:
            for epoch in range(meta["epoch"] + 1, cfg.train.epochs + 1):
                progress = run.train_epoch(epoch, signals)
                row = {"epoch": epoch, "lr": learning_rate(epoch, cfg.train), **progress.row()}
                is_last, every = epoch == cfg.train.epochs, cfg.train.eval_every
                if is_last or (every and epoch % every == 0):
                    scores = run.evaluate(test_set, progress, signals)
                    row |= score_columns(scores)
                    if is_main:
                        folder.write_results(scores)
                row["peak_memory_gb"] = peak_memory_gb(device)

                is_best = row.get("ssc_miou", -1.0) > meta["best_miou"]
                if is_best:
                    meta |= {"best_miou": row["ssc_miou"], "best_epoch": epoch}
                meta |= {"epoch": epoch, "unfinished": None, "history": [*meta["history"], row]}
                # The checkpoint last: what it says is done is not done again.
                if is_main:
                    if is_best:
                        save_checkpoint(beside(path, "best"), model, meta)
                    folder.write_metrics(meta["history"])
                run.save(None)
                if is_main:
                    folder.write_events(row)
                    print(", ".join(f"{n} {value:.4g}" for n, value in row.items()), flush=True)
        except Stopped as stop:
            if is_main:
                print(f"stopped by {stop.name}: {path} is saved, go on with --resume", flush=True)
            raise
    distributed.barrier()
    if is_main:
        folder.close()
