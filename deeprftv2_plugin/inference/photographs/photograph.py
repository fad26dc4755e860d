"""A photograph in memory."""

import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ORIENTATION = 0x0112
"""The EXIF tag of the orientation of an image."""
SIDEWAYS = (5, 6, 7, 8)
"""The orientations that swap width and height."""
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
"""The tags of the directories with further EXIF data. The last one is in the first one."""
WIDTH, HEIGHT = 40962, 40963
"""The tags of the directory EXIF for the size of the image."""
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
"""The tags of pixels per unit, horizontally and vertically, and of the unit: 2 for inches, 3 for centimeters."""
DESCRIPTIVE = (
    *(270, 271, 272, ORIENTATION),  # description, camera
    *(X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT),
    *(305, 306, 315, 316),  # software, time, artist, computer
    *(18246, 18249, 33432, *range(40091, 40096)),  # rating, copyright, fields of Windows
    *(EXIF, GPS),
)
"""The tags of a TIFF file that describe the photograph, not its encoding."""


class Metadata(NamedTuple):
    """The metadata of a photograph."""

    exif: bytes = b''
    """EXIF data, starting with the TIFF header."""
    icc: bytes = b''
    """ICC profile of the pixels."""
    xmp: bytes = b''
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontally and vertically."""
    png: bytes = b''
    """Chunks about the colors and with texts, which only PNG files can have."""
    jpeg: bytes = b''
    """Segments with a comment and IPTC data, which are only written to JPEG files."""


class Photograph(NamedTuple):
    """The pixels of a photograph, upright, with its transparency and metadata."""

    pixels: np.ndarray
    """Gray values (H, W) or RGB (H, W, 3): uint8, uint16, or floating-point numbers in [0, 1]."""
    alpha: np.ndarray | None = None
    """Opacity (H, W) of the same type."""
    metadata: Metadata = Metadata()


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate or mirror an array (H, W, ...) according to an EXIF orientation, 1 to 8. Other values have no effect."""
    if orientation in SIDEWAYS:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def upright_exif(exif: bytes) -> bytes:
    """Return EXIF data with orientation 1 and without the thumbnail, which shows the image before the restoration.

    If the orientation swaps the sides of the image, its width and height are swapped, too, and so are its resolutions.
    All other bytes, such as maker notes with offsets, are unchanged. Data without the header of EXIF data is dropped.

    Raises:
        struct.error: The data is damaged.
    """
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(exif[:4])
    if order is None:
        return b''
    data = bytearray(exif)
    entries, end = _entries(data, order, *struct.unpack_from(order + 'I', data, 4))
    data[end : end + 4] = bytes(len(data[end : end + 4]))  # the position of the directory of the thumbnail
    if ORIENTATION not in entries:
        return bytes(data)
    at = entries[ORIENTATION]
    swapped = struct.unpack_from(order + 'H', data, at + 8)[0] in SIDEWAYS
    data[at : at + 12] = struct.pack(order + 'HHIHH', ORIENTATION, 3, 1, 1, 0)
    if swapped:
        _swap(data, entries, X_RESOLUTION, Y_RESOLUTION)
        if EXIF in entries:
            entries, _ = _entries(data, order, *struct.unpack_from(order + 'I', data, entries[EXIF] + 8))
            _swap(data, entries, WIDTH, HEIGHT)
    return bytes(data)


def _swap(data: bytearray, entries: dict[int, int], first: int, second: int) -> None:
    """Swap the values of two tags of an EXIF directory, if it has both."""
    if first in entries and second in entries:
        one, other = (slice(entries[tag] + 2, entries[tag] + 12) for tag in (first, second))
        data[one], data[other] = data[other], data[one]


def _entries(data: bytearray, order: str, start: int) -> tuple[dict[int, int], int]:
    """Return the positions of the entries of an EXIF directory by their tags, and the end of the last entry."""
    (count,) = struct.unpack_from(order + 'H', data, start)
    end = start + 2 + 12 * count
    return {struct.unpack_from(order + 'H', data, at)[0]: at for at in range(start + 2, end, 12)}, end


def loaded_exif(exif: bytes) -> Image.Exif:
    """Return decoded EXIF data. It may be empty."""
    found = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # about damaged values
        found.load(exif)
    return found


def descriptive_exif(exif: Image.Exif) -> bytes:
    """Return EXIF data with orientation 1, without the tags that describe the pixels of a TIFF file."""
    chosen = Image.Exif()
    chosen.endian = exif.endian
    for tag, value in descriptive_entries(exif).items():
        chosen[tag] = value
    return upright_exif(chosen.tobytes().removeprefix(b'Exif\0\0')) if len(chosen) else b''


def descriptive_entries(exif: Image.Exif) -> dict[int, Any]:
    """Return the values of the tags `DESCRIPTIVE`, those of the directories EXIF and GPS as dictionaries.

    Damaged values, and values whose type is not that of their tag, are left out, since Pillow cannot write them.
    """
    found: dict[int, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # about such values
        for tag in exif:
            if tag in DESCRIPTIVE:
                with suppress(Exception):  # they can cause any exception
                    found[tag] = _writable(exif.get_ifd(tag)) if tag in (EXIF, GPS) else exif[tag]
        return _writable(found)


def _writable(entries: Mapping[int, Any]) -> dict[int, Any]:
    """Return the entries of an EXIF directory that Pillow can write, except the directory of `INTEROPERABILITY`."""
    found = {}
    for tag, value in entries.items():
        page = ImageFileDirectory_v2()
        with suppress(Exception):
            page[tag] = value
            page.tobytes()
            if tag != INTEROPERABILITY:
                found[tag] = page[tag]
    return found
