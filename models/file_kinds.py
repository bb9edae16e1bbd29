"""What a file is that was taken for weights: the usual mistakes of a download, by their names."""

import zipfile
from pathlib import Path

# How files begin that are no weights, and what to say of them.
_BEGINNINGS = {
    b"version https://git-lfs.github.com/spec/": "a Git-LFS pointer, not the weights themselves: "
    "run `git lfs pull` in its repository, or download the file it stands for",
    b"\x1f\x8b": "a gzip archive: unpack it and give the file in it",
    b"BZh": "a bzip2 archive: unpack it and give the file in it",
    b"\xfd7zXZ\x00": "an xz archive: unpack it and give the file in it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it and give the file in it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes: weights of PyTorch are wanted",
    b"\x93NUMPY": "a NumPy array: weights of PyTorch are wanted",
    b"GGUF": "a GGUF file: weights of PyTorch are wanted",
}
_MAX_HEADER = 100_000_000  # of a safetensors file, as its library has it


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors files do: the length of a JSON header, and that."""
    with open(path, "rb") as file:
        length, brace = int.from_bytes(file.read(8), "little"), file.read(1)
    return brace == b"{" and length <= _MAX_HEADER


def what_else(path: Path) -> str | None:
    """What a file is, and what to do, if it can be named and is no file of weights."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        return "empty: download or copy it again"
    for beginning, meaning in _BEGINNINGS.items():
        if head.startswith(beginning):
            return meaning
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it and give the file in it"
    if head.startswith(b"PK"):
        return _what_zip(path)
    return _what_text(head)


def _what_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged, which is for the reader to say
        return None
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program: save the network's state_dict() with torch.save"
    if any(name.endswith("data.pkl") for name in names):
        return None
    inside = _printable(", ".join(names[:3])) or "nothing"
    return f"a zip archive with {inside} in it, not weights: if they are in it, unpack it"


def _what_text(head: bytes) -> str | None:
    text = head.decode("utf-8-sig", errors="replace")
    if not all(c.isprintable() or c.isspace() for c in text):
        return None
    if "<html" in text.lower() or text.lower().lstrip().startswith("<!doctype"):
        return "a web page, not weights: download the file that the page is about"
    return f"a text file, not weights (it begins: {_printable(text)})"


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, " ".join(text.split())))[:60]
