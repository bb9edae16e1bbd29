"""The training loop that teacher and student share; what differs is the Objective."""

import os
import sys
import time
from pathlib import Path

import torch
from easydict import EasyDict
from torch.amp import GradScaler
from torch.utils.data import DataLoader
from tqdm import tqdm

from config import to_plain
from datasets.nyu import NYUDataset
from errors import InputError
from models import build_model
from models.checkpoints import Checkpoint
from models.encoder_weights import load_pretrained_encoder
from models.losses import SUPERVISED
from models.network import CleanerS
from models.recompute import recompute_activations
from utils import distributed
from utils.checkpoint import beside, restore, run_name, save_checkpoint, set_aside_earlier_run
from utils.evaluation import evaluate
from utils.files import check_writable
from utils.loading import loader_processes, training_loader, workers_of
from utils.progress import DelayedReadback, Progress
from utils.run_folder import RunFolder, peak_memory_gb, score_columns
from utils.signals import Stopped, StopSignals
from utils.step import Objective, build_optimizer, learning_rate, seed_step, train_step


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

    meta: plain values that every checkpoint of the run holds: epoch, the last complete one;
    unfinished, Progress.state of the next, or None; skipped, number of steps left out; history, the
    rows of metrics.csv; best_miou, best_epoch; config; input.
    """

    def __init__(
        self,
        cfg: EasyDict,
        model: CleanerS,
        objective: Objective,
        loader: DataLoader,
        path: Path,
        device: torch.device,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.cfg, self.model, self.objective, self.loader = cfg, model, objective, loader
        self.path, self.device = path, device
        self.steps = len(loader) // cfg.train.accumulate  # of an epoch
        self.optimizer = build_optimizer(model, cfg.train)
        self.scaler = GradScaler(device.type, enabled=cfg.train.precision == "fp16")
        self.meta = {"epoch": 0, "unfinished": None, "skipped": 0, "history": []}
        self.meta |= {"best_miou": -1.0, "best_epoch": 0}
        if checkpoint is not None:
            restore(checkpoint, model, self.optimizer, self.scaler)
            self.meta |= checkpoint.meta
        self.meta |= {"config": to_plain(cfg), "input": objective.volume}
        # A trained encoder's last layers, or the layers behind which no loss is.
        find_unused = not cfg.model.freeze_encoder or not objective.weights.keys() >= {*SUPERVISED}
        self.parallel = distributed.wrap(model, device, cfg.train.sync_bn, find_unused)
        self.late = DelayedReadback(device)
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

    def _read_late(self, epoch: int, bar: tqdm, everything: bool) -> tuple[int, bool]:
        """What the processes told each other: (signal to stop by or 0, whether to save).

        Raises InputError for more steps without a finite loss than train.max_skipped.
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
        """The steps of an epoch, or the rest of them. Raises Stopped by a signal, when the state is
        saved.
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

    def evaluate(self, test_set: NYUDataset, progress: Progress, signals: StopSignals) -> dict:
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


def initial_network(cfg: EasyDict, checkpoint: Checkpoint | None) -> CleanerS:
    """The network that a run starts with; where it goes on at a checkpoint, without weights yet."""
    torch.manual_seed(cfg.seed)
    model = build_model(cfg.model)
    if checkpoint is None:
        load_pretrained_encoder(model.net_2d, cfg.model.encoder, cfg.model.pretrained)
    return model


def train(
    cfg: EasyDict,
    model: CleanerS,
    objective: Objective,
    train_set: NYUDataset,
    test_set: NYUDataset,
    path: str | Path,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train a network and write it to `path` after every epoch, and within by train.save_*.

    Beside it, `<name>_backup.pth` is what `path` was before, and `<name>_best.pth` the epoch with
    the best SSC mIoU on the test scenes (the paper's selection). `logs/<run>/` is described in
    run_folder.py.

    checkpoint: of find_resumable, to go on where it stands, as if there had been no stop; without
    one, a file at `path` is moved aside. Raises Stopped on SIGTERM or SIGINT, when the state is
    saved.
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
        set_aside_earlier_run(path, checkpoint)
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
