"""A checkpoint to give away: without training state, its matrices and kernels in fp16.

    python checkpoint/shrink.py checkpoint/CleanerS_ckpt.pth small.pth

A third to a half of the size. Everything reads it as any other checkpoint, but it cannot be
resumed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from errors import InputError, exit_on_input_error
from models import build_model
from models.checkpoints import load_strictly, read_checkpoint
from utils.checkpoint import save_checkpoint, settings_of


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Leave out training state, store fp16.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    checkpoint = read_checkpoint(args.checkpoint)
    if checkpoint.meta is None:
        kind = "is the original's" if checkpoint.is_original else "holds weights alone"
        raise InputError(f"{args.checkpoint} {kind}: evaluate it as it is")
    network = build_model(settings_of(checkpoint).model)
    load_strictly(network, checkpoint.state, args.checkpoint)
    for parameter in network.parameters():
        if parameter.ndim > 1:  # in fp16, a small value of a vector could become 0
            parameter.data = parameter.data.half()
    save_checkpoint(args.output, network, checkpoint.meta)
    print(f"wrote {args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
