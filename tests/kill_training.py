"""Trains undisturbed in one folder; in another kills the training, again and again, and resumes.

    python kill_training.py KILLS CHECKPOINT SCRIPT [words ...]

Imports once and forks a process for every start, because importing takes longer than training.
Every other kill is aimed at the writing of a checkpoint. Prints figures as JSON.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

PATIENCE = 300  # seconds until a training that does not go on is an error


def start(main, words):
    pid = os.fork()
    if pid == 0:
        sys.argv = ["train", *words, "--resume"]
        with open("output.txt", "a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)
    return pid


def wait_for(pid, condition):
    """Until the condition is true; a training that ended before is an error."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise SystemExit("the training ended before it could be killed: see output.txt")
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
            raise SystemExit("the training neither ends nor goes on: see output.txt")
        time.sleep(0.0002)


def kill(pid, checkpoint, in_writing, moments):
    """At a random moment; returns whether a file was being written then."""
    temporary = checkpoint.with_name(f".{checkpoint.name}.{pid}.tmp")
    saves = moments.randint(1, 3) if in_writing else moments.randint(0, 2)
    for save in range(saves):
        wait_for(pid, temporary.exists)
        if not in_writing or save < saves - 1:
            wait_for(pid, lambda: not temporary.exists())
    limit = time.monotonic() + moments.uniform(0, 0.01 if in_writing else 1.0)
    wait_for(pid, lambda: time.monotonic() > limit)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return temporary.exists()


def main():
    kills, checkpoint, script, *words = sys.argv[1:]
    checkpoint, train = Path(checkpoint), importlib.import_module(Path(script).stem).main
    moments = random.Random(0)
    figures = {"kills": 0, "while writing": 0, "before the first save of a start": 0}
    for folder in ("undisturbed", "killed"):
        os.mkdir(folder)
        os.chdir(folder)
        began = time.monotonic()
        while folder == "killed" and figures["kills"] < int(kills):
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            pid = start(train, words)
            in_writing = figures["kills"] % 2 == 0
            figures["while writing"] += kill(pid, checkpoint, in_writing, moments)
            figures["kills"] += 1
            after = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            figures["before the first save of a start"] += before == after
        status = os.waitpid(start(train, words), 0)[1]
        figures[f"exit status, {folder}"] = os.waitstatus_to_exitcode(status)
        figures[f"seconds, {folder}"] = round(time.monotonic() - began)
        os.chdir("..")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
