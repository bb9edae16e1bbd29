"""Fit what tells an upright frame: the linear layer of utils/upright.py, the depth's WEIGHTS.

    python runs/fit_upright.py --rooms 300 data.root=data/NYU

The training images of NYUv2 and generated training rooms, each also mirrored, are shown at four
turns, of which one is upright: a conditional logit, with the squares of the weights (in units of
the features' standard deviations) as a penalty, by L-BFGS. Depth is that of the rooms alone, as
NYUv2's is not part of the data. Writes checkpoint/upright.npz and prints WEIGHTS, to be put into
datasets/frames/upright.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import load_config, parse_settings
from datasets.frames.gravity import find_faces
from datasets.frames.upright import WEIGHTS, views
from datasets.nyu import find_scenes, read_image
from datasets.rooms import make_room
from errors import exit_on_input_error
from utils.files import atomic_file
from utils.upright import FOLDER, UprightNet

IMAGE_PENALTY, DEPTH_PENALTY = 1e-2, 3e-3
DEPTH_SHARE = 0.5  # image and depth are not independent: added whole, they would be too sure


def fit(features: Tensor, penalty: float) -> np.ndarray:
    """Weights (n,) float32 of features (m, 4, n), of which the first turn is upright."""
    spread = features.flatten(0, 1).std(dim=0) + 1e-6
    scaled = (features / spread).double()
    weights = torch.zeros(features.shape[2], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        wrong = -(scaled @ weights).log_softmax(dim=1)[:, 0].mean()
        total = wrong + penalty * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return (weights.detach() / spread).float().numpy()


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Fit what tells an upright frame.")
    parser.add_argument("--rooms", type=int, default=300)
    args = parse_settings(parser)
    cfg = load_config(overrides=args.overrides)
    net, images, depths = UprightNet(), [], []
    for files in tqdm(find_scenes(cfg.data.root, "train", ids=cfg.data.train_ids or None)):
        image = read_image(files.image)
        images += [net.features(image), net.features(np.ascontiguousarray(image[:, ::-1]))]
    for index in tqdm(range(args.rooms)):
        room = make_room(0, "train", index)
        mirrored = np.ascontiguousarray(room.rgb[:, ::-1])
        images += [net.features(room.rgb), net.features(mirrored)]
        depths.append(torch.from_numpy(views(find_faces(room.depth, room.K.astype(float)))))
    weight = fit(torch.stack(images), IMAGE_PENALTY)
    with atomic_file(FOLDER / "upright.npz") as file:
        np.savez_compressed(file, weight=weight.astype(np.float16))
    weights = (DEPTH_SHARE * fit(torch.stack(depths), DEPTH_PENALTY)).round(2).tolist()
    print(dict(zip(WEIGHTS, weights, strict=True)))


if __name__ == "__main__":
    main()
