"""From an RGB-D frame of any camera to a scene of labelled voxels: what predict.py does, in Python.

completer = SceneCompleter.from_checkpoint("checkpoint/nyu_small_student.pth")
scene = completer(rgb, depth, intrinsics)   # (H, W, 3) uint8, (H, W) metres, (3, 3)
scene.labels                                # (60, 36, 60): 0 empty, 1..11 classes, 255 unknown
scene.save("kitchen.glb")
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from constants import IGNORE_INDEX, NYU_INTRINSICS, SCENE_FORMATS, VOXEL_SIZE
from datasets.frames.distortion import Lens
from datasets.frames.frame import PreparedFrame, prepare_frame
from datasets.frames.turning import turn_pose
from datasets.geometry import WORLD_OF_ARRAY, voxels_in_view
from datasets.voxels import is_occupied, known_labels
from errors import InputError
from models import prepare_for_inference
from models.inference import cast_weights
from models.network import CleanerS
from utils.checkpoint import read_network
from utils.distributed import NO_MPS, autocast, available_device, half_type, to_device
from utils.files import atomic_file
from utils.pictures.exhibit import Exhibit
from utils.upright import upright_scores


@dataclass
class CompletedScene:
    """A completed scene on the grid of datasets/geometry.py (Z up, floor at z = 0).

    labels: (60, 36, 60) uint8, 0 empty, 1..11 classes, 255 unknown. What the depth proves empty is
        empty. Unknown is what is outside the view and, to a network that was never taught what is
        there (loss.free_space=0), what lacks depth.
    prediction: (60, 36, 60) uint8, the network's class of every voxel, as test_NYU.py scores it.
    probabilities: (12, 60, 36, 60) float16, of the classes of constants.py.
    origin, voxel_size: corner of voxel (0, 0, 0), world metres; 0.08 m.
    pose: (4, 4) float32, camera to world: x right, y down, z forward; its inverse places voxels in
        the frame of the camera as it was given, be it upright or not.
    frame: what the network was given, upright.
    world_pose: (4, 4) float64, camera to the world of the pose that was given; None without one.
    """

    name: str
    labels: np.ndarray
    prediction: np.ndarray
    probabilities: np.ndarray
    origin: np.ndarray
    pose: np.ndarray
    frame: PreparedFrame
    voxel_size: float = VOXEL_SIZE
    world_pose: np.ndarray | None = None

    @property
    def occupied(self) -> np.ndarray:
        """(60, 36, 60) bool: voxels with a class 1..11."""
        return is_occupied(self.labels)

    def points(self, frame: str = "world") -> tuple[np.ndarray, np.ndarray]:
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

    def save(self, path: str | Path, mesh: bool = False) -> None:
        """Write the scene to a file; its suffix says as what.

        .npz: labels, prediction, probabilities, origin, voxel_size, pose, intrinsics of the view,
        and rotate: degrees by which the given images were turned clockwise for it.
        .ply: the occupied voxels as coloured points, or as cubes if `mesh`; world metres.
        .glb: cubes, for 3D programs and web pages (Y up).
        .png: image, depth, visible surface and prediction.
        .html: a page with the voxels to turn around.
        """
        kind = Path(path).suffix
        if kind in (".glb", ".ply"):
            from utils.pictures.mesh import cube_mesh, export, point_cloud

            if kind == ".glb" or mesh:
                cubes = np.where(self.occupied, self.labels, 0)
                export(path, cube_mesh(cubes, self.origin, self.voxel_size))
            else:
                export(path, point_cloud(*self.points()))
        elif kind == ".png":
            from utils.pictures.picture import save_scene_picture

            save_scene_picture(path, self.exhibit())
        elif kind == ".html":
            from utils.pictures.page import save_page

            save_page(path, self.name, {}, [self.exhibit()])
        elif kind == ".npz":
            names = "labels", "prediction", "probabilities", "origin", "pose"
            arrays = {name: getattr(self, name) for name in names}
            arrays |= {"voxel_size": np.float32(self.voxel_size), "intrinsics": NYU_INTRINSICS}
            arrays["rotate"] = self.frame.turn
            with atomic_file(path) as file:
                np.savez_compressed(file, **arrays)
        else:
            raise InputError(f"{path}: a scene is saved as .{', .'.join(SCENE_FORMATS)}")

    def exhibit(self) -> Exhibit:
        """The scene for utils/pictures."""
        known = self.labels != IGNORE_INDEX
        return Exhibit(
            name=self.name,
            image=self.frame.view.image,
            mapping=self.frame.mapping,
            prediction=np.where(known, self.labels, 0).astype(np.int64),
            evaluated=known,
            depth=self.frame.view.depth,
            pose=self.frame.pose,
            origin=self.origin,
        )


class SceneCompleter:
    """A network that completes frames of any RGB-D camera.

    model: of build_model, with trained weights; it is prepared for inference, and no longer
    trainable. device: where it runs. precision: fp32, bf16, fp16, auto. everywhere: it was taught
    what is in free space and where depth is missing (loss.free_space).
    """

    def __init__(
        self,
        model: CleanerS,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        everywhere: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.model = prepare_for_inference(model.to(self.device))
        cast_weights(self.model, half_type(self.device, precision))
        self.precision = precision
        self.everywhere = everywhere

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str | None = None, overrides: Iterable[str] = ()
    ) -> "SceneCompleter":
        """A completer with the weights of a student, in our layout or the original's.

        device: "cpu", "cuda", ...; None: a GPU if there is one; overrides: settings as
        key.sub=value. Raises InputError for a teacher too, who was taught with perfect surfaces.
        """
        model, cfg, volume = read_network(path, overrides)
        if volume != "tsdf":
            raise InputError(
                f"{path}: a teacher, made for TSDF-CAD: measured depth is for a student"
            )
        if device is None:
            device = available_device()
        elif str(device).startswith("mps"):
            raise InputError(f"device {device}: {NO_MPS}: --device cpu")
        try:
            return cls(model, device, cfg.train.precision, cfg.loss.free_space > 0)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {device} cannot be used ({reason})") from error

    def __call__(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        intrinsics: np.ndarray,
        pose: np.ndarray | None = None,
        camera_height: float | None = None,
        name: str = "scene",
        rotate: int | None = None,
        expected: int = 0,
        lens: Lens | None = None,
        crop: bool = False,
    ) -> CompletedScene:
        """Complete a frame. Arguments and errors as prepare_frame; name: a title."""
        given = rgb, depth, intrinsics, pose, camera_height, self.device
        frame = prepare_frame(*given, rotate, upright_scores, expected, lens, crop)
        scene = self.complete(frame, name)
        if np.shape(pose) == (4, 4):
            scene.world_pose = np.array(pose, np.float64)
        return scene

    @torch.inference_mode()
    def complete(self, frame: PreparedFrame, name: str = "scene") -> CompletedScene:
        """Complete a prepared frame."""
        batch = to_device(frame.batch, self.device)
        with autocast(self.device, self.precision):
            out = self.model(batch["image"], batch["mapping2d"], batch["tsdf"])
        logits, origin = out.logits[0], frame.origin
        classes, measured = logits.argmax(dim=0).to(torch.uint8), torch.from_numpy(frame.measured)
        in_view = None
        if self.everywhere:
            view = frame.view.wide_intrinsics, frame.view.wide_depth.shape
            in_view = torch.from_numpy(voxels_in_view(frame.pose, origin, *view)).to(self.device)
        labels = known_labels(classes, batch["tsdf"][0, 0], measured.to(self.device), in_view)
        probabilities = logits.float().softmax(dim=0).half()
        arrays = (x.cpu().numpy() for x in (labels, classes, probabilities))
        pose = turn_pose(frame.pose, -frame.turn % 360)
        return CompletedScene(name, *arrays, origin, pose, frame)
