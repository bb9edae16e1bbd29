"""One self-contained HTML page for an evaluation: the results, and rooms to turn around.

The page needs neither network nor GPU: utils/pictures/page.html draws the cubes itself.
"""

import base64
import html
import json
import re
import zlib
from pathlib import Path

import cv2
import numpy as np

from constants import CLASS_COLORS, CLASS_NAMES, GRID
from utils.files import write_text
from utils.metrics import COLUMNS
from utils.pictures.exhibit import CEILING, ERROR_COLORS, ERROR_NAMES, Exhibit

_UNDERLINE = {
    name: f' style="border-bottom: 4px solid rgb{color}"'
    for name, color in zip(CLASS_NAMES, CLASS_COLORS, strict=True)
}


def save_page(
    path: str | Path, title: str, tables: dict[str, dict[str, list[float]]], exhibits: list[Exhibit]
) -> None:
    """Write the page; about 80 kB a scene.

    A link can open a scene and a layer: index.html#scene=NYU0003&layer=truth, with layer
    prediction, truth, errors or visible, and all=1 to show what is not evaluated too.

    title: heading, such as the checkpoint's name and what it was evaluated on; tables: caption ->
    {row name: utils.metrics.table_row}; exhibits: of volumes of the same size; may be empty.
    """
    data = {
        "grid": exhibits[0].prediction.shape if exhibits else GRID,
        "classes": CLASS_NAMES,
        "classColors": CLASS_COLORS,
        "ceiling": CEILING,
        "errors": ERROR_NAMES,
        "errorColors": ERROR_COLORS,
        "scenes": [_scene(exhibit) for exhibit in exhibits],
    }
    parts = {
        "title": html.escape(title),
        "tables": "\n".join(_table(caption, rows) for caption, rows in tables.items()),
        # Inside a script element nothing but "<" could end it.
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    # In one pass: what is filled in is not searched again.
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    write_text(path, re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template))


def _scene(exhibit: Exhibit) -> dict:
    """What the page's script needs of a scene; see `unpack` there for the order of the volumes."""
    has_truth = exhibit.label is not None
    volumes = [exhibit.prediction, exhibit.evaluated, exhibit.classes, exhibit.visible]
    volumes += [exhibit.shown_label, exhibit.errors] if has_truth else []
    packed = b"".join(volume.astype(np.uint8).tobytes() for volume in volumes)
    packed += exhibit.visible_colors[exhibit.visible].tobytes()
    jpeg = b""
    if exhibit.image is not None:
        image = cv2.resize(exhibit.image, (480, 360), interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return {
        "name": exhibit.name,
        "azimuth": exhibit.azimuth,
        "hasTruth": has_truth,
        "image": base64.b64encode(jpeg).decode(),
        "volumes": base64.b64encode(zlib.compress(packed, 9)).decode(),
    }


def _table(caption: str, rows: dict[str, list[float]]) -> str:
    """An HTML table with one decimal, its class columns in the colours of the classes."""
    head = "".join(f"<th{_UNDERLINE.get(name, '')}>{html.escape(name)}</th>" for name in COLUMNS)
    body = ""
    for name, values in rows.items():
        cells = "".join(f"<td>{value:.1f}</td>" for value in values)
        body += f"<tr><th>{html.escape(name)}</th>{cells}</tr>\n"
    return (
        f"<table><caption>{html.escape(caption)}</caption>\n"
        f"<thead><tr><th></th>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    )
