"""Evaluate a checkpoint on the test scenes, and dump its voxels.

    python test_NYU.py --pretrained_path checkpoint/CleanerS_ckpt.pth data.root=/path/to/NYU

A checkpoint of ours knows its network and its input (a teacher's is TSDF-CAD); where the scenes are
and which of them to take, only you (data.root, data.test_ids). Writes to
visual_pred/<name of the checkpoint>/ (setting output): results.json, results.csv, scenes.csv, a PLY
file a scene, and of the first scenes a picture and an interactive page, index.html.
"""

import argparse
import json
from pathlib import Path

from config import parse_settings
from constants import IGNORE_INDEX
from errors import InputError, exit_on_input_error


def earlier_row(folder: Path) -> list[float]:
    """The row that an earlier evaluation wrote to this folder."""
    from utils.metrics import table_row

    path = folder / "results.json"
    try:
        return table_row(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the result of an evaluation ({error})") from error


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate a checkpoint on the test scenes.")
    parser.add_argument("--pretrained_path", required=True, help="checkpoint, ours or original")
    parser.add_argument("--no-dump", action="store_true", help="write no PLY files")
    parser.add_argument("--max-dump", type=int, help="write PLY files of the first N scenes only")
    pictures_help = "draw the first N scenes (default 4), and the page"
    parser.add_argument("--pictures", type=int, default=4, help=pictures_help)
    compare_help = "folder of another evaluation, for the table; may be repeated"
    parser.add_argument("--compare", type=Path, action="append", default=[], help=compare_help)
    args = parse_settings(parser)
    # Imported here, as they take seconds: --help and a wrong word are answered at once.
    import torch

    from datasets.nyu import build_dataset
    from utils import distributed
    from utils.checkpoint import read_network, run_name
    from utils.evaluation import evaluate
    from utils.files import write_text
    from utils.loading import loader_processes
    from utils.metrics import constant_prediction, format_table, protocol_rows, table_row
    from utils.pictures.exhibit import Exhibit
    from utils.pictures.page import save_page
    from utils.pictures.picture import save_scene_picture, write_ply
    from utils.run_folder import results_csv

    earlier = {folder.name: earlier_row(folder) for folder in args.compare}
    device = distributed.setup()
    model, cfg, volume = read_network(args.pretrained_path, args.overrides)
    model.to(device)
    dataset = build_dataset(cfg.data, "test", with_cad=volume == "tsdf_cad", augment=False)
    output = Path(cfg.output or Path("visual_pred") / run_name(args.pretrained_path))
    names = [scene.name for scene in dataset.scenes]
    dumped = set() if args.no_dump else set(names[: args.max_dump])
    pictured = {scene.name: scene for scene in dataset.scenes[: args.pictures]}
    exhibits = []

    def dump(name: str, labels: torch.Tensor, batch: dict) -> None:
        if name not in dumped and name not in pictured:
            return
        where = batch["label_weight"][0]
        if everywhere:
            labels, where = batch["known"][0], batch["known"][0] != IGNORE_INDEX
        # As in the original, a voxel outside the evaluated region is shown empty.
        shown, where = torch.where(where, labels, 0).cpu().numpy(), where.cpu().numpy()
        if name in dumped and not write_ply(output / f"{name}.ply", shown):
            print(f"{name}: no occupied voxel predicted, no PLY written")
        if name in pictured:
            exhibits.append(Exhibit.of_files(pictured[name], shown, where))
            save_scene_picture(output / f"{name}.png", exhibits[-1])

    everywhere = cfg.loss.free_space > 0
    how = cfg.train.precision, loader_processes(cfg), dump, cfg.test.flips, everywhere
    metrics, scenes = evaluate(model, dataset, volume, device, *how)
    exhibits = sorted(distributed.all_gather_lists(exhibits), key=lambda e: names.index(e.name))
    if distributed.is_main():
        scores = metrics.compute()
        frequent, constant = constant_prediction(metrics)
        rows = {f"all {frequent}": table_row(constant.compute())}
        rows |= earlier | protocol_rows(scores)
        title = f"{run_name(args.pretrained_path)} on {volume}, {len(names)} scenes"
        print(f"{title}\n{format_table(rows)}")
        print(f"all {frequent}: everything occupied, of the most frequent class (paper's protocol)")
        print("known: the labels that predict.py gives, over all voxels; unknown ones as empty")
        write_text(output / "results.json", json.dumps(scores, indent=2) + "\n")
        write_text(output / "results.csv", results_csv({"": scores}))
        by_scene = {name: scene.compute() for name, scene in scenes.items()}
        write_text(output / "scenes.csv", results_csv(by_scene))
        save_page(output / "index.html", title, {"Scores in per cent": rows}, exhibits)
        print(f"written: {output}/index.html, results.json, results.csv, scenes.csv")
    distributed.cleanup()


if __name__ == "__main__":
    main()
