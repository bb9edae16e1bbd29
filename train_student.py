"""Train the student on the noisy TSDF, from labels and from the teacher (KD-T, KD-SC, KD-SA).

    python train_student.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_student.py --config ... # several GPUs or processes

Reads teacher/Teacher_ckpt.pth (setting train.teacher_path), writes checkpoint/CleanerS_ckpt.pth
(train.student_path). --resume goes on where a run stopped. With loss.weight_kd_t=0
loss.weight_kd_sc=0 loss.weight_kd_sa=0 it learns from labels alone and needs no teacher.
"""

from config import parse_training
from errors import exit_on_input_error


@exit_on_input_error
def main() -> None:
    cfg, resume = parse_training("Train the student on the noisy TSDF.")
    # Imported here, as they take seconds: --help and a wrong setting are answered at once.
    from models.encoder_weights import stem_of_weights
    from models.losses import DISTILLATION
    from utils import distributed
    from utils.checkpoint import find_resumable, is_finished
    from utils.step import Objective
    from utils.training import Training, initial_network, load_teacher

    cfg.model.encoder = stem_of_weights(cfg.model)
    device = distributed.setup()
    path, volume = cfg.train.student_path, cfg.data.input or "tsdf"
    checkpoint = find_resumable(path, cfg, volume) if resume else None
    if checkpoint is None or not is_finished(checkpoint):
        distil = any(cfg.loss[f"weight_{name}"] for name in DISTILLATION)
        teacher = load_teacher(cfg) if distil else None
        objective = Objective(cfg.loss, volume, teacher, cfg.train.precision)
        model = initial_network(cfg, checkpoint)
        Training(cfg, model, objective, path, device, checkpoint).run()
    elif distributed.is_main():
        print(f"{path} is complete: kept")
    distributed.cleanup()


if __name__ == "__main__":
    main()
