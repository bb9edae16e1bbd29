"""Train the teacher on TSDF-CAD.

    python train_teacher.py --config configs/nyu_segformer_b2.yaml data.root=/path/to/NYU
    torchrun --nproc_per_node=2 train_teacher.py --config ... # several GPUs or processes

Writes teacher/Teacher_ckpt.pth (setting train.teacher_path). --resume goes on where a run stopped.
"""

from config import parse_training
from datasets import build_dataset
from errors import exit_on_input_error
from models.encoder_weights import stem_of_weights
from utils import distributed
from utils.checkpoint import DISTILLATION_WEIGHTS, find_resumable, is_finished
from utils.step import Objective
from utils.training import initial_network, train


@exit_on_input_error
def main() -> None:
    cfg, resume = parse_training("Train the teacher on TSDF-CAD.")
    cfg.model.encoder = stem_of_weights(cfg.model)
    device = distributed.setup()
    path, volume = cfg.train.teacher_path, cfg.data.input or "tsdf_cad"
    checkpoint = find_resumable(path, cfg, volume, DISTILLATION_WEIGHTS) if resume else None
    if checkpoint is None or not is_finished(checkpoint):
        with_cad = volume == "tsdf_cad"
        train_set = build_dataset(cfg.data, "train", with_cad, augment=True, seed=cfg.seed)
        test_set = build_dataset(cfg.data, "test", with_cad, augment=False)
        model = initial_network(cfg, checkpoint)
        objective = Objective(cfg.loss, volume, precision=cfg.train.precision)
        train(cfg, model, objective, train_set, test_set, path, device, checkpoint)
    elif distributed.is_main():
        print(f"{path} is complete: kept")
    distributed.cleanup()


if __name__ == "__main__":
    main()
