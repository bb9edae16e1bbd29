"""The training loop that teacher and student share; what differs is the Objective."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from easydict import EasyDict
from torch.amp import GradScaler
from tqdm import tqdm

from config import to_plain
from datasets.nyu import build_dataset
from errors import InputError
from models import build_model, prepare_for_inference
from models.checkpoints import Checkpoint, load_strictly, read_checkpoint
from models.encoder_weights import load_pretrained_encoder
from models.inference import cast_weights
from models.network import CleanerS
from models.recompute import recompute_activations, should_recompute
from utils import distributed
from utils.checkpoint import (
    beside,
    check_settings,
    is_finished,
    named_scenes,
    other_scenes,
    restore,
    run_name,
    save_checkpoint,
    set_aside_earlier_run,
)
from utils.evaluation import evaluate
from utils.files import check_writable
from utils.loading import loader_processes, training_loader, workers_of
from utils.lock import RunLock
from utils.progress import DelayedReadback, Progress
from utils.run_folder import RunFolder, peak_memory_gb, score_columns
from utils.signals import Stopped, StopSignals
from utils.step import Objective, build_optimizer, learning_rate, seed_step, train_step


def initial_network(cfg: EasyDict, checkpoint: Checkpoint | None) -> CleanerS:
    """The network that a run starts with; where it goes on at a checkpoint, without weights yet."""
    torch.manual_seed(cfg.seed)
    model = build_model(cfg.model)
    if checkpoint is None:
        load_pretrained_encoder(model.net_2d, cfg.model.encoder, cfg.model.pretrained)
    return model


def load_teacher(cfg: EasyDict) -> CleanerS:
    """The finished network that a student learns from, prepared for inference."""
    checkpoint = read_checkpoint(cfg.train.teacher_path)
    check_settings(checkpoint, cfg, ("model", "data"))
    if checkpoint.meta is not None and checkpoint.meta["input"] != "tsdf_cad":
        raise InputError(f"{checkpoint.path} is no teacher: it was not trained on TSDF-CAD")
    if not is_finished(checkpoint) and distributed.is_main():
        print(f"warning: the training of {checkpoint.path} is not complete", file=sys.stderr)
    if (problem := other_scenes(checkpoint, cfg)) and distributed.is_main():
        print(f"warning: {problem}", file=sys.stderr)
    teacher = build_model(cfg.model)
    load_strictly(teacher, checkpoint.state, checkpoint.path)
    return prepare_for_inference(teacher)


class Training:
    """A run. It writes the network to `path` after every epoch, and within by train.save_*.

    Beside it, `<name>_backup.pth` is what `path` was before, and `<name>_best.pth` the epoch with
    the best SSC mIoU on the test scenes (the paper's selection). `logs/<run>/` is described in
    run_folder.py.

    checkpoint: of find_resumable, to go on where it stands, as if there had been no stop; without
    one, a file at `path` is moved aside.

    meta: plain values that every checkpoint of the run holds: epoch, the last complete one;
    unfinished, Progress.state of the next, or None; skipped, number of steps left out; history, the
    rows of metrics.csv; best_miou, best_epoch; config; input; train_scenes.
    """

    def __init__(
        self,
        cfg: EasyDict,
        model: CleanerS,
        objective: Objective,
        path: str | Path,
        device: torch.device,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.cfg, self.model, self.objective = cfg, model, objective
        self.path, self.device = Path(path), device
        distributed.choose_kernels(cfg.train.deterministic)
        with_cad, teacher = objective.volume == "tsdf_cad", objective.teacher
        self.test_set = build_dataset(cfg.data, "test", with_cad, augment=False)
        with_cad |= teacher is not None
        train_set = build_dataset(cfg.data, "train", with_cad, augment=True, seed=cfg.seed)
        self.loader = training_loader(train_set, cfg)
        self.steps = len(self.loader) // cfg.train.accumulate  # of an epoch
        if not self.steps:
            raise InputError(
                f"{len(train_set)} training scenes are too few for one step of train.batch_size="
                f"{cfg.train.batch_size} x train.accumulate={cfg.train.accumulate} on "
                f"{distributed.world_size()} processes"
            )
        how = cfg.train.recompute, device, cfg.train.batch_size, cfg.model.width
        recompute_activations(model, should_recompute(*how))
        model.to(device)
        if teacher is not None:
            cast_weights(teacher.to(device), distributed.half_type(device, cfg.train.precision))
        self.optimizer = build_optimizer(model, cfg.train)
        self.scaler = GradScaler(device.type, enabled=cfg.train.precision == "fp16")
        self.meta = {"epoch": 0, "unfinished": None, "skipped": 0, "history": []}
        self.meta |= {"best_miou": -1.0, "best_epoch": 0}
        if checkpoint is not None:
            restore(checkpoint, model, self.optimizer, self.scaler)
            self.meta |= checkpoint.meta
        self.meta |= {"config": to_plain(cfg), "input": objective.volume}
        self.meta |= {"train_scenes": named_scenes(train_set)}
        # A trained encoder's last layers, or the layers behind which no loss is.
        used = objective.weights.keys() >= {"loss_3d", "loss_2d"}
        find_unused = not cfg.model.freeze_encoder or not used
        self.parallel = distributed.wrap(model, device, cfg.train.sync_bn, find_unused)
        self.saved_at = time.monotonic()
        if distributed.is_main():
            check_writable(self.path)
            self.lock = RunLock(self.path)
            set_aside_earlier_run(self.path, checkpoint)
            folder = Path("logs") / run_name(self.path)
            self.folder = RunFolder(folder, cfg, device, checkpoint is not None)
            self.folder.write_metrics(self.meta["history"])

    def run(self) -> None:
        """Train to the last epoch. Raises Stopped on SIGTERM or SIGINT, when the state is saved."""
        cfg, meta, is_main = self.cfg.train, self.meta, distributed.is_main()
        with StopSignals() as signals, workers_of(self.loader):
            try:
                for epoch in range(meta["epoch"] + 1, cfg.epochs + 1):
                    progress = self._train_epoch(epoch, signals)
                    row = {"epoch": epoch, "lr": learning_rate(epoch, cfg), **progress.row()}
                    if epoch == cfg.epochs or (cfg.eval_every and epoch % cfg.eval_every == 0):
                        scores = self._evaluate(progress.state(), signals)
                        row |= score_columns(scores)
                        if is_main:
                            self.folder.write_results(scores)
                    row["peak_memory_gb"] = peak_memory_gb(self.device)

                    is_best = row.get("ssc_miou", -1.0) > meta["best_miou"]
                    if is_best:
                        meta |= {"best_miou": row["ssc_miou"], "best_epoch": epoch}
                    meta |= {"epoch": epoch, "unfinished": None, "history": [*meta["history"], row]}
                    if is_main:
                        if is_best:
                            save_checkpoint(beside(self.path, "best"), self.model, meta)
                        self.folder.write_metrics(meta["history"])
                        self._save(None)  # after what a run that is resumed here does not do again
                        self.folder.write_events(row)
                        print(", ".join(f"{n} {value:.4g}" for n, value in row.items()), flush=True)
            except Stopped as stop:
                if is_main:
                    message = f"stopped by {stop.name}: {self.path} is saved, go on with --resume"
                    print(message, flush=True)
                raise
            finally:
                if is_main:
                    self.lock.release()
        distributed.barrier()
        if is_main:
            self.folder.events.close()

    def _train_epoch(self, epoch: int, signals: StopSignals) -> Progress:
        """The steps of an epoch, or the rest of them."""
        cfg, is_main = self.cfg.train, distributed.is_main()
        progress = Progress(self.steps, self.device, self.meta["unfinished"])
        late = DelayedReadback(self.device)
        self.loader.sampler.set_epoch(epoch)
        self.loader.sampler.start = progress.step * cfg.accumulate * cfg.batch_size
        self.loader.dataset.set_epoch(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(epoch, cfg) * group["lr_scale"]
        self.parallel.train()
        steps = range(progress.step, self.steps)
        batches = iter(self.loader) if steps else None
        bar = tqdm(steps, f"epoch {epoch}", disable=not is_main, leave=False)
        for step in bar:
            start = time.perf_counter()
            group = [next(batches) for _ in range(cfg.accumulate)]
            waited = time.perf_counter() - start
            seed_step(self.cfg.seed, (epoch - 1) * self.steps + step)
            losses, flags = train_step(
                self.parallel, self.optimizer, self.scaler, self.objective, group, cfg, self.device
            )
            overdue = cfg.save_minutes and time.monotonic() - self.saved_at > 60 * cfg.save_minutes
            overdue = overdue or (cfg.save_steps and (step + 1) % cfg.save_steps == 0)
            # What one process wants, all do.
            wishes = [float(signals.number), float(is_main and overdue)]
            wishes = torch.stack([torch.full((), wish, device=self.device) for wish in wishes])
            wishes = distributed.all_max(wishes)
            told = torch.cat([wishes, losses["total"][None], flags.float()])
            late.put(told, (step + 1, [batch["name"] for batch in group]))
            signal, save = self._read(late.take(step == self.steps - 1), epoch, bar)
            progress.add(losses, flags[0], time.perf_counter() - start, waited)
            if signal or save:
                self._read(late.take(everything=True), epoch, bar)
                self._save(progress.state())
            if signal:
                raise Stopped(signal)
        return progress

    def _read(self, told: Iterator[tuple], epoch: int, bar: tqdm) -> tuple[int, bool]:
        """What the processes told each other: (signal to stop by or 0, whether to save)."""
        signal, save = 0, False
        for numbers, (step, names) in told:
            told_signal, told_save, total, skipped, *not_finite = numbers
            signal, save = max(signal, int(told_signal)), save or bool(told_save)
            bar.set_postfix(loss=f"{total:.3f}", refresh=False)
            if skipped:
                culprits = [n for n, bad in zip(names, not_finite, strict=True) if bad]
                self._count_skipped(f"epoch {epoch}, step {step}", culprits, names)
        return signal, save

    def _count_skipped(self, place: str, culprits: list[list[str]], names: list[list[str]]) -> None:
        """Raises InputError for more steps without a finite loss than train.max_skipped.

        culprits, names: scenes of each micro-batch of this process, without a finite loss and all.
        """
        # Where all losses are finite, but not the gradient, all are named.
        scenes = distributed.all_gather_lists(sum(culprits, []))
        scenes = scenes or distributed.all_gather_lists(sum(names, []))
        self.meta["skipped"] += 1
        message = f"loss or gradient is not finite in {place}, for a scene of {', '.join(scenes)}"
        if self.meta["skipped"] > self.cfg.train.max_skipped:
            raise InputError(
                f"{message}: check these files (prepare_NYU.py check) or let train.max_skipped "
                "steps pass, then --resume; or start anew with a lower train.lr, or with "
                "train.precision=fp32"
            )
        if distributed.is_main():
            print(f"warning: {message}: step left out", file=sys.stderr, flush=True)

    def _evaluate(self, unfinished: dict, signals: StopSignals) -> dict:
        """Scores on the test scenes. A signal ends it at once; it is done again on resuming."""
        distributed.broadcast_buffers(self.model)
        try:
            with signals.at_once():
                metrics, _ = evaluate(
                    self.model, self.test_set, self.objective.volume, self.device,
                    self.cfg.train.precision, loader_processes(self.cfg),
                    everywhere=self.cfg.loss.free_space > 0,
                )  # fmt: skip
        except Stopped:
            self._save(unfinished)
            raise
        return metrics.compute()

    def _save(self, unfinished: dict | None) -> None:
        """Write the checkpoint, in the main process. unfinished: Progress.state of an epoch."""
        self.meta["unfinished"] = unfinished
        self.saved_at = time.monotonic()
        if distributed.is_main():
            states = {"optimizer": self.optimizer, "scaler": self.scaler}
            training = {name: part.state_dict() for name, part in states.items()}
            save_checkpoint(self.path, self.model, self.meta, training)
