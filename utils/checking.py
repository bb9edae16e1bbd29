"""Is a prepared folder sound?"""

from pathlib import Path

import numpy as np

from constants import CLASS_NAMES, IGNORE_INDEX, NO_PIXEL, NUM_CLASSES
from datasets import nyu
from datasets.poses import missed_voxels, recover_pose, scene_id
from datasets.voxels import label_weight
from errors import InputError
from utils.files import atomic_file, check_writable
from utils.parallel import run_parallel
from utils.pictures.overview import draw_overview


def check_folder(
    root: Path, cad_root: Path | None, names: list[str], picture: Path, workers: int
) -> None:
    """Validate a prepared folder, print its totals, and draw the scenes `names` (or three)."""
    if cad_root is None and nyu.cad_folder(root).is_dir():
        cad_root = nyu.cad_folder(root)
    splits = {
        split: {scene.id: scene for scene in nyu.find_scenes(root, split, cad_root)}
        for split in nyu.SPLITS
    }
    both = splits["train"].keys() & splits["test"].keys()
    if both:
        raise InputError(f"{root}: scene {min(both)} is in train and in test")
    scenes, shown = splits["train"] | splits["test"], list(map(scene_id, names))
    unknown = [name for name in shown if name not in scenes]
    if unknown:
        raise InputError(f"{root}: no scene {unknown[0]} in it to draw")
    check_writable(picture)

    results = {}
    try:
        run_parallel([(i, check_scene, scene) for i, scene in scenes.items()], workers, results)
    finally:
        for split, members in splits.items():
            _print_summary(split, len(members), [results[i] for i in members if i in results])
    shown = shown or list(results)[:: max(1, len(results) // 3)][:3]
    figure = draw_overview([scenes[i] for i in shown])
    with atomic_file(picture) as file:
        figure.savefig(file, format="png", dpi=80)
    print(f"overview of {', '.join(shown)}: {picture}")


def check_scene(scene: nyu.SceneFiles) -> dict:
    """Counts of a sound scene. Raises InputError for the first thing that is wrong."""
    nyu.read_image(scene.image)
    label, mapping = nyu.read_label(scene.label), nyu.read_mapping(scene.mapping)
    tsdf, weight = nyu.read_tsdf(scene.tsdf), nyu.read_label_weight(scene.tsdf)
    nyu.invert_mapping(mapping, scene.mapping)
    wrong = int((weight != label_weight(label, tsdf)).sum())
    if wrong:
        raise InputError(
            f"{scene.tsdf}: label weight (arr_1) is not 1 exactly on objects and where the TSDF is "
            f"below -0.5 ({wrong} voxels); was it made with other labels?"
        )
    try:
        pose, _ = recover_pose(mapping)
    except InputError as error:
        raise InputError(f"{scene.mapping}: {error}") from None
    if scene.tsdf_cad is not None:
        nyu.read_tsdf(scene.tsdf_cad)
    scored = weight & (label != IGNORE_INDEX)
    counts = np.bincount(label.reshape(-1), minlength=256)
    return {
        "classes": counts[[*range(NUM_CLASSES), IGNORE_INDEX]],
        "mapped": int((mapping != NO_PIXEL).sum()),
        "ssc": int(scored.sum()),
        "sc": int((scored & (mapping == NO_PIXEL)).sum()),
        "misses": missed_voxels(mapping, pose),
        "cad": scene.tsdf_cad is not None,
    }


def _print_summary(split: str, count: int, sound: list[dict]) -> None:
    print(f"{split}: {count} scenes (NYUv2 has {nyu.OFFICIAL_COUNTS[split]}), {len(sound)} sound")
    if not sound:
        return
    classes, mapped, ssc, sc, misses, cad = zip(*map(dict.values, sound), strict=True)
    print(
        f"  mapped pixels {min(mapped)}..{max(mapped)}, mean {np.mean(mapped):.0f}; rays that miss "
        f"their voxel: at most {max(misses):.2%} of a scene\n"
        f"  voxels scored: SSC {sum(ssc)}, SC {sum(sc)}; TSDF-CAD of {sum(cad)} scenes"
    )
    totals = zip((*CLASS_NAMES, "ignored"), sum(classes), strict=True)
    print("  " + ", ".join(f"{name} {total}" for name, total in totals))
