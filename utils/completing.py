"""From files of frames to files of completed scenes, or of a map: the work of `predict.py`."""

import sys
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from datasets.frames.depth import ImplausibleHeight, advice_on_height
from datasets.frames.finding import FrameFiles
from datasets.frames.reading import FrameReader
from datasets.frames.sequence import PosedFrame, check_up
from errors import InputError
from utils.completion import CompletedScene, SceneCompleter
from utils.fusing import fuse_frames
from utils.scene_map import SceneMap

_WRITING = threading.Lock()  # Matplotlib draws in one thread at a time


@dataclass(frozen=True)
class Completion:
    """Reads, completes and writes the frames of one camera."""

    completer: SceneCompleter
    read: FrameReader
    output: Path  # folder
    formats: Collection[str]  # of constants.SCENE_FORMATS
    mesh: bool = False  # .ply holds cubes, not points
    camera_height: float | None = None  # metres above the floor; default: estimated

    def complete(self, files: FrameFiles) -> list[str]:
        """Complete a frame; returns lines on what was believed."""
        rgb, depth, K, pose, beliefs, exif, raw = self.read(files)
        height, rotate, crop = self.camera_height, self.read.rotate, self.read.crop
        try:
            scene = self.completer(rgb, depth, K, pose, height, files.name, rotate, exif, crop=crop)
        except ImplausibleHeight as error:
            if height is not None:
                raise
            raise InputError(f"{error}; {advice_on_height(error.height, depth, raw)}") from error
        beliefs += scene.frame.pose_beliefs()
        if height is None and scene.frame.is_low:
            advice = advice_on_height(float(scene.pose[2, 3]), depth, raw)
            beliefs.append(f"the floor may be a table; {advice}")
        return beliefs + self._save(scene, scene.occupied.any(), files.name)

    def complete_all(self, frames: Sequence[FrameFiles], lacking: int = 0) -> None:
        """Complete the frames, two at once; InputError at the end if some were refused.

        While the network completes one, the other is read, prepared or written. lacking: how many
        frames were refused before, as they are not whole.
        """
        total, refused = len(frames) + lacking, lacking
        with ThreadPoolExecutor(max_workers=2) as pool:
            try:
                futures = [pool.submit(self.complete, files) for files in frames]
                bar = tqdm(futures, disable=len(frames) == 1, unit="frame")
                for files, future in zip(frames, bar, strict=True):
                    try:
                        lines = future.result()
                    except InputError as error:
                        if total == 1:
                            raise
                        refused += 1
                        tqdm.write(f"error: {files.name}: {error}", file=sys.stderr)
                    else:
                        tqdm.write("\n".join(f"{files.name}: {line}" for line in lines))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        print(f"written: {total - refused} of {total} frames to {self.output}")
        if refused:
            raise InputError(f"{refused} of {total} frames were refused, see above")

    def fuse(self, frames: Sequence[FrameFiles], up: Sequence[float], name: str) -> None:
        """Fuse all frames into one map and write it. up: its direction in the poses' world."""
        up = check_up(up)
        for files in frames:
            if files.pose is None:
                raise InputError(
                    f"{files.name} has no pose: for --fuse write `rgb depth pose` in the list, or "
                    "give a folder as --pose"
                )
        readers = [(files.name, partial(self._posed, files)) for files in frames]
        how = self.camera_height, self.read.rotate, self.read.crop
        scene_map, belief = fuse_frames(self.completer, readers, up, *how)
        lines = self._save(scene_map, len(scene_map.points()[0]) > 0, name)
        print("\n".join([belief, *lines]))
        print(f"written: {self.output / name}.*, of {scene_map.frames} of {len(frames)} frames")

    def _posed(self, files: FrameFiles) -> PosedFrame:
        frame = self.read(files)
        if frame.pose.shape != (4, 4):
            raise InputError(
                f"{files.pose}: gravity alone; --fuse needs a 4x4 camera-to-world pose"
            )
        return PosedFrame(*frame[:4])

    def _save(self, result: CompletedScene | SceneMap, occupied: bool, name: str) -> list[str]:
        """Write a scene or a map in all formats; returns a line if some have nothing to hold."""
        with _WRITING:
            for kind in self.formats:
                if occupied or kind not in ("ply", "glb"):
                    result.save(self.output / f"{name}.{kind}", mesh=self.mesh)
        return [] if occupied else ["no voxel is occupied: nothing to write as .ply and .glb"]
