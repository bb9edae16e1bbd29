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
from torch.utils.data import Dataset

from constants import (
    GRID,
    IGNORE_INDEX,
    IMAGE_SIZE,
    NO_PIXEL,
    NO_VOXEL,
    NUM_CLASSES,
    NUM_PIXELS,
    NUM_VOXELS,
)
from datasets import images, transforms
from datasets.arrays import one_line, read_array
from errors import InputError

cv2.setNumThreads(0)  # samples are read in parallel by the DataLoader's workers

SPLITS = ("train", "test")
# As named by the original code, by 3D-Sketch and by MonoScene; the first that exists is read.
IMAGE_SUFFIXES = (
    "_rgb.png", "_rgb.jpg", "_colors.png", "_colors.jpg", "_0000_color.png", "_0000_color.jpg",
)  # fmt: skip
_MAX_ID_BYTES = 1 << 20  # of an id list
_ID_LINE = re.compile(r"(?:NYU)?([0-9]{1,4})(?:[_.][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True)
class Scene:
    """The files of one scene."""

    id: str  # four digits
    image: Path
    label: Path
    mapping: Path
    tsdf: Path  # and the label weight
    tsdf_cad: Path | None

    @property
    def name(self):
        return f"NYU{self.id}"


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
    augmentation: None, or the photometric flavour "original" or "standard" of
    transforms.apply. What is drawn for a sample depends on seed, epoch and index only.

    Raises InputError for a folder, id list or file that cannot be used: missing files when it is
    built, broken ones when their sample is read.
    """

    def __init__(self, root, split="train", cad_root=None, ids=None, augmentation=None, seed=0):
        if augmentation is not None and augmentation not in transforms.PHOTOMETRIC:
            raise InputError(
                f"augmentation {augmentation!r}: use None, {' or '.join(transforms.PHOTOMETRIC)}"
            )
        self.scenes = find_scenes(root, split, cad_root, ids)
        self.augmentation = augmentation
        self.seed = seed
        # In shared memory, because persistent workers keep their own copy of the data set.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        """Draw the augmentations of this epoch from now on, in running workers too."""
        self._epoch.fill_(epoch)

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        index = range(len(self))[index]
        scene = self.scenes[index]
        image = read_image(scene.image)
        mapping = read_mapping(scene.mapping)
        mapping2d = invert_mapping(mapping, scene.mapping)
        if self.augmentation is None:
            image = transforms.normalize(image)
        else:
            rng = np.random.default_rng((self.seed, int(self._epoch), index))
            draws = transforms.draw(rng)
            image, mapping2d = transforms.apply(image, mapping2d, draws, self.augmentation)

        sample = {
            "name": scene.name,
            "image": torch.from_numpy(image),
            "mapping2d": torch.from_numpy(mapping2d.astype(np.int64)),
            "mapping": torch.from_numpy(mapping),
            "tsdf": torch.from_numpy(read_tsdf(scene.tsdf)[None]),
            "label3d": torch.from_numpy(read_label(scene.label)),
            "label_weight": torch.from_numpy(read_label_weight(scene.tsdf)),
        }
        if scene.tsdf_cad is not None:
            sample["tsdf_cad"] = torch.from_numpy(read_tsdf(scene.tsdf_cad)[None])
        return sample


def cad_folder(root):
    """Where the TSDF-CAD of prepared scenes is: ROOT/cad (of generated rooms), or NYUCAD beside."""
    root = Path(root).absolute()
    return root / "cad" if (root / "cad").is_dir() else root.parent / "NYUCAD"


def find_scenes(root, split, cad_root=None, ids=None):
    """The scenes of a split, in the order of the id list or else by id.

    Raises InputError for an unknown layout, a bad id list, and a scene with a missing file.
    """
    root = Path(root)
    if split not in SPLITS:
        raise InputError(f"split {split!r}: use {' or '.join(SPLITS)}")
    if (root / split / "RGB").is_dir():
        rgb_dir, label_dirs = root / split / "RGB", [root / "Label"]
    else:  # the original README's tree
        set_dir = root / "Mapping" / f"{split}set"
        rgb_dir, label_dirs = set_dir / "RGB", [set_dir / "GT", root / "Label"]
    _check_layout(root, split, rgb_dir, label_dirs)

    id_list = root / f"{split}.txt" if ids is None else Path(ids)
    if ids is not None or id_list.exists():
        scene_ids = _read_ids(id_list)
    else:
        scene_ids = _image_ids(rgb_dir)
        if not scene_ids:
            raise InputError(f"{rgb_dir}: no NYUxxxx_rgb.png or .jpg in it; {_expected(root)}")

    scenes = []
    for scene_id in scene_ids:
        archive = f"{scene_id}.npz"
        other = "add it, or leave the scene out of the id list"
        tsdf_cad = None
        if cad_root is not None:
            cad_dir = Path(cad_root) / "TSDF"
            tsdf_cad = _first_file(
                [cad_dir / archive, cad_dir / f"{split}set" / "depth" / archive],
                f"make TSDF-CAD with `python prepare_NYU.py cad --root {root} --out {cad_root}`",
            )
        scenes.append(
            Scene(
                id=scene_id,
                image=_first_file([rgb_dir / f"NYU{scene_id}{s}" for s in IMAGE_SUFFIXES], other),
                label=_first_file([folder / archive for folder in label_dirs], other),
                mapping=_first_file([root / "Mapping" / archive], other),
                tsdf=_first_file([root / "TSDF" / archive], other),
                tsdf_cad=tsdf_cad,
            )
        )
    return scenes


def read_image(path):
    """Read an image: (480, 640, 3) uint8, BGR."""
    return images.decode(images.read_bytes(path), cv2.IMREAD_COLOR, path)


def read_mapping(path):
    """Read a mapping: (60, 36, 60) int64, pixel index of a voxel, 307200 none."""
    mapping = _read_volume(path, "arr_0", np.int64)
    if mapping.min() < 0 or mapping.max() > NO_PIXEL:
        raise InputError(f"{path}: pixel indices outside 0..{NO_PIXEL}; make or get the file again")
    return mapping


def invert_mapping(mapping, path):
    """The map from pixels to voxels: (480, 640) int32, -1 none.

    mapping: (60, 36, 60) int64 as read from `path`, which InputError names if two voxels share a
    pixel.
    """
    pixels = mapping.reshape(-1)
    voxels = np.flatnonzero(pixels != NO_PIXEL)
    pixels = pixels[voxels]
    mapping2d = np.full(NUM_PIXELS, NO_VOXEL, np.int32)
    mapping2d[pixels] = voxels
    if not np.array_equal(mapping2d[pixels], voxels):
        raise InputError(f"{path}: one pixel in two voxels; make or get the file again")
    return mapping2d.reshape(IMAGE_SIZE)


def read_tsdf(path):
    """Read a TSDF or TSDF-CAD: (60, 36, 60) float32 in [-1, 1]."""
    tsdf = _read_volume(path, "arr_0", np.float32)
    if not (tsdf.min() >= -1 and tsdf.max() <= 1):  # false for NaN too
        raise InputError(f"{path}: TSDF values that are NaN or outside -1..1; make it again")
    return tsdf


def read_label(path):
    """Read the labels: (60, 36, 60) int64, classes 0..11 and 255 to ignore."""
    label = _read_volume(path, "arr_0", np.int64)
    if not (((label >= 0) & (label < NUM_CLASSES)) | (label == IGNORE_INDEX)).all():
        raise InputError(f"{path}: labels other than 0..11 and 255; make or get the file again")
    return label


def read_label_weight(path):
    """Read the label weight beside a TSDF: (60, 36, 60) bool, the voxels that count."""
    weight = _read_volume(path, "arr_1", np.float32)
    if not ((weight == 0) | (weight == 1)).all():
        raise InputError(f"{path}: label weights (arr_1) other than 0 and 1; make it again")
    return weight != 0


def _read_volume(path, key, dtype):
    """Read an array of an .npz as (60, 36, 60) `dtype`, integers without loss."""
    array = read_array(path, key, "biuf", NUM_VOXELS).reshape(GRID)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and inf are found later
        volume = array.astype(dtype)
    exact = np.issubdtype(dtype, np.floating) or np.can_cast(array.dtype, dtype)
    if not exact and not np.array_equal(volume, array):
        raise InputError(f"{path}: {key} does not hold whole numbers; make or get it again")
    return volume


def _first_file(paths, advice):
    for path in paths:
        if path.is_file():
            return path
    raise InputError(f"{paths[0]}: missing; {advice}")


def _read_ids(path):
    """Four-digit scene ids from a list, one a line."""
    try:
        if path.stat().st_size > _MAX_ID_BYTES or not path.is_file():
            raise OSError(f"no file, or larger than {_MAX_ID_BYTES} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable id list ({one_line(error)})") from error
    ids = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        match = _ID_LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}, line {number}: {line[:40]!r} is no scene id like 0003")
        scene_id = match[1].zfill(4)
        if scene_id in ids:
            raise InputError(f"{path}, line {number}: scene {scene_id} is listed twice")
        ids[scene_id] = None
    if not ids:
        raise InputError(f"{path}: no scene ids in it; write one a line, like 0003")
    return list(ids)


def _image_ids(rgb_dir):
    suffixes = "|".join(map(re.escape, IMAGE_SUFFIXES))
    name = re.compile(f"NYU([0-9]{{4}})(?:{suffixes})")
    return sorted({match[1] for path in rgb_dir.iterdir() if (match := name.fullmatch(path.name))})


def _check_layout(root, split, rgb_dir, label_dirs):
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {_expected(root)}")
    missing = [name for name in ("Mapping", "TSDF") if not (root / name).is_dir()]
    if not rgb_dir.is_dir():
        missing.insert(0, f"{split}/RGB")
    if not any(folder.is_dir() for folder in label_dirs):
        missing.append("Label")
    if missing:
        raise InputError(f"{root}: {', '.join(missing)} missing in it; {_expected(root)}")


def _expected(root):
    return (
        f"expected {root}/{{train,test}}/RGB/NYUxxxx_rgb.png (or .jpg), "
        f"{root}/Label/xxxx.npz, {root}/Mapping/xxxx.npz, {root}/TSDF/xxxx.npz "
        "and, if you like, train.txt and test.txt"
    )
