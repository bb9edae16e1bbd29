"""Train the student on the noisy TSDF, from labels and from the teacher (KD-T, KD-SC, KD-SA).

    python train_student.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_student.py --config ... # several GPUs or processes

Reads teacher/Teacher_ckpt.pth (setting train.teacher_path), writes checkpoint/CleanerS_ckpt.pth
(train.student_path). --resume goes on where a run stopped. With loss.weight_kd_t=0
loss.weight_kd_sc=0 loss.weight_kd_sa=0 it learns from labels alone and needs no teacher.
"""

import sys
from pathlib import Path

import torch

from config import parse_training
from datasets import build_dataset
from errors import InputError, exit_on_input_error
from models import build_model, prepare_for_inference
from models.checkpoints import load_strictly, read_checkpoint
from models.encoder_weights import load_pretrained_encoder, stem_of_weights
from utils import distributed
from utils.checkpoint import check_resumed, check_settings, find_checkpoint, is_finished
from utils.training import Objective, train


def load_teacher(cfg):
    checkpoint = read_checkpoint(cfg.train.teacher_path)
    check_settings(checkpoint, cfg, ("model", "data"))
    if checkpoint.meta is not None and checkpoint.meta["input"] != "tsdf_cad":
        raise InputError(f"{checkpoint.path} is no teacher: it was not trained on TSDF-CAD")
    if not is_finished(checkpoint) and distributed.is_main():
        print(f"warning: the training of {checkpoint.path} is not complete", file=sys.stderr)
    teacher = build_model(cfg.model)
    load_strictly(teacher, checkpoint.state, checkpoint.path)
    return prepare_for_inference(teacher)


@exit_on_input_error
def main():
    cfg, resume = parse_training("Train the student on the noisy TSDF.")
    cfg.model.encoder = stem_of_weights(cfg.model)
    path = Path(cfg.train.student_path)
    device = distributed.setup()
    volume = cfg.data.input or "tsdf"
    checkpoint = find_checkpoint(path) if resume else None
    if checkpoint is not None:
        check_resumed(checkpoint, cfg, volume)
        if is_finished(checkpoint):
            if distributed.is_main():
                print(f"{path} is complete: kept")
            distributed.cleanup()
            return

    distil = any(cfg.loss[f"weight_{name}"] for name in ("kd_t", "kd_sc", "kd_sa"))
    teacher = load_teacher(cfg) if distil else None
    with_cad = volume == "tsdf_cad"
    train_set = build_dataset(cfg.data, "train", distil or with_cad, augment=True, seed=cfg.seed)
    test_set = build_dataset(cfg.data, "test", with_cad, augment=False)
    torch.manual_seed(cfg.seed)
    model = build_model(cfg.model)
    if checkpoint is None:
        load_pretrained_encoder(model.net_2d, cfg.model.encoder, cfg.model.pretrained)
    objective = Objective(cfg.loss, volume, teacher, cfg.train.precision)
    train(cfg, model, objective, train_set, test_set, path, device, checkpoint)
    distributed.cleanup()


if __name__ == "__main__":
    main()
