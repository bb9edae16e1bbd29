"""Completed frames with poses in one world, fused into one map of any extent.

scene_map = SceneMap()
for rgb, depth, pose in frames:             # (4, 4) camera to world: Z up, floor at z = 0
    scene_map.add(completer(rgb, depth, intrinsics, pose))
points, classes = scene_map.points()        # metres, Z up
scene_map.save("room.glb")

The map is a grid of 8 cm voxels in the world of the poses, kept in blocks where a frame knew
something. Of each voxel it keeps the weighted sum of the classes' probabilities in the frames, and
what a camera measured has more say than what a network made up behind it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from constants import GRID, IGNORE_INDEX, NO_PIXEL, NUM_CLASSES, SCENE_FORMATS, VOXEL_SIZE
from datasets.geometry import BOX_FLOOR, WORLD_OF_ARRAY
from datasets.voxels import is_occupied
from errors import InputError
from utils.completion import CompletedScene
from utils.files import atomic_file
from utils.pictures.exhibit import Exhibit
from utils.pictures.mesh import cube_mesh, export, point_cloud
from utils.pictures.page import save_page
from utils.pictures.picture import save_scene_picture

BLOCK = 8  # voxels along each side of a block
MAX_BOX = 1 << 26  # voxels of the box around a map that is drawn: some 110 m x 110 m of one storey
ELEVATION = np.radians(55)  # of the view in a picture: over the walls, which may be all around


class Weights(NamedTuple):
    """What a frame has to say about a voxel, by what its camera knew of it; 0 is nothing.

    Chosen on generated rooms of another seed than those that docs/SEQUENCES.md reports.
    """

    surface: float = 2.5  # a surface was measured in it
    free: float = 1.25  # the camera saw through it
    hidden: float = 1.0  # behind something, or without depth: the network's imagination
    outside: float = 0.0  # unknown to it, as it is to the network


class SceneMap:
    """A sparse map; voxel (i, j, k) is the cube of 8 cm from origin + 0.08 * (i, j, k)."""

    origin = np.array([0, 0, BOX_FLOOR])  # world metres: heights are those of the frames' grids
    voxel_size = VOXEL_SIZE

    def __init__(self, weights: Weights | None = None, level: np.ndarray | None = None) -> None:
        """level: (4, 4), what moved the user's world to that of the poses; kept with the map."""
        self.weights = weights or Weights()
        self.level = np.eye(4) if level is None else level
        self.frames = 0
        # Block indices -> sums over frames, (512, 16): 12 classes; red, green, blue and how many.
        self._blocks: dict[tuple[int, int, int], np.ndarray] = {}

    def add(self, scene: CompletedScene) -> None:
        """Add a frame that was completed with a (4, 4) pose; InputError for another.

        The order of frames does not matter, and a frame added twice has twice the weight. Each
        voxel of the map takes the voxel of the frame's grid in which its centre lies.
        """
        if scene.world_pose is None:
            raise InputError(f"{scene.name}: without a 4x4 camera-to-world pose it has no place")
        values = _evidence(scene, self.weights)
        voxels, source = self._covered(scene)
        known = values[source, :NUM_CLASSES].any(axis=1)
        voxels, source = voxels[known], source[known]
        self.frames += 1
        if not len(voxels):
            return
        blocks, cells = np.divmod(voxels, BLOCK)
        cells = np.ravel_multi_index(tuple(cells.T), (BLOCK,) * 3)
        # Voxels by block: of a frame's some thousand blocks a number is soon sorted.
        low, high = blocks.min(axis=0), blocks.max(axis=0)
        number = np.ravel_multi_index(tuple((blocks - low).T), high - low + 1).astype(np.uint16)
        order = np.argsort(number, kind="stable")
        _, starts = np.unique(number[order], return_index=True)
        for part in np.split(order, starts[1:]):
            key = tuple(blocks[part[0]].tolist())
            if key not in self._blocks:
                self._blocks[key] = np.zeros((BLOCK**3, values.shape[1]))
            self._blocks[key][cells[part]] += values[source[part]]

    def _covered(self, scene: CompletedScene) -> tuple[np.ndarray, np.ndarray]:
        """The map's voxels whose centre lies in a frame's grid: (n, 3) int indices, and (n,) which
        of the grid's flat voxels that is."""
        to_world = scene.world_pose @ np.linalg.inv(scene.pose.astype(np.float64))
        size = VOXEL_SIZE * np.array(GRID)[WORLD_OF_ARRAY]
        corners = scene.origin + np.array(list(np.ndindex(2, 2, 2))) * size
        corners = (_apply(to_world, corners) - self.origin) / VOXEL_SIZE
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        ranges = [np.arange(a, b, dtype=np.int64) for a, b in zip(low, high, strict=True)]
        voxels = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
        centres = self.origin + (voxels + 0.5) * VOXEL_SIZE
        own = (_apply(np.linalg.inv(to_world), centres) - scene.origin) / VOXEL_SIZE
        own = np.floor(own).astype(np.int64)[:, WORLD_OF_ARRAY]
        inside = ((own >= 0) & (own < GRID)).all(axis=1)
        return voxels[inside], np.ravel_multi_index(tuple(own[inside].T), GRID)

    def _sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Every voxel that some frame knows: (n, 3) int indices, ascending, and (n, 16) sums."""
        if not self._blocks:
            return np.zeros((0, 3), np.int64), np.zeros((0, NUM_CLASSES + 4))
        cells = np.stack(np.unravel_index(np.arange(BLOCK**3), (BLOCK,) * 3), axis=1)
        keys = np.array(list(self._blocks))[:, None] * BLOCK
        voxels = (keys + cells).reshape(-1, 3)
        sums = np.concatenate(list(self._blocks.values()))
        known = sums[:, :NUM_CLASSES].any(axis=1)
        voxels, sums = voxels[known], sums[known]
        order = np.lexsort(voxels.T[::-1])
        return voxels[order], sums[order]

    def probabilities(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every known voxel: (n, 3) indices, ascending, (n, 12) probabilities and (n,) weight."""
        voxels, sums = self._sums()
        weight = sums[:, :NUM_CLASSES].sum(axis=1)
        return voxels, sums[:, :NUM_CLASSES] / weight[:, None], weight

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres and classes of the occupied voxels: (n, 3) float32 world metres, (n,) uint8."""
        voxels, probabilities, _ = self.probabilities()
        classes = probabilities.argmax(axis=1).astype(np.uint8)
        occupied = is_occupied(classes)
        centres = self.origin + (voxels[occupied] + 0.5) * VOXEL_SIZE
        return centres.astype(np.float32), classes[occupied]

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The box around all known voxels, and where it is.

        Returns (X, height, Y) uint8, axes as in a frame's grid: 0 empty, 1..11 classes, 255
        unknown; and the corner of its voxel (0, 0, 0), (3,) world metres. InputError for a box of
        more than MAX_BOX voxels, and for a map without frames.
        """
        volumes, corner = self._box()
        return volumes["labels"], corner

    def _box(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """labels(), with the colours of the surface that was seen and where there are any."""
        voxels, sums = self._sums()
        if not len(voxels):
            raise InputError("the map is empty: no frame was added")
        low, shape = voxels.min(axis=0), np.ptp(voxels, axis=0) + 1
        if shape.prod() > MAX_BOX:
            extent = " x ".join(f"{n * VOXEL_SIZE:.0f}" for n in shape)
            raise InputError(f"the map spans {extent} m, too much to draw: save .npz or .ply")
        shape = shape[WORLD_OF_ARRAY]
        labels = np.full(shape, IGNORE_INDEX, np.uint8)
        colors, seen = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
        at = tuple((voxels - low)[:, WORLD_OF_ARRAY].T)
        labels[at] = sums[:, :NUM_CLASSES].argmax(axis=1)
        seen[at] = sums[:, -1] > 0
        colors[at] = np.rint(sums[:, -4:-1] / np.maximum(sums[:, -1:], 1))
        volumes = {"labels": labels, "colors": colors, "seen": seen}
        return volumes, self.origin + low * VOXEL_SIZE

    def save(self, path: str | Path, mesh: bool = False) -> None:
        """Write the map to a file; its suffix says as what.

        .npz: every known voxel: voxels (n, 3) int32, labels (n,), probabilities (n, 12) float16,
            weight (n,); origin and voxel_size place them; level (4, 4), see __init__.
        .ply, .glb: as of a frame (CompletedScene.save). .png: the surface in the images' colours,
        and the map. .html: a page with both to turn around.
        """
        kind, name = Path(path).suffix, Path(path).stem
        if kind == ".glb" or (kind == ".ply" and mesh):
            labels, corner = self.labels()
            export(path, cube_mesh(np.where(is_occupied(labels), labels, 0), corner, VOXEL_SIZE))
        elif kind == ".ply":
            export(path, point_cloud(*self.points()))
        elif kind == ".png":
            save_scene_picture(path, self.exhibit(name))
        elif kind == ".html":
            save_page(path, name, {}, [self.exhibit(name)])
        elif kind == ".npz":
            voxels, probabilities, weight = self.probabilities()
            with atomic_file(path) as file:
                np.savez_compressed(
                    file,
                    voxels=voxels.astype(np.int32),
                    labels=probabilities.argmax(axis=1).astype(np.uint8),
                    probabilities=probabilities.astype(np.float16),
                    weight=weight.astype(np.float32),
                    origin=self.origin,
                    voxel_size=np.float32(VOXEL_SIZE),
                    level=self.level,
                )
        else:
            raise InputError(f"{path}: a map is saved as .{', .'.join(SCENE_FORMATS)}")

    def exhibit(self, name: str) -> Exhibit:
        """The map for utils/pictures."""
        volumes, _ = self._box()
        known = volumes["labels"] != IGNORE_INDEX
        return Exhibit(
            name=name,
            image=None,
            mapping=np.where(volumes["seen"], 0, NO_PIXEL),
            colors=volumes["colors"],
            prediction=np.where(known, volumes["labels"], 0).astype(np.int64),
            evaluated=known,
            elevation=ELEVATION,
        )


def _apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _evidence(scene: CompletedScene, weights: Weights) -> np.ndarray:
    """What a frame adds to the map, of each voxel of its grid: (129600, 16) float64.

    Weighted probabilities of the 12 classes, and the image's colour with a 1, if a pixel sees it.
    """
    measured, tsdf = scene.frame.measured, scene.frame.batch["tsdf"][0, 0].cpu().numpy()
    probabilities = np.moveaxis(scene.probabilities, 0, -1).astype(np.float64)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    free = ~measured & (tsdf > 0)
    probabilities[free] = np.eye(NUM_CLASSES)[0]
    known = scene.labels != IGNORE_INDEX
    weight = np.select(
        [measured, free, known], [weights.surface, weights.free, weights.hidden], weights.outside
    )
    exhibit = scene.exhibit()
    color = np.concatenate([exhibit.visible_colors, exhibit.visible[..., None]], axis=-1)
    values = np.concatenate([probabilities * weight[..., None], color], axis=-1)
    return values.reshape(-1, NUM_CLASSES + 4)
