"""An HTML page with a table and, for every image, a slider between the blurry, restored and sharp versions."""

import base64
import hashlib
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image

from deeprftv2_plugin.data.storage.images import write_png
from deeprftv2_plugin.evaluation.validation import side_by_side, to_8_bit
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import printable

BLURRY, RESTORED, SHARP = 'blurry.png', 'restored.png', 'sharp.png'
THUMBNAIL = 'thumbnail.jpg'
THUMBNAIL_HEIGHT = 160
"""Maximum height of a thumbnail in pixels."""


class Cell(NamedTuple):
    """A cell of the table."""

    text: str
    value: float | None = None
    """Number to sort by; None to sort by the text."""


class Table(NamedTuple):
    """The table of a page."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class PageImage(NamedTuple):
    """An image of a page. All its files have the same height and width."""

    name: str
    blurry: Path
    restored: Mapping[str, Path]
    """The restored image by method."""
    sharp: Path | None = None
    scores: Mapping[str, Mapping[str, float]] = {}
    """The scores of methods, by metric."""
    thumbnail: Path | None = None
    """A small version, shown until the other versions are loaded."""


def write_page(
    path: Path,
    title: str,
    table: Table,
    images: Sequence[PageImage],
    better: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write a page for images that exist as files. The worst images of the first method come first.

    The page needs no server. It requests only these images, by paths relative to its folder. The methods are shown in
    the order of `PageImage.restored`.

    Args:
        path: The HTML file. Its folder is created if needed.
        title: The title. HTML is escaped.
        table: A table above the images.
        images: The images.
        better: 'higher' or 'lower', whichever is better, by the name of the metric. Images are sorted by the first one.
        notes: Paragraphs below the table. HTML is escaped.

    Raises:
        OSError: An image cannot be read, or the page cannot be written.
    """
    methods = list(dict.fromkeys(method for image in images for method in image.restored))
    content = {
        'table': {
            'columns': table.columns,
            'rows': [[(text, _number(value)) for text, value in row] for row in table.rows],
        },
        'methods': methods,
        'metrics': [{'name': name, 'better': which} for name, which in better.items()],
        'images': [_describe(image, methods, list(better), path.parent) for image in images],
        'notes': notes,
    }
    template, style, script = (
        Path(__file__).with_suffix(suffix).read_text('utf-8') for suffix in ('.html', '.css', '.js')
    )
    allowed = f"style-src {_hash(style)}; script-src {_hash(script)}; img-src 'self' file:"
    text = Template(template).substitute(
        title=html.escape(title),
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; {allowed}",
        style=style,
        script=script,
        data=json.dumps(content).replace('<', r'\u003c'),  # '<' could end the script element
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, printable(text).encode())


def files_of(page: Path) -> Path:
    """Return the folder for the images of a page: NAME_files for NAME.html."""
    return page.with_name(f'{page.stem}_files')


def save_images(folder: Path, name: str, images: Sequence[np.ndarray]) -> None:
    """Write the versions of an image and a thumbnail, to be found by `saved_image`.

    Args:
        folder: Folder for all images of a dataset.
        name: Name of the image.
        images: Blurry, restored and, if available, sharp image, (H, W, 3), BGR, uint8 or uint16.

    Raises:
        OSError: A file cannot be written.
    """
    folder = _folder_of(folder, name)
    for file, image in zip((BLURRY, RESTORED, SHARP), images, strict=False):
        write_png(folder / file, to_8_bit(image))
    restored = to_8_bit(images[1])
    small = side_by_side([restored], min(THUMBNAIL_HEIGHT, restored.shape[0]))
    write_whole(folder / THUMBNAIL, cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def saved_image(folder: Path, name: str, method: str, scores: Mapping[str, float]) -> PageImage:
    """Return an image written by `save_images`.

    Args:
        folder: Folder for all images of a dataset.
        name: Name of the image.
        method: Name of the method that restored it.
        scores: Scores of the restored image by metric.
    """
    folder = _folder_of(folder, name)
    sharp = folder / SHARP
    restored = {method: folder / RESTORED}
    return PageImage(
        name, folder / BLURRY, restored, sharp if sharp.exists() else None, {method: scores}, folder / THUMBNAIL
    )


def _folder_of(folder: Path, name: str) -> Path:
    """Return the folder for the versions of an image. Its name is hashed, as it may be too long or not a valid path."""
    return folder / hashlib.sha256(printable(name).encode()).hexdigest()[:16]


def _describe(image: PageImage, methods: Sequence[str], metrics: Sequence[str], folder: Path) -> dict:
    with Image.open(image.blurry) as file:
        width, height = file.size
    restored = [image.restored.get(method) for method in methods]
    return {
        'name': printable(image.name),
        'width': width,
        'height': height,
        'versions': [_url(path, folder) for path in (image.blurry, *restored, image.sharp)],
        'thumbnail': _url(image.thumbnail, folder),
        'scores': [[_number(image.scores.get(method, {}).get(metric)) for metric in metrics] for method in methods],
    }


def _url(path: Path | None, folder: Path) -> str | None:
    return None if path is None else quote(os.fsencode(os.path.relpath(path, folder).replace(os.sep, '/')))


def _number(value: float | None) -> float | str | None:
    """Return a number, as a string for JavaScript if JSON cannot represent it."""
    if value is None or math.isfinite(value):
        return value
    return 'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'


def _hash(text: str) -> str:
    """Return the source expression of a content security policy that allows only this script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
