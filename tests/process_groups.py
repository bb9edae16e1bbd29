"""Groups of processes, forked after the imports, and what test_distributed.py has them do.

    python process_groups.py FOLDER FUNCTION:PROCESSES [...]

Runs each function in a group of so many processes. Each of them writes what it returned to
FOLDER/<FUNCTION:PROCESSES>/<rank>.pth, and its output to <rank>.txt beside it. Prints, as JSON, the
exit statuses and the time of each group.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
from small_network import CPU, ROOT, SmallNetwork, small_run, small_settings
from torch import nn

from config import load_config
from datasets.nyu import build_dataset
from errors import exit_on_input_error
from models import build_model
from utils import distributed
from utils.evaluation import evaluate
from utils.progress import Progress
from utils.step import Objective, build_optimizer, train_step


def real_network(seed):
    cfg = load_config(ROOT / "configs/debug.yaml", ["model.width=4", "model.image_scale=0.1"])
    torch.manual_seed(seed)
    return build_model(cfg.model)


def five_small_steps(folder):
    torch.manual_seed(0)
    return five_steps(folder, SmallNetwork(), SmallNetwork())


def five_real_steps(folder):
    return five_steps(folder, real_network(1), real_network(2))


def five_steps(folder, student, teacher):
    """Gradients of the first of five steps of the student, and the weights after the fifth.

    The global batch has four scenes: one batch of one process, or two micro-batches of two.
    """
    cfg = load_config(ROOT / "configs/debug.yaml", [f"data.root={folder / 'NYU'}"])
    student, teacher = student.double().eval(), teacher.double()
    optimizer = build_optimizer(student, cfg.train)
    model = distributed.wrap(student, CPU, sync_bn=True, find_unused=False)
    objective = Objective(cfg.loss, "tsdf", teacher)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    dataset = build_dataset(cfg.data, "train", with_cad=True, augment=False)

    def scenes(numbers):
        batch = torch.utils.data.default_collate([dataset[number] for number in numbers])
        return {
            key: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
            for key, value in batch.items()
        }

    gradients = []
    clip = nn.utils.clip_grad_norm_

    def recording_clip(parameters, max_norm):
        gradients.append([parameter.grad.clone() for parameter in parameters])
        return clip(parameters, max_norm)

    nn.utils.clip_grad_norm_ = recording_clip
    losses, progress = [], Progress(5, CPU)
    for step in range(5):
        numbers = [(4 * step + i) % len(dataset) for i in range(4)]
        own = numbers[distributed.rank() :: distributed.world_size()]
        parts = [own] if distributed.world_size() == 1 else [[number] for number in own]
        batches = [scenes(part) for part in parts]
        sums, flags = train_step(model, optimizer, scaler, objective, batches, cfg.train, CPU)
        mean = distributed.all_sum(torch.stack(list(sums.values()))) / distributed.world_size()
        losses.append(mean)
        progress.add(sums, flags[0], seconds=1.0, waited=0.0)
    weights = {name: p.detach() for name, p in student.named_parameters() if p.requires_grad}
    return {
        "gradients": gradients[0],
        "weights": weights,
        "losses": torch.stack(losses),
        "row": progress.row(),
    }


def table(folder):
    """The evaluation of the real network."""
    cfg = load_config(ROOT / "configs/debug.yaml", [f"data.root={folder / 'NYU'}"])
    dataset = build_dataset(cfg.data, "test", with_cad=False, augment=False)
    names = []
    metrics, scenes = evaluate(
        real_network(0), dataset, "tsdf", CPU, on_scene=lambda name, *rest: names.append(name)
    )
    return {
        "scores": metrics.compute(),
        "scenes": {name: scene.compute() for name, scene in scenes.items()},
        "seen": names,
    }


class AtStep(Objective):
    """Does something in one process when the loss of one step (counted from 1) is computed."""

    def __init__(self, cfg, step, rank, action):
        super().__init__(cfg.loss, "tsdf")
        self.step, self.rank, self.action, self.calls = step, rank, action, 0
        self.names = []

    def losses(self, model, batch, counts):
        self.calls += 1
        self.names += batch["name"]
        losses = super().losses(model, batch, counts)
        if self.calls == self.step and distributed.rank() == self.rank:
            return self.action(losses) or losses
        return losses


def not_finite_in_one(folder):
    """A loss that is not finite in process 1, in step 2; all leave the step out."""
    cfg = small_settings(folder / "NYU", "train.max_skipped=1")
    poison = AtStep(
        cfg, 2, 1, lambda losses: {**losses, "loss_3d": losses["loss_3d"] * float("nan")}
    )
    small_run(cfg, objective=poison)
    return {"names": poison.names}


def stopped_and_resumed(folder):
    """A signal to process 1 alone, in step 3; then the rest of the run."""
    cfg = small_settings(folder / "NYU", "train.epochs=2")
    small_run(cfg, "whole.pth")

    def stop(losses):
        os.kill(os.getpid(), signal.SIGTERM)

    code = None
    try:
        small_run(cfg, "part.pth", AtStep(cfg, 3, 1, stop))
    except SystemExit as end:
        code = end.code
    distributed.barrier()
    small_run(cfg, "part.pth", resume=True)
    return {"code": code}


def one_dies(folder):
    cfg = small_settings(folder / "NYU", "train.epochs=50", "train.save_steps=1")
    exit_on_input_error(small_run)(
        cfg, objective=AtStep(cfg, 5, 1, lambda losses: os.kill(os.getpid(), signal.SIGKILL))
    )


def run_group(task, folder):
    """Exit statuses of the processes, and seconds."""
    function, size = task.split(":")
    size = int(size)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = folder / task
    place.mkdir()
    began = time.monotonic()
    pids = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with open(place / f"{rank}.txt", "w") as output:
                    os.dup2(output.fileno(), 1)
                    os.dup2(output.fileno(), 2)
                os.chdir(place)
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                }  # fmt: skip
                distributed.setup()
                torch.save(globals()[function](folder), f"{rank}.pth")
                distributed.cleanup()
                status = 0
            except SystemExit as end:
                status = end.code
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        pids.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return statuses, time.monotonic() - began


def main():
    folder, *tasks = sys.argv[1:]
    print(json.dumps({task: run_group(task, Path(folder)) for task in tasks}))


if __name__ == "__main__":
    main()
