"""The README's pictures, from a checkpoint and a folder of rooms.

    python prepare_rooms.py --out data/rooms_raw --train 0 --test 30 --keep-raw
    python figs/make_figures.py --pretrained_path checkpoint/rooms_student.pth \
        --scenes NYU5007 data.root=data/rooms_raw

Writes into figs/ (setting output) a picture a scene, named after it. The depth is that of the raw
files where prepare_rooms.py kept them. Pictures of NYUv2 can be made too, but do not belong in the
repository: its images are not ours to spread.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from config import parse_settings  # noqa: E402
from datasets import build_dataset  # noqa: E402
from datasets.voxels import read_depth  # noqa: E402
from errors import InputError, exit_on_input_error  # noqa: E402
from utils.checkpoint import read_network  # noqa: E402
from utils.pictures.exhibit import Exhibit  # noqa: E402
from utils.pictures.picture import save_scene_picture  # noqa: E402


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's pictures.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    parser.add_argument("--scenes", nargs="+", help="test scenes; default: the first")
    args = parse_settings(parser)

    # --scenes takes every word that follows, the settings too.
    scenes = [word for word in args.scenes or () if "=" not in word]
    overrides = [*args.overrides, *(word for word in args.scenes or () if "=" in word)]
    model, cfg, volume = read_network(args.pretrained_path, overrides)
    dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)
    output = Path(cfg.output or Path(__file__).parent)
    index = {scene.name: i for i, scene in enumerate(dataset.scenes)}
    names = scenes or list(index)[:1]
    unknown = [name for name in names if name not in index]
    if unknown:
        raise InputError(f"{unknown[0]}: no test scene of {cfg.data.root}; names are like NYU5001")

    written = []
    for name in names:
        labels = predict(model.eval(), dataset[index[name]], volume)
        exhibit = Exhibit.of_files(dataset.scenes[index[name]], labels.numpy())
        raw = Path(cfg.data.root) / "raw" / "NYUtest" / f"{name}_0000.png"
        if raw.exists():
            exhibit.depth = read_depth(raw)
        written.append(output / f"{name}.png")
        save_scene_picture(written[-1], exhibit)
    print(f"written: {', '.join(map(str, written))}")


@torch.inference_mode()
def predict(model: torch.nn.Module, sample: dict, volume: str) -> torch.Tensor:
    """Labels (60, 36, 60) of one sample."""
    inputs = (sample[key][None] for key in ("image", "mapping2d", volume))
    return model(*inputs).logits.argmax(dim=1)[0]


if __name__ == "__main__":
    main()
