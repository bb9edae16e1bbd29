"""The parts of benchmarks/gpu.sh, one after the other, and the table that they end in.

Every part runs in a process of its own, forked after the imports: what one does to the GPU, to
settings of PyTorch or to itself does not reach the next, and one that hangs is ended.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import gpu_checks, gpu_commands, gpu_speed
from benchmarks.gpu_rows import ROOT, Bench, Row, measured

SECONDS = 570  # of the whole, so that it stays under ten minutes
# Of a part; 60 where nothing is said.
LONGEST = {"golden": 90, "train": 120, "scripts": 100, "inference speed": 90, "step speed": 240}
ROOMS = "rooms"

Part = Callable[[Bench], Iterator[Row]]
PARTS: dict[str, Part] = {
    **gpu_checks.PARTS,
    **gpu_commands.PARTS,
    **gpu_speed.PARTS,
}


def prepare_rooms(bench: Bench) -> Iterator[Row]:
    """The scenes that several parts read, made by prepare_rooms.py."""
    train, test = (2, 2) if bench.short else (8, 4)
    command = [sys.executable, str(ROOT / "prepare_rooms.py"), "--out", str(bench.rooms)]
    command += ["--train", str(train), "--test", str(test)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    yield measured("generated", f"{train} to train on, {test} to test")


def in_child(part: Part, bench: Bench, rows: Connection) -> None:
    """Run a part and send its rows; an exception becomes the last one."""
    os.setsid()  # its processes can be ended together
    try:
        for row in part(bench):
            rows.send(row)
    except Exception as error:
        traceback.print_exc()
        message = str(error).strip().splitlines() or [""]
        rows.send(Row("runs to its end", "FAIL", f"{type(error).__name__}: {message[-1]}"))
    rows.close()


def run_part(part: Part, bench: Bench) -> Iterator[Row]:
    """The rows of a part, as they come, and one for what ended it if that was not its own end."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=in_child, args=(part, bench, sender))
    process.start()
    sender.close()
    try:
        while receiver.poll(max(bench.ends - time.monotonic(), 0)):
            yield receiver.recv()
        yield Row("runs to its end", "FAIL", "ended after its time was over")
    except EOFError:  # the part is over
        process.join(10)
        if process.exitcode:
            yield Row("runs to its end", "FAIL", f"the process died: exit {process.exitcode}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def as_text(rows: list[tuple[str, Row]]) -> str:
    """The table, what stands under it, and how many rows of each verdict there are."""
    widths = [max(len(part) for part, _ in rows), max(len(row.check) for _, row in rows)]
    lines = [
        f"{part:{widths[0]}}  {row.check:{widths[1]}}  {row.verdict:8}  {row.figure}".rstrip()
        for part, row in rows
    ]
    details = [f"\n{part}: {row.check}\n{row.detail}" for part, row in rows if row.detail]
    verdicts = [row.verdict for _, row in rows]
    counts = [f"{verdicts.count(v)} {v}" for v in ("PASS", "FAIL", "measured", "skipped")]
    return "\n".join([*lines, *details, "", ", ".join(counts)]) + "\n"


def write(path: Path, rows: list[tuple[str, Row]]) -> None:
    """The table so far: as JSON to a .json, else as text."""
    if path.suffix == ".json":
        path.write_text(json.dumps([{"part": p, **row._asdict()} for p, row in rows], indent=1))
    else:
        path.write_text(as_text(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks and timings of a GPU: one table.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--rooms", type=Path, help="prepared rooms; default: generate 12")
    parser.add_argument("--output", type=Path, help="write the table there too, as .json or text")
    parser.add_argument("--cpu", action="store_true", help="the short form, on the CPU")
    parser.epilog = f"Parts: {', '.join(PARTS)}"
    args = parser.parse_args()
    if args.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    device = torch.device("cpu" if args.cpu else "cuda")
    patience = 4 if args.cpu else 1  # others may use it too
    ends, rows = time.monotonic() + patience * SECONDS, []
    with tempfile.TemporaryDirectory(prefix="gpu_") as folder:
        rooms = args.rooms.absolute() if args.rooms else Path(folder) / "rooms"
        parts = {name: PARTS[name] for name in args.parts}
        if args.rooms is None:
            parts = {ROOMS: prepare_rooms, **parts}
        for name, part in parts.items():
            start = time.monotonic()
            own_end = min(ends, start + patience * LONGEST.get(name, 60))
            for row in run_part(part, Bench(device, args.cpu, rooms, Path(folder), own_end)):
                rows.append((name, row))
                print(f"{name}: {row.check}: {row.verdict} {row.figure}", flush=True)
                if args.output:
                    write(args.output, rows)
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    print(f"\n{as_text(rows)}", end="")
    sys.exit(any(row.verdict == "FAIL" for _, row in rows))


if __name__ == "__main__":
    main()
