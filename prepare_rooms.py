"""Generated rooms, prepared as NYUv2 is (docs/ROOMS.md): a data set without any download.

    python prepare_rooms.py --out data/rooms --train 200 --test 60 --seed 0
    python train_teacher.py --config ... data.root=data/rooms

All rooms in parallel. What exists and is intact is kept, so a run that was stopped goes on, and
larger numbers add rooms.
"""

import argparse
import os
from pathlib import Path

from errors import exit_on_input_error


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default="data/rooms", help="the folder to make")
    parser.add_argument("--train", type=int, default=200, help="rooms to train on")
    parser.add_argument("--test", type=int, default=60, help="rooms to test on")
    parser.add_argument("--seed", type=int, default=0, help="other rooms for another number")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    keep_help = "keep the raw files (2 MB a room) in OUT/raw"
    parser.add_argument("--keep-raw", action="store_true", help=keep_help)
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    from utils.preparation import prepare_rooms  # takes seconds: not for --help or a wrong word

    counts = {"train": args.train, "test": args.test}
    prepare_rooms(args.out, counts, args.seed, args.workers, args.keep_raw)


if __name__ == "__main__":
    main()
