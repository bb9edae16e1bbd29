"""The frames that a command names: files, folders, globs, lists, as tools write them.

Nothing is paired by its place in a folder: by the name without words like rgb and depth, or, where
no two names agree in that, by the numbers in them, or by time.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.files import read_text
from datasets.frames.stamps import (
    WITHIN,
    Trajectory,
    is_trajectory,
    match_times,
    pose_matrix,
    read_stamped_files,
    stamp_of,
)
from errors import InputError

_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".ppm", ".bmp", ".npy"}
_POSES = {".txt", ".npy"}
_KIND = re.compile(
    r"(?:^|[._-]|(?<=\d))(?:(?P<colour>rgb|colou?rs?|images?)|(?P<depth>depths?)|(?P<pose>poses?))"
    r"(?=$|[._-]|\d)",
    re.I,
)
_OTHER = re.compile(r"(?:^|[._-])(conf|confidence|masks?|vis)(?=$|[._-]|\d)", re.I)  # no images
_STAMP = re.compile(r"\d{9,}\.\d+")
# A word of a list: quotes anywhere (single ones only around a whole piece, for names like bob's),
# a backslash before a space; any other backslash is part of a Windows path.
_WORD = re.compile(r"""(?:(?<![^\s'"])'[^']*'(?=$|[\s"'])|"[^"]*"|\\[ ]|[^\s"])+""")
_PIECE = re.compile(r"""(?<![^\s'"])'([^']*)'(?=$|[\s"'])|"([^"]*)"|\\([ ])|([^\s"])""")


class FrameFiles(NamedTuple):
    """One frame on disk."""

    name: str
    rgb: Path
    depth: Path
    pose: Path | np.ndarray | None


class FoundFrames(NamedTuple):
    """frames: in natural order; refused: a line for each that lacks a file; notes: lines."""

    frames: list[FrameFiles]
    refused: list[str]
    notes: list[str]


class _Pair(NamedTuple):
    rgb: Path
    depth: Path
    pose: Path | np.ndarray | None = None
    time: float | None = None


def find_frames(
    rgb: list[Path] | None, depth: list[Path] | None, listing: Path | None, pose: Path | None
) -> FoundFrames:
    """The frames of a command line; InputError if there are none.

    rgb, depth: a file each, several of both, a folder each, or TUM's rgb.txt and depth.txt;
    listing: a list instead; pose: one file for all, a folder of them, or a trajectory by time.
    """
    refused, notes = [], []
    if listing is not None:
        pairs, folder = _listed(listing, notes)
    else:
        rgb, depth = _expand(rgb), _expand(depth)
        pairs, folder = _of_arguments(rgb, depth, refused, notes)
    truth = folder / "groundtruth.txt" if folder is not None else None
    if pose is None and truth is not None and is_trajectory(truth):
        pose = truth
        notes.append(f"poses: {truth}, taken as camera to world, Z up, floor at z = 0")
    pairs = _with_poses(pairs, pose, refused)
    if not pairs:
        reason = f" ({refused[0]})" if refused else ""
        raise InputError(f"{listing or rgb[0]}: no complete frame{reason}")
    names = _unique_names([pair.rgb for pair in pairs])
    frames = [FrameFiles(n, p.rgb, p.depth, p.pose) for n, p in zip(names, pairs, strict=True)]
    return FoundFrames(frames, refused, notes)


# ---- names ------------------------------------------------------------------------------------


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key in which 2 comes before 10."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def _key(path: Path) -> str:
    """What the files of a frame have in common: their name without words for what they are."""
    return _KIND.sub("", path.stem).strip("._-")


def _kind(path: Path) -> str | None:
    """colour, depth, pose or other, if the name says so; aligned_depth_to_color is depth."""
    kinds = {match.lastgroup for match in _KIND.finditer(path.stem)}
    kinds |= {"other"} if _OTHER.search(path.stem) else set()
    return next((kind for kind in ("other", "pose", "depth", "colour") if kind in kinds), None)


def _place(path: Path) -> tuple[str, ...]:
    """The keys of a file and of its folders."""
    return tuple(_KIND.sub("", part) for part in path.with_suffix("").parts)


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", path.stem)))


def _unique_names(paths: list[Path]) -> list[str]:
    """Names to write by: the keys; of equal ones with as many folders before as tell them apart.

    Upper and lower case are the same, as on macOS and Windows.
    """
    names = [_key(path) or path.stem for path in paths]
    alike = defaultdict(list)
    for index, name in enumerate(names):
        alike[name.casefold()].append(index)
    for indices in filter(lambda group: len(group) > 1, list(alike.values())):
        folders = [paths[index].absolute().parts[:-1] for index in indices]
        told = [()] * len(folders)
        for depth in range(1, max(map(len, folders)) + 1):
            parts = [folder[-depth] if depth <= len(folder) else "" for folder in folders]
            if len(set(parts)) > 1:
                told = [(part, *rest) for part, rest in zip(parts, told, strict=True)]
            if len({tuple(map(str.casefold, words)) for words in told}) == len(told):
                for index, words in zip(indices, told, strict=True):
                    prefix = "_".join(re.sub(r"[\\/:]", "", word) for word in words if word)
                    names[index] = f"{prefix}_{names[index]}"
                break
    seen = {}
    for name, path in zip(names, paths, strict=True):
        other = seen.setdefault(name.casefold(), path)
        if other is not path:
            raise InputError(
                f"two frames would both be written as {name} ({other}, {path}): rename one"
            )
    return names


# ---- folders and globs ------------------------------------------------------------------------


def _expand(paths: list[Path]) -> list[Path]:
    """The files of patterns that the shell left as they are, as that of Windows does."""
    found = []
    for path in paths:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = sorted(glob.glob(str(path)), key=natural)
        if not matches:
            raise InputError(f"{path}: no such files")
        found += map(Path, matches)
    return found


def _of_arguments(
    rgb: list[Path], depth: list[Path], refused: list[str], notes: list[str]
) -> tuple[list[_Pair], Path | None]:
    """The pairs of --rgb and --depth, and the folder of TUM's files, where they are those."""
    if len(rgb) == len(depth) == 1:
        first, second = rgb[0], depth[0]
        if first.is_dir() and second.is_dir():
            return _of_folders(first, second, refused, notes)
        if first.is_dir() or second.is_dir():
            raise InputError(f"{first} and {second}: give two folders, or two files")
        if first.suffix.lower() == second.suffix.lower() == ".txt":
            return _by_time(read_stamped_files(first), read_stamped_files(second), notes, first)
        return [_Pair(first, second, time=stamp_of(first.stem))], None
    for folder in filter(Path.is_dir, [*rgb, *depth]):
        raise InputError(f"{folder}: a folder among several files: give one folder, or files")
    if len(rgb) != len(depth):
        raise InputError(
            f"--rgb names {len(rgb)} files and --depth {len(depth)}: give as many of both"
        )
    paired, lonely = _pair(rgb, depth)
    if lonely:
        raise InputError(f"{lonely[0]}: no file of the other kind has its name or number")
    return [_Pair(*pair, time=stamp_of(pair[0].stem)) for pair in paired], None


def _of_folders(
    rgb: Path, depth: Path, refused: list[str], notes: list[str]
) -> tuple[list[_Pair], Path | None]:
    same = rgb.resolve() == depth.resolve()
    if same and not any(path.suffix.lower() in _IMAGES for path in _files(rgb)):
        if (rgb / "associations.txt").is_file():
            return _listed(rgb / "associations.txt", notes)
        if (rgb / "rgb.txt").is_file() and (rgb / "depth.txt").is_file():
            lists = [read_stamped_files(rgb / f"{kind}.txt") for kind in ("rgb", "depth")]
            return _by_time(*lists, notes, rgb / "rgb.txt")
        rgb, depth = _inner_folder(rgb, "colour"), _inner_folder(depth, "depth")
        same = rgb == depth
    found = {
        folder_kind: [path for path in _files(folder) if path.suffix.lower() in _IMAGES]
        for folder_kind, folder in (("colour", rgb), ("depth", depth))
    }
    colours = _of_kind(found["colour"], "colour", same)
    depths = _of_kind(found["depth"], "depth", same)
    if same and depths and not colours:  # like Replica's frame000064.jpg
        colours = [path for path in found["colour"] if _kind(path) is None]
    if same and not depths and not colours:  # like SUN3D's 0001.jpg and 0001.png
        is_photo = {path: path.suffix.lower() in (".jpg", ".jpeg") for path in found["colour"]}
        colours = [path for path, photo in is_photo.items() if photo]
        depths = [path for path, photo in is_photo.items() if not photo] if colours else []
    for folder, images, kind in ((rgb, colours, "colour"), (depth, depths, "depth")):
        if not images:
            example = "0001_rgb.png" if kind == "colour" else "0001_depth.png"
            raise InputError(
                f"{folder}: no images whose names say that they are {kind}, like {example}"
            )
    if all(_STAMP.fullmatch(path.stem) for path in (*colours, *depths)):
        lists = [[(float(path.stem), path) for path in paths] for paths in (colours, depths)]
        return _by_time(*lists, notes, rgb)[0], rgb.parent
    paired, lonely = _pair(colours, depths)
    refused += [f"{path}: its partner is missing" for path in lonely]
    return [_Pair(*pair, time=stamp_of(pair[0].stem)) for pair in paired], None


def _files(folder: Path) -> list[Path]:
    """Its files in natural order, without hidden ones like macOS's ._0001.png and .DS_Store."""
    try:
        paths = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted((p for p in paths if not p.name.startswith(".")), key=lambda p: natural(p.name))


def _inner_folder(folder: Path, kind: str) -> Path:
    """The folder in it that is named for a kind, as ScanNet's color and depth; else itself."""
    inner = [path for path in folder.iterdir() if path.is_dir() and _kind(path) == kind]
    return inner[0] if len(inner) == 1 else folder


def _of_kind(paths: list[Path], kind: str, must_say: bool) -> list[Path]:
    """The files of a kind by their names, which may be silent in a folder of one kind alone."""
    return [path for path in paths if _kind(path) == kind or not (must_say or _kind(path))]


def _pair(first: list[Path], second: list[Path]) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Files that belong together, in natural order, and those without a partner."""
    by_name = _by(_key, first), _by(_key, second)
    for paths in by_name:
        for several in filter(lambda paths: len(paths) > 1, paths.values()):
            if any(several[0].parent == path.parent for path in several[1:]):
                one, other = several[:2]
                raise InputError(f"{one} and {other.name} are of the same frame: use --list")
    ways = [by_name, (_by(_place, first), _by(_place, second))]
    alike = len({re.sub(r"\d", "", _key(path)) for path in (*first, *second)}) == 1
    if alike or not by_name[0].keys() & by_name[1].keys():
        parts = slice(None), slice(-1, None), slice(1)  # of the numbers: all, the last, the first
        keys = [lambda path, part=part: _numbers(path)[part] for part in parts]
        ways += [(_by(key, first), _by(key, second)) for key in keys]
    best = max(ways, key=lambda way: len(_certain(*way)))
    keys = _certain(*best)
    pairs = [(best[0][key][0], best[1][key][0]) for key in keys]
    paired = set(sum(pairs, ()))
    pairs.sort(key=lambda pair: natural(str(pair[0])))
    return pairs, [path for path in (*first, *second) if path not in paired]


def _by(key: Callable[[Path], Hashable], paths: list[Path]) -> dict[Hashable, list[Path]]:
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return dict(groups)


def _certain(first: dict, second: dict) -> list[Hashable]:
    """Keys that one file of each has; () says that a name has no number."""
    return [key for key in first if key != () and len(first[key]) == len(second.get(key, ())) == 1]


# ---- lists ------------------------------------------------------------------------------------


def split_line(line: str) -> list[str]:
    """The words of a line of a list; ValueError for a quote that does not end."""
    if re.sub(r"\s+", "", "".join(_WORD.findall(line))) != re.sub(r"\s+", "", line):
        raise ValueError
    return ["".join(map("".join, _PIECE.findall(word))) for word in _WORD.findall(line)]


def _listed(path: Path, notes: list[str]) -> tuple[list[_Pair], Path | None]:
    """The pairs of a list of ours, or of TUM's associations.txt, or of rgb.txt with depth.txt."""
    pairs, timed = [], False
    for number, line in enumerate(read_text(path, limit=1 << 24).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = split_line(line)
        except ValueError:
            raise InputError(f"{path}, line {number}: a quote does not end") from None
        stamps = [stamp_of(word) for word in words[:3:2]]
        if len(words) == 2 and stamps[0] is not None and not (path.parent / words[0]).exists():
            other = path.with_name("depth.txt")
            if path.name == other.name or not other.is_file():
                raise InputError(f"{path}, line {number}: a time and a file: depth.txt is needed")
            return _by_time(read_stamped_files(path), read_stamped_files(other), notes, path)
        if len(words) in (4, 12) and None not in stamps:  # time rgb time depth [time pose]
            files, timed = [path.parent / word for word in words[1:4:2]], True
            times = dict(zip(files, stamps, strict=False))
            if _said(files[0], path.parent) == "depth" and _said(files[1], path.parent) != "depth":
                files.reverse()
            pose = None
            if len(words) == 12:
                try:
                    pose = pose_matrix(np.array(words[5:], dtype=float), path)
                except (ValueError, InputError):
                    notes.append(f"{path}, line {number}: no usable pose in it: left out")
                    continue
            pairs.append(_Pair(*files, pose, times[files[0]]))
        elif len(words) in (2, 3):
            rgb, depth, *own = (path.parent / word for word in words)
            pairs.append(_Pair(rgb, depth, own[0] if own else None, stamp_of(rgb.stem)))
        else:
            raise InputError(
                f"{path}, line {number}: write `rgb depth [pose]`, names with spaces in quotes"
            )
    if not pairs:
        raise InputError(f"{path}: no frames in it; write `rgb depth [pose]`, one a line")
    return pairs, path.parent if timed else None


def _said(path: Path, root: Path) -> str | None:
    """The kind that a file's name or its folders below a root say."""
    inner = path.relative_to(root) if path.is_relative_to(root) else path
    kinds = [_kind(Path(part)) for part in (*inner.parent.parts, inner.stem)]
    return next((kind for kind in reversed(kinds) if kind), None)


def _by_time(
    rgb: list[tuple[float, Path]],
    depth: list[tuple[float, Path]],
    notes: list[str],
    source: Path,
) -> tuple[list[_Pair], Path]:
    """The pairs that are nearest in time, and the folder of the source."""
    matches = match_times([time for time, _ in rgb], [time for time, _ in depth])
    if len(matches) < len(rgb):
        notes.append(
            f"{source}: {len(rgb) - len(matches)} of {len(rgb)} colour images left out: no depth "
            f"within {WITHIN} s"
        )
    return [_Pair(rgb[i][1], depth[j][1], time=rgb[i][0]) for i, j in matches], source.parent


# ---- poses ------------------------------------------------------------------------------------


def _with_poses(pairs: list[_Pair], pose: Path | None, refused: list[str]) -> list[_Pair]:
    """Pairs with their poses; those without one, where poses are wanted, are refused."""
    if pose is None:
        return pairs
    of = {pair.rgb: pose for pair in pairs}
    if pose.is_dir():
        images = [pair.rgb for pair in pairs]
        found = [path for path in _files(pose) if path.suffix.lower() in _POSES]
        said = [path for path in found if _kind(path) == "pose"]
        found = said or [path for path in found if _kind(path) is None]
        if not found and (inner := _inner_folder(pose, "pose")) != pose:
            return _with_poses(pairs, inner, refused)
        of = dict(_pair(images, found)[0])
    trajectory = Trajectory(pose) if is_trajectory(pose) else None
    complete = []
    for pair in pairs:
        own = pair.pose
        if own is None and trajectory is not None:
            try:
                if pair.time is None:
                    raise InputError(f"{pair.rgb}: its time is not known, which {pose} wants")
                own = trajectory.pose_at(pair.time)
            except InputError as error:
                refused.append(f"{pair.rgb}: {error}")
                continue
        elif own is None:
            own = of.get(pair.rgb)
        if own is None:
            refused.append(f"{pose}: no pose for {pair.rgb}")
            continue
        complete.append(pair._replace(pose=own))
    return complete
