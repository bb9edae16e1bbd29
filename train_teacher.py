"""Train the teacher on TSDF-CAD.

    python train_teacher.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_teacher.py --config ... # several GPUs or processes

Writes teacher/Teacher_ckpt.pth (setting train.teacher_path) after every epoch.
"""

import argparse
from pathlib import Path

import torch

from config import load_config, parse_settings
from datasets import build_dataset
from errors import exit_on_input_error
from models import build_model
from models.image_net import load_pretrained_encoder, stem_of_weights
from utils import distributed
from utils.training import Objective, is_finished, read_meta, train


@exit_on_input_error
def main():
    parser = argparse.ArgumentParser(description="Train the teacher on TSDF-CAD.")
    parser.add_argument("--config", default="configs/nyu_segformer_b2.yaml", help="preset")
    parser.add_argument(
        "--resume", action="store_true", help="go on where train.teacher_path stands, if it exists"
    )
    args = parse_settings(parser)
    cfg = load_config(args.config, args.overrides)
    cfg.model.encoder = stem_of_weights(cfg.model)
    path = Path(cfg.train.teacher_path)
    if args.resume and path.exists() and is_finished(read_meta(path, cfg)):
        print(f"{path} is complete: kept")
        return

    device = distributed.setup()
    volume = cfg.data.input or "tsdf_cad"
    with_cad = volume == "tsdf_cad"
    train_set = build_dataset(cfg.data, "train", with_cad, augment=True, seed=cfg.seed)
    test_set = build_dataset(cfg.data, "test", with_cad, augment=False)
    torch.manual_seed(cfg.seed)
    model = build_model(cfg.model)
    load_pretrained_encoder(model.net_2d, cfg.model.encoder, cfg.model.pretrained)
    objective = Objective(cfg.loss, volume)
    train(cfg, model, objective, train_set, test_set, path, device, args.resume)
    distributed.cleanup()


if __name__ == "__main__":
    main()
