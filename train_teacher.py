"""Train the teacher on TSDF-CAD.

    python train_teacher.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_teacher.py --config ... # several GPUs or processes

Writes teacher/Teacher_ckpt.pth (setting train.teacher_path). --resume goes on where a run stopped.
"""

from pathlib import Path

import torch

from config import parse_training
from datasets import build_dataset
from errors import exit_on_input_error
from models import build_model
from models.encoder_weights import load_pretrained_encoder, stem_of_weights
from utils import distributed
from utils.checkpoint import DISTILLATION_WEIGHTS, check_resumed, find_checkpoint, is_finished
from utils.training import Objective, train


@exit_on_input_error
def main():
    cfg, resume = parse_training("Train the teacher on TSDF-CAD.")
    cfg.model.encoder = stem_of_weights(cfg.model)
    path = Path(cfg.train.teacher_path)
    device = distributed.setup()
    volume = cfg.data.input or "tsdf_cad"
    checkpoint = find_checkpoint(path) if resume else None
    if checkpoint is not None:
        check_resumed(checkpoint, cfg, volume, ignored=DISTILLATION_WEIGHTS)
        if is_finished(checkpoint):
            if distributed.is_main():
                print(f"{path} is complete: kept")
            distributed.cleanup()
            return

    with_cad = volume == "tsdf_cad"
    train_set = build_dataset(cfg.data, "train", with_cad, augment=True, seed=cfg.seed)
    test_set = build_dataset(cfg.data, "test", with_cad, augment=False)
    torch.manual_seed(cfg.seed)
    model = build_model(cfg.model)
    if checkpoint is None:
        load_pretrained_encoder(model.net_2d, cfg.model.encoder, cfg.model.pretrained)
    objective = Objective(cfg.loss, volume, precision=cfg.train.precision)
    train(cfg, model, objective, train_set, test_set, path, device, checkpoint)
    distributed.cleanup()


if __name__ == "__main__":
    main()
