"""Train the teacher on TSDF-CAD.

    python train_teacher.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_teacher.py --config ... # several GPUs or processes

Writes teacher/Teacher_ckpt.pth (setting train.teacher_path). --resume goes on where a run stopped.
"""

from config import parse_training
from errors import exit_on_input_error


@exit_on_input_error
def main() -> None:
    cfg, resume = parse_training("Train the teacher on TSDF-CAD.")
    # Imported here, as they take seconds: --help and a wrong setting are answered at once.
    from models.encoder_weights import stem_of_weights
    from models.losses import DISTILLATION
    from utils import distributed
    from utils.checkpoint import find_resumable, is_finished
    from utils.step import Objective
    from utils.training import Training, initial_network

    cfg.model.encoder = stem_of_weights(cfg.model)
    device = distributed.setup()
    path, volume = cfg.train.teacher_path, cfg.data.input or "tsdf_cad"
    ignored = tuple(f"loss.weight_{name}" for name in DISTILLATION)
    checkpoint = find_resumable(path, cfg, volume, ignored) if resume else None
    if checkpoint is None or not is_finished(checkpoint):
        objective = Objective(cfg.loss, volume, precision=cfg.train.precision)
        model = initial_network(cfg, checkpoint)
        Training(cfg, model, objective, path, device, checkpoint).run()
    elif distributed.is_main():
        print(f"{path} is complete: kept")
    distributed.cleanup()


if __name__ == "__main__":
    main()
