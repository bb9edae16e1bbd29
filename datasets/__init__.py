"""The data: folders of prepared scenes, and how they are made from raw frames."""

from easydict import EasyDict

from datasets.nyu import NYUDataset, cad_folder


def build_dataset(
    cfg: EasyDict, split: str, with_cad: bool, augment: bool, seed: int = 0
) -> NYUDataset:
    """The scenes of a split ("train" or "test") by the `data` settings cfg.

    with_cad: also read TSDF-CAD; augment: draw the training augmentation.
    """
    return NYUDataset(
        cfg.root,
        split,
        cad_root=(cfg.cad_root or cad_folder(cfg.root)) if with_cad else None,
        ids=cfg[f"{split}_ids"] or None,
        augmentation=cfg.photometric if augment else None,
        seed=seed,
    )
