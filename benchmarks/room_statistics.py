"""Figures of prepared folders side by side, a scene's mean each, as a Markdown table.

    python benchmarks/room_statistics.py data/rooms /path/to/NYU > table.md

TSDF-CAD is looked for in ROOT/cad and in NYUCAD beside ROOT.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import print_header, print_row
from constants import CLASS_NAMES, IGNORE_INDEX, NO_PIXEL, NUM_CLASSES
from datasets import nyu
from datasets.voxels import is_occupied
from errors import exit_on_input_error

COUNTS = ("voxels with a pixel", "SSC voxels", "SC voxels", "SC voxels, occupied")
SHARES = ("pixels that lie in an occupied voxel", "TSDF below -0.5", "TSDF of 0")
CORRELATION = "correlation of TSDF and TSDF-CAD"


@exit_on_input_error
def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of prepared folders side by side.")
    parser.add_argument(
        "roots", nargs="+", type=Path, help="prepared; TSDF-CAD in cad or ../NYUCAD"
    )
    roots = parser.parse_args().roots
    columns = [statistics(root) for root in roots]
    print_header(["mean of a scene", *(root.name for root in roots)])
    for name in columns[0]:
        print_row(name, *(column[name] for column in columns))


def statistics(root: Path) -> dict[str, str]:
    """The table's column of a prepared folder: {figure: text}."""
    cad_root = nyu.cad_folder(root)
    cad_root = cad_root if cad_root.is_dir() else None
    scenes = [scene for split in nyu.SPLITS for scene in nyu.find_scenes(root, split, cad_root)]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(scene_figures, scenes, chunksize=8))
    mean = {key: np.mean([row[key] for row in rows], axis=0) for key in rows[0]}
    table = {"scenes": f"{len(rows)}"}
    table |= {key: f"{mean[key]:.0f}" for key in COUNTS}
    table["SC IoU of everything occupied"] = f"{mean[COUNTS[3]] / mean[COUNTS[2]]:.1%}"
    table |= {key: f"{mean[key]:.1%}" for key in SHARES}
    table[CORRELATION] = f"{mean[CORRELATION]:.3f}" if cad_root else ""
    present = np.mean([row["voxels"] > 0 for row in rows], axis=0)
    names = *CLASS_NAMES, "ignored (255)"
    for name, *figures in zip(names, mean["voxels"], mean["seen"], present, strict=True):
        voxels_seen_in = "{:.0f} ({:.0f}; {:.0%})".format(*figures)
        table[f"{name}: voxels (with a pixel; in scenes)"] = voxels_seen_in
    return table


def scene_figures(scene: nyu.SceneFiles) -> dict[str, float | np.ndarray]:
    label, mapping = nyu.read_label(scene.label), nyu.read_mapping(scene.mapping)
    tsdf, weight = nyu.read_tsdf(scene.tsdf), nyu.read_label_weight(scene.tsdf)
    occupied, seen = is_occupied(label), mapping != NO_PIXEL
    scored = weight & (label != IGNORE_INDEX)
    hidden = scored & ~seen
    counts = seen.sum(), scored.sum(), hidden.sum(), (hidden & occupied).sum()
    hits = (seen & occupied).sum() / max(seen.sum(), 1)
    figures = dict(zip(COUNTS, counts, strict=True))
    figures |= zip(SHARES, (hits, (tsdf < -0.5).mean(), (tsdf == 0).mean()), strict=True)
    classes = [*range(NUM_CLASSES), IGNORE_INDEX]
    figures["voxels"] = np.bincount(label.reshape(-1), minlength=256)[classes]
    figures["seen"] = np.bincount(label[seen], minlength=256)[classes]
    if scene.tsdf_cad is not None:
        cad = nyu.read_tsdf(scene.tsdf_cad)
        figures[CORRELATION] = np.corrcoef(tsdf.reshape(-1), cad.reshape(-1))[0, 1]
    return figures


if __name__ == "__main__":
    main()
