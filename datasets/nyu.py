"""NYUDataset: a folder of images, TSDFs, mappings and labels -> samples.

Two layouts are read. The first is the one that prepare_NYU.py writes:

    <root>/{train,test}/RGB/NYU0003_rgb.png     480 x 640; or .jpg
    <root>/Label/0003.npz                       arr_0: class of each voxel, 0..11 and 255
    <root>/Mapping/0003.npz                     arr_0: pixel index of each voxel, 307200 none
    <root>/TSDF/0003.npz                        arr_0: TSDF in [-1, 1]; arr_1: label weight, 0 or 1
    <root>/train.txt, <root>/test.txt           optional: the scenes of a split, one a line
    <cad_root>/TSDF/0003.npz                    arr_0: TSDF-CAD; only for a cad_root

The second is the tree of the original README: images in <root>/Mapping/{trainset,testset}/RGB,
labels in .../GT beside it or in <root>/Label, TSDF-CAD also in
<cad_root>/TSDF/{trainset,testset}/depth, the rest as above.

Every volume holds 60 * 36 * 60 values in the voxel order (x * 36 + y) * 60 + z. Each read_*
function raises InputError, naming the file, for anything but what it promises.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from easydict import EasyDict
from torch.utils.data import Dataset

from constants import GRID, IGNORE_INDEX, IMAGE_SIZE, NO_PIXEL, NO_VOXEL, NUM_CLASSES, NUM_VOXELS
from datasets import transforms
from datasets.files import read_array, read_rgb, read_text
from errors import InputError

cv2.setNumThreads(0)  # samples are read in parallel by the DataLoader's workers

SPLITS = ("train", "test")
OFFICIAL_COUNTS = {"train": 795, "test": 654}  # scenes of NYUv2
# As named by the original code, by 3D-Sketch and by MonoScene; the first that exists is read.
IMAGE_SUFFIXES = (
    "_rgb.png", "_rgb.jpg", "_colors.png", "_colors.jpg", "_0000_color.png", "_0000_color.jpg",
)  # fmt: skip
_IMAGE_NAME = re.compile(f"NYU([0-9]{{4}})(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})")
_ID_LINE = re.compile(r"(?:NYU)?([0-9]{1,4})(?:[_.][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True)
class SceneFiles:
    """Where the arrays and the image of a scene are."""

    id: str  # four digits
    image: Path
    label: Path
    mapping: Path
    tsdf: Path  # and the label weight
    tsdf_cad: Path | None = None

    @property
    def name(self) -> str:
        return f"NYU{self.id}"


def scene_places(
    root: Path, split: str, scene_id: str, cad_root: Path | None = None
) -> dict[str, list[Path]]:
    """Where the files of a scene may be, the first layout first: {field of SceneFiles: paths}."""
    other, archive = root / "Mapping" / f"{split}set", f"{scene_id}.npz"
    images = [f"NYU{scene_id}{suffix}" for suffix in IMAGE_SUFFIXES]
    places = {
        "image": [folder / i for folder in (root / split / "RGB", other / "RGB") for i in images],
        "mapping": [root / "Mapping" / archive],
        "tsdf": [root / "TSDF" / archive],
        "label": [root / "Label" / archive, other / "GT" / archive],
    }
    if cad_root is not None:
        cad = cad_root / "TSDF"
        places["tsdf_cad"] = [cad / archive, cad / f"{split}set" / "depth" / archive]
    return places


def prepared_files(
    root: Path, split: str, scene_id: str, cad_root: Path | None = None
) -> SceneFiles:
    """Where prepare_NYU.py and prepare_rooms.py put a scene."""
    places = scene_places(root, split, scene_id, cad_root)
    return SceneFiles(scene_id, **{field: paths[0] for field, paths in places.items()})


class NYUDataset(Dataset):
    """Samples of one split of NYUv2.

    A sample is a dict:
        name          "NYU0001"
        image         (3, 480, 640) float32, RGB, ImageNet-normalised
        mapping2d     (480, 640) int64: voxel index of a pixel, -1 none
        mapping       (60, 36, 60) int64: pixel index of a voxel, 307200 none; never augmented
        tsdf          (1, 60, 36, 60) float32 in [-1, 1]
        tsdf_cad      the same of the perfect surface; only with a cad_root
        label3d       (60, 36, 60) int64: 0..11, and 255 to ignore
        label_weight  (60, 36, 60) bool: the voxels that are trained on and evaluated

    root, cad_root: folders, see the module. ids: file of scene ids, one a line ("3", "NYU0003",
    "NYU0003_rgb.png"); by default <root>/<split>.txt, or every image of the split.
    augmentation: None, or the photometric flavour "original" or "standard" of transforms.apply.
    What is drawn for a sample depends on seed, epoch and index only.
    Raises InputError for missing files when it is built, for broken ones when their sample is read.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        cad_root: str | Path | None = None,
        ids: str | Path | None = None,
        augmentation: str | None = None,
        seed: int = 0,
    ) -> None:
        if augmentation is not None and augmentation not in transforms.PHOTOMETRIC:
            raise InputError(
                f"augmentation {augmentation!r}: use None, {' or '.join(transforms.PHOTOMETRIC)}"
            )
        self.scenes = find_scenes(root, split, cad_root, ids)
        self.augmentation = augmentation
        self.seed = seed
        # In shared memory, because persistent workers keep their own copy of the data set.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw the augmentations of this epoch from now on, in running workers too."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        scene = self.scenes[index]
        image = read_image(scene.image)
        mapping = read_mapping(scene.mapping)
        mapping2d = invert_mapping(mapping, scene.mapping)
        if self.augmentation is None:
            image = transforms.normalize(image)
        else:
            draws = transforms.draw(np.random.default_rng((self.seed, int(self._epoch), index)))
            image, mapping2d = transforms.apply(image, mapping2d, draws, self.augmentation)
        arrays = {
            "image": image,
            "mapping2d": mapping2d.astype(np.int64),
            "mapping": mapping,
            "tsdf": read_tsdf(scene.tsdf)[None],
            "label3d": read_label(scene.label),
            "label_weight": read_label_weight(scene.tsdf),
        }
        if scene.tsdf_cad is not None:
            arrays["tsdf_cad"] = read_tsdf(scene.tsdf_cad)[None]
        return {"name": scene.name, **{k: torch.from_numpy(a) for k, a in arrays.items()}}


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


def cad_folder(root: str | Path) -> Path:
    """Where the TSDF-CAD of prepared scenes is: ROOT/cad (of generated rooms), or NYUCAD beside."""
    root = Path(root).absolute()
    return root / "cad" if (root / "cad").is_dir() else root.parent / "NYUCAD"


def find_scenes(
    root: str | Path, split: str, cad_root: str | Path | None = None, ids: str | Path | None = None
) -> list[SceneFiles]:
    """The scenes of a split, in the order of the id list or else by id. Arguments of NYUDataset."""
    root, cad_root = Path(root), cad_root and Path(cad_root)
    if split not in SPLITS:
        raise InputError(f"split {split!r}: use {' or '.join(SPLITS)}")
    expected = (
        f"expected {root}/{{train,test}}/RGB/NYUxxxx_rgb.png (or .jpg), "
        f"{root}/Label/xxxx.npz, {root}/Mapping/xxxx.npz, {root}/TSDF/xxxx.npz "
        "and, if you like, train.txt and test.txt"
    )
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {expected}")
    places = scene_places(root, split, "xxxx")
    folders = {field: [path.parent for path in paths] for field, paths in places.items()}
    if absent := [found for found in folders.values() if not any(map(Path.is_dir, found))]:
        names = ", ".join(str(found[0].relative_to(root)) for found in absent)
        raise InputError(f"{root}: {names} missing in it; {expected}")

    id_list = root / f"{split}.txt" if ids is None else Path(ids)
    if ids is not None or id_list.exists():
        scene_ids = _read_ids(id_list)
    else:
        scene_ids = sorted({id for folder in folders["image"] for id in find_images(folder)})
        if not scene_ids:
            raise InputError(f"{folders['image'][0]}: no NYUxxxx_rgb.png or .jpg in it; {expected}")
    return [_find_scene(root, split, scene_id, cad_root) for scene_id in scene_ids]


def _find_scene(root: Path, split: str, scene_id: str, cad_root: Path | None) -> SceneFiles:
    files = {}
    for field, paths in scene_places(root, split, scene_id, cad_root).items():
        files[field] = next(filter(Path.is_file, paths), None)
        if files[field] is None:
            advice = "add it, or leave it out of the id list"
            if field == "tsdf_cad":
                make = f"python prepare_NYU.py cad --root {root} --out {cad_root}"
                advice = f"make TSDF-CAD with `{make}`"
            raise InputError(f"{paths[0]}: missing; {advice}")
    return SceneFiles(scene_id, **files)


def find_images(folder: Path, pattern: str = "*") -> dict[str, Path]:
    """{scene id: image} of a folder, for files named by IMAGE_SUFFIXES."""
    paths = sorted(folder.glob(pattern))
    return {match[1]: path for path in paths if (match := _IMAGE_NAME.fullmatch(path.name))}


def read_image(path: str | Path) -> np.ndarray:
    """Read an image: (480, 640, 3) uint8 RGB."""
    return read_rgb(path, IMAGE_SIZE)


def read_mapping(path: str | Path) -> np.ndarray:
    """Read a mapping: (60, 36, 60) int64, pixel index of a voxel, 307200 none."""
    mapping = _read_volume(path, "arr_0", np.int64)
    if mapping.min() < 0 or mapping.max() > NO_PIXEL:
        raise InputError(f"{path}: pixel indices outside 0..{NO_PIXEL}; make or get the file again")
    return mapping


def invert_mapping(mapping: np.ndarray, path: str | Path) -> np.ndarray:
    """The map from pixels to voxels, of read_mapping(path): (480, 640) int32, -1 none."""
    voxels = np.flatnonzero(mapping != NO_PIXEL)
    pixels = mapping.reshape(-1)[voxels]
    mapping2d = np.full(IMAGE_SIZE, NO_VOXEL, np.int32)
    mapping2d.reshape(-1)[pixels] = voxels
    if not np.array_equal(mapping2d.reshape(-1)[pixels], voxels):
        raise InputError(f"{path}: one pixel in two voxels; make or get the file again")
    return mapping2d


def read_tsdf(path: str | Path) -> np.ndarray:
    """Read a TSDF or TSDF-CAD: (60, 36, 60) float32 in [-1, 1]."""
    tsdf = _read_volume(path, "arr_0", np.float32)
    if not (tsdf.min() >= -1 and tsdf.max() <= 1):  # false for NaN too
        raise InputError(f"{path}: TSDF values that are NaN or outside -1..1; make it again")
    return tsdf


def read_label(path: str | Path) -> np.ndarray:
    """Read the labels: (60, 36, 60) int64, classes 0..11 and 255 to ignore."""
    label = _read_volume(path, "arr_0", np.int64)
    if not (((label >= 0) & (label < NUM_CLASSES)) | (label == IGNORE_INDEX)).all():
        raise InputError(f"{path}: labels other than 0..11 and 255; make or get the file again")
    return label


def read_label_weight(path: str | Path) -> np.ndarray:
    """Read the label weight beside a TSDF: (60, 36, 60) bool, the voxels that count."""
    weight = _read_volume(path, "arr_1", np.float32)
    if not ((weight == 0) | (weight == 1)).all():
        raise InputError(f"{path}: label weights (arr_1) other than 0 and 1; make it again")
    return weight != 0


def _read_volume(path: str | Path, key: str, dtype: type) -> np.ndarray:
    """Read an array of an .npz as (60, 36, 60) `dtype`, integers without loss."""
    array = read_array(path, key, "biuf", NUM_VOXELS).reshape(GRID)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and inf are found later
        volume = array.astype(dtype)
    if dtype is np.int64 and not np.array_equal(volume, array):
        raise InputError(f"{path}: {key} does not hold whole numbers; make or get it again")
    return volume


def _read_ids(path: Path) -> list[str]:
    """Four-digit scene ids from a list, one a line."""
    ids = []
    for number, line in enumerate(read_text(path, limit=1 << 20).splitlines(), 1):
        if not (line := line.strip()):
            continue
        match = _ID_LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}, line {number}: {line[:40]!r} is no scene id like 0003")
        scene_id = match[1].zfill(4)
        if scene_id in ids:
            raise InputError(f"{path}, line {number}: scene {scene_id} is listed twice")
        ids.append(scene_id)
    if not ids:
        raise InputError(f"{path}: no scene ids in it; write one a line, like 0003")
    return ids
