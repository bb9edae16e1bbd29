"""From an RGB-D frame of any camera to a scene of labelled voxels: what predict.py does, in Python.

completer = SceneCompleter.from_checkpoint("checkpoint/nyu_small_student.pth")
scene = completer(rgb, depth, intrinsics)   # (H, W, 3) uint8, (H, W) metres, (3, 3)
scene.labels                                # (60, 36, 60): 0 empty, 1..11 classes, 255 unknown
scene.save("kitchen.glb")
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from config import DEFAULTS, merge_config
from constants import FINE_FACTOR, GRID, IGNORE_INDEX, VOXEL_SIZE
from datasets.frames.cameras import NYUView, check_intrinsics, to_nyu_view
from datasets.frames.depth import to_metres
from datasets.frames.gravity import EstimatedPose, estimate_pose, grid_pose
from datasets.geometry import NYU_INTRINSICS, WORLD_OF_ARRAY, grid_origin, pixels_to_voxels
from datasets.nyu import invert_mapping
from datasets.transforms import normalize
from datasets.tsdf import tsdf_from_depth
from datasets.voxels import is_occupied, mapping_from_depth
from errors import InputError
from models import build_model, prepare_for_inference
from models.checkpoints import load_strictly, read_checkpoint
from utils import distributed
from utils.evaluation import autocast, to_device
from utils.files import atomic_file
from utils.pictures.exhibit import Exhibit
from utils.pictures.mesh import export_mesh, export_points
from utils.pictures.page import save_page
from utils.pictures.picture import save_scene_picture

MIN_IN_GRID = 0.05  # of the measured pixels must lie in the grid
FORMATS = ("npz", "ply", "glb", "png", "html")


class Network(NamedTuple):
    """A trained network and what its file says of it."""

    model: torch.nn.Module
    cfg: dict  # settings
    volume: str  # its input: "tsdf" or "tsdf_cad"


class Frame(NamedTuple):
    """A frame ready for the network."""

    batch: dict  # image (1, 3, 480, 640), mapping2d (1, 480, 640), tsdf (1, 1, 60, 36, 60)
    view: NYUView
    mapping: np.ndarray  # (60, 36, 60) int64: pixel of a voxel in the view, 307200 none
    measured: np.ndarray  # (60, 36, 60) bool: voxels in which a surface was measured
    pose: np.ndarray  # (4, 4) float32 camera to world
    origin: np.ndarray  # (3,) float32 world metres
    estimate: EstimatedPose | None  # where the pose was estimated


@dataclass
class Scene:
    """A completed scene on the grid of datasets/geometry.py (Z up, floor at z = 0).

    labels: (60, 36, 60) uint8, 0 empty, 1..11 classes, 255 unknown. What the depth proves empty is
        empty, and what neither was in view nor is hidden behind something is unknown: the network
        was never taught what is there.
    prediction: (60, 36, 60) uint8, the network's class of every voxel, as test_NYU.py scores it.
    probabilities: (12, 60, 36, 60) float16, of the classes of constants.py.
    origin, voxel_size: corner of voxel (0, 0, 0), world metres; 0.08 m.
    pose: (4, 4) float32, camera to world: x right, y down, z forward; its inverse places voxels in
        the camera's frame.
    frame: what the network was given.
    """

    name: str
    labels: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray
    origin: np.ndarray
    pose: np.ndarray
    frame: Frame
    voxel_size: float = VOXEL_SIZE

    @property
    def occupied(self):
        """(60, 36, 60) bool: voxels with a class 1..11."""
        return is_occupied(self.labels)

    def points(self, frame="world"):
        """Centres and classes of the occupied voxels: (n, 3) float32 metres, (n,) uint8.

        frame: "world", or "camera" for x right, y down, z forward from the camera's centre.
        """
        if frame not in ("world", "camera"):
            raise InputError(f"points in the frame {frame!r}: use world or camera")
        voxels = np.argwhere(self.occupied)
        centres = self.origin + (voxels[:, WORLD_OF_ARRAY] + np.float32(0.5)) * self.voxel_size
        centres = centres.astype(np.float32)
        if frame == "camera":
            centres = (centres - self.pose[:3, 3]) @ self.pose[:3, :3]
        return centres, self.labels[tuple(voxels.T)]

    def save(self, path, mesh=False):
        """Write the scene to a file; its suffix says as what.

        .npz: labels, prediction, probabilities, origin, voxel_size, pose, intrinsics of the view.
        .ply: the occupied voxels as coloured points, or as cubes if `mesh`; world metres.
        .glb: cubes, for 3D programs and web pages (Y up).
        .png: image, depth, visible surface and prediction.
        .html: a page with the voxels to turn around.
        Raises InputError for another suffix, or if the file cannot be written.
        """
        path = Path(path)
        writers = {
            ".npz": self._save_arrays,
            ".ply": self._save_mesh if mesh else self._save_points,
            ".glb": self._save_mesh,
            ".png": self._save_picture,
            ".html": self._save_page,
        }
        if path.suffix not in writers:
            raise InputError(f"{path}: a scene is saved as {', '.join(writers)}")
        writers[path.suffix](path)

    def view(self):
        """The scene for utils/pictures."""
        known = self.labels != IGNORE_INDEX
        return Exhibit(
            name=self.name,
            image=self.frame.view.image,
            mapping=self.frame.mapping,
            prediction=np.where(known, self.labels, 0).astype(np.int64),
            evaluated=known,
            depth=self.frame.view.depth,
            pose=self.pose,
            origin=self.origin,
        )

    def _save_arrays(self, path):
        with atomic_file(path) as file:
            np.savez_compressed(
                file,
                labels=self.labels,
                prediction=self.prediction,
                probabilities=self.probabilities,
                origin=self.origin,
                voxel_size=np.float32(self.voxel_size),
                pose=self.pose,
                intrinsics=NYU_INTRINSICS,
            )

    def _save_points(self, path):
        export_points(path, *self.points())

    def _save_mesh(self, path):
        labels = np.where(self.occupied, self.labels, 0)
        export_mesh(path, labels, self.origin, self.voxel_size)

    def _save_picture(self, path):
        save_scene_picture(path, self.view())

    def _save_page(self, path):
        save_page(path, self.name, {}, [self.view()])


def read_network(path, overrides=()):
    """The network of a checkpoint, ours or the original's, with changed settings: Network.

    A file of the original does not say what it is: the preset nyu_segformer_b2 and the input tsdf
    are assumed, which is printed, as far as the overrides do not say otherwise. Raises InputError
    for an unusable file or setting.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.meta is None:
        if distributed.is_main():
            print(f"{path}: a file of the original; assumed: preset nyu_segformer_b2,")
            print("input tsdf (the teacher's weights want data.input=tsdf_cad)")
        saved, volume = {}, "tsdf"
    else:
        # Where to write is not for a file to say.
        saved = {**checkpoint.meta["config"], "output": ""}
        volume = checkpoint.meta["input"]
    cfg = merge_config(DEFAULTS, saved, str(path), overrides)
    model = build_model(cfg.model)
    load_strictly(model, checkpoint.state, path)
    return Network(model, cfg, cfg.data.input or volume)


def prepare_frame(rgb, depth, intrinsics, pose=None, camera_height=None):
    """What the network needs of a frame, from its raw parts.

    rgb: (H, W, 3) uint8; depth: (H, W), of the same pixels, metres as floats or millimetres as
    integers, 0 = not measured; intrinsics: (3, 3) of these pixels; pose: (4, 4) camera to world,
    Z up and floor at z = 0, or (3,) the direction of gravity in the camera's frame, or None to
    estimate both from the depth; camera_height: metres above the floor, where no floor is in view.
    Returns Frame. Raises InputError for parts that do not fit, and where no room is seen.
    """
    rgb, raw = np.asarray(rgb), np.asarray(depth)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"rgb must be (height, width, 3) uint8, not {rgb.dtype} {rgb.shape}")
    if rgb.shape[:2] != raw.shape:
        raise InputError(
            f"rgb has {rgb.shape[1]}x{rgb.shape[0]} pixels and depth "
            f"{'x'.join(map(str, raw.shape[::-1]))}: both must be of the same view and size; align "
            "the depth to the colour camera, or the other way round"
        )
    depth = to_metres(raw).metres
    K = check_intrinsics(intrinsics, raw.shape)
    pose, estimate = _place(depth, K, pose, camera_height)
    origin = grid_origin(pose)
    view = to_nyu_view(rgb, depth, K)
    mapping = mapping_from_depth(view.depth, NYU_INTRINSICS, pose, origin, keep_unmeasured=False)
    pixels, voxels = pixels_to_voxels(
        view.wide_depth, view.wide_intrinsics, pose, origin, keep_unmeasured=False
    )
    inside, total = len(pixels), (view.wide_depth > 0).sum()
    if inside < MIN_IN_GRID * total:
        raise InputError(
            f"only {inside} of {total} measured pixels lie in the grid, 1 to 5.8 m in front of the "
            "camera: is the pose right, and the depth unit?"
        )
    measured = np.zeros(GRID, bool)
    measured[tuple((voxels // FINE_FACTOR).T)] = True
    tsdf = tsdf_from_depth(
        view.wide_depth, view.wide_intrinsics, pose, origin, keep_unmeasured=False
    )
    batch = {
        "image": normalize(view.image[..., ::-1]),
        "mapping2d": invert_mapping(mapping, "mapping").astype(np.int64),
        "tsdf": tsdf[None],
    }
    batch = {key: torch.from_numpy(value)[None] for key, value in batch.items()}
    return Frame(batch, view, mapping, measured, pose, origin, estimate)


def _place(depth, K, pose, camera_height):
    """The pose that places the grid, and the estimate that it comes from, if any."""
    if pose is not None and np.shape(pose) == (4, 4):
        if camera_height is not None:
            raise InputError("camera_height: the 4x4 pose says it already; give one of them")
        return grid_pose(pose), None
    if pose is not None and np.shape(pose) != (3,):
        raise InputError(
            f"pose must be (4, 4), camera to world, or (3,), gravity's direction, not of shape "
            f"{np.shape(pose)}"
        )
    estimate = estimate_pose(depth, K, pose, camera_height)
    return estimate.pose, estimate


def known_labels(prediction, tsdf, measured):
    """The network's classes, where the depth says nothing else: (60, 36, 60) uint8.

    prediction: (60, 36, 60) classes; tsdf: (60, 36, 60); measured: (60, 36, 60) bool.
    In training, empty voxels counted only where the TSDF says hidden, so in free space and outside
    the view the network says anything. A voxel without a measured point is empty (0) where the TSDF
    is positive, free, and unknown (255) where it is 0: outside the view, or without depth.
    """
    labels = np.where(measured | (tsdf < 0), prediction, 0)
    return np.where(~measured & (tsdf == 0), IGNORE_INDEX, labels).astype(np.uint8)


class SceneCompleter:
    """A network that completes frames of any RGB-D camera.

    model: of build_model, with trained weights; it is prepared for inference, and no longer
    trainable. device: where it runs. precision: fp32, bf16, fp16, auto.
    """

    def __init__(self, model, device="cpu", precision="fp32"):
        self.device = torch.device(device)
        self.model = prepare_for_inference(model.to(self.device))
        self.precision = precision

    @classmethod
    def from_checkpoint(cls, path, device=None, overrides=()):
        """A completer with the weights of a student, in our layout or the original's.

        path: the checkpoint; device: "cpu", "cuda", ...; None: a GPU if there is one; overrides:
        settings as key.sub=value. Raises InputError for an unusable file, device or setting, and
        for a teacher, who was taught with perfect surfaces.
        """
        network = read_network(path, overrides)
        if network.volume != "tsdf":
            raise InputError(
                f"{path}: a teacher, made for TSDF-CAD: measured depth is for a student"
            )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            return cls(network.model, device, network.cfg.train.precision)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {device} cannot be used ({reason})") from error

    def __call__(self, rgb, depth, intrinsics, pose=None, camera_height=None, name="scene"):
        """Complete a frame: Scene. Arguments and errors as prepare_frame; name: a title."""
        return self.complete(prepare_frame(rgb, depth, intrinsics, pose, camera_height), name)

    @torch.inference_mode()
    def complete(self, frame, name="scene"):
        """Complete a prepared Frame: Scene."""
        batch = to_device(frame.batch, self.device)
        with autocast(self.device, self.precision):
            out = self.model(batch["image"], batch["mapping2d"], batch["tsdf"])
        logits = out.logits[0]
        prediction = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        probabilities = logits.float().softmax(dim=0).half().cpu().numpy()
        tsdf = frame.batch["tsdf"][0, 0].numpy()
        labels = known_labels(prediction, tsdf, frame.measured)
        return Scene(name, labels, prediction, probabilities, frame.origin, frame.pose, frame)
