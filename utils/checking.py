"""Is a prepared folder sound?"""

from pathlib import Path

import numpy as np

from constants import CLASS_NAMES, IGNORE_INDEX, NO_PIXEL, NUM_CLASSES
from datasets import nyu
from datasets.nyu import OFFICIAL_COUNTS, SceneFiles
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
    scenes = {split: nyu.find_scenes(root, split, cad_root) for split in nyu.SPLITS}
    both = {s.id for s in scenes["train"]} & {s.id for s in scenes["test"]}
    if both:
        raise InputError(f"{root}: scene {min(both)} is in train and in test")
    known = {scene.id: scene for split in nyu.SPLITS for scene in scenes[split]}
    unknown = [name for name in map(scene_id, names) if name not in known]
    if unknown:
        raise InputError(f"{root}: no scene {unknown[0]} in it to draw")
    check_writable(picture)

    results = {}
    try:
        run_parallel([(scene.id, check_scene, scene) for scene in known.values()], workers, results)
    finally:
        for split in nyu.SPLITS:
            sound = [results[scene.id] for scene in scenes[split] if scene.id in results]
            _print_summary(split, len(scenes[split]), sound)
    ids = [scene_id(name) for name in names] or list(results)[:: max(1, len(results) // 3)][:3]
    figure = draw_overview([known[name] for name in ids])
    with atomic_file(picture) as file:
        figure.savefig(file, format="png", dpi=80)
    print(f"overview of {', '.join(ids)}: {picture}")


def check_scene(scene: SceneFiles) -> dict:
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
    print(f"{split}: {count} scenes (NYUv2 has {OFFICIAL_COUNTS[split]}), {len(sound)} sound")
    if not sound:
        return
    mapped = [result["mapped"] for result in sound]
    print(
        f"  mapped pixels {min(mapped)}..{max(mapped)}, mean {np.mean(mapped):.0f}; rays that miss "
        f"their voxel: at most {max(result['misses'] for result in sound):.2%} of a scene\n"
        f"  voxels scored: SSC {sum(result['ssc'] for result in sound)}, "
        f"SC {sum(result['sc'] for result in sound)}; "
        f"TSDF-CAD of {sum(result['cad'] for result in sound)} scenes"
    )
    totals = sum(result["classes"] for result in sound)
    names = (*CLASS_NAMES, "ignored")
    print("  " + ", ".join(f"{n} {total}" for n, total in zip(names, totals, strict=True)))
