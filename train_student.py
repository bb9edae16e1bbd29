"""Train the student on the noisy TSDF, from labels and from the teacher (KD-T, KD-SC, KD-SA).

    python train_student.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_student.py --config ... # several GPUs or processes

Reads teacher/Teacher_ckpt.pth (setting train.teacher_path), writes checkpoint/CleanerS_ckpt.pth
(train.student_path) after every epoch. With loss.weight_kd_t=0 loss.weight_kd_sc=0
loss.weight_kd_sa=0 it learns from labels alone and needs no teacher.
"""

from pathlib import Path

import torch

from config import parse_training
from datasets import build_dataset
from errors import exit_on_input_error
from models import build_model
from models.checkpoints import load_weights
from models.image_net import load_pretrained_encoder, stem_of_weights
from utils import distributed
from utils.training import Objective, is_finished, read_meta, train


@exit_on_input_error
def main():
    cfg, resume = parse_training("Train the student on the noisy TSDF.")
    cfg.model.encoder = stem_of_weights(cfg.model)
    path = Path(cfg.train.student_path)
    if resume and path.exists() and is_finished(read_meta(path, cfg)):
        print(f"{path} is complete: kept")
        return

    device = distributed.setup()
    distil = any(cfg.loss[f"weight_{name}"] for name in ("kd_t", "kd_sc", "kd_sa"))
    teacher = None
    if distil:
        if not is_finished(read_meta(cfg.train.teacher_path, cfg)):
            print(f"warning: the training of {cfg.train.teacher_path} is not complete")
        teacher = build_model(cfg.model)
        load_weights(teacher, cfg.train.teacher_path)
    volume = cfg.data.input or "tsdf"
    with_cad = volume == "tsdf_cad"
    train_set = build_dataset(cfg.data, "train", distil or with_cad, augment=True, seed=cfg.seed)
    test_set = build_dataset(cfg.data, "test", with_cad, augment=False)
    torch.manual_seed(cfg.seed)
    model = build_model(cfg.model)
    load_pretrained_encoder(model.net_2d, cfg.model.encoder, cfg.model.pretrained)
    objective = Objective(cfg.loss, volume, teacher)
    train(cfg, model, objective, train_set, test_set, path, device, resume)
    distributed.cleanup()


if __name__ == "__main__":
    main()
