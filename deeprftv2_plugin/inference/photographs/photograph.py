"""A photograph in memory."""

import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
"""The EXIF tag of the orientation of an image."""
SIDEWAYS = (5, 6, 7, 8)
"""The orientations that swap width and height."""
EXIF, GPS = 34665, 34853
"""The tags of the directories with further EXIF data."""
WIDTH, HEIGHT = 40962, 40963
"""The tags of the directory EXIF for the size of the image."""
DESCRIPTIVE = (
    *(270, 271, 272, ORIENTATION),  # description, camera
    *(282, 283, 296, 305, 306, 315, 316),  # resolution, software, time, artist, computer
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

    If the orientation swaps the sides of the image, its width and height are swapped, too. All other bytes, such as
    maker notes with offsets, are unchanged.

    Raises:
        struct.error: The data is damaged.
    """
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None:
        return exif
    data = bytearray(exif)
    entries, end = _entries(data, order, *struct.unpack_from(order + 'I', data, 4))
    data[end : end + 4] = bytes(len(data[end : end + 4]))  # the position of the directory of the thumbnail
    if ORIENTATION not in entries:
        return bytes(data)
    at = entries[ORIENTATION]
    swapped = struct.unpack_from(order + 'H', data, at + 8)[0] in SIDEWAYS
    data[at : at + 12] = struct.pack(order + 'HHIHH', ORIENTATION, 3, 1, 1, 0)
    if swapped and EXIF in entries:
        entries, _ = _entries(data, order, *struct.unpack_from(order + 'I', data, entries[EXIF] + 8))
        if WIDTH in entries and HEIGHT in entries:
            width, height = (slice(entries[tag] + 2, entries[tag] + 12) for tag in (WIDTH, HEIGHT))
            data[width], data[height] = data[height], data[width]
    return bytes(data)


def _entries(data: bytearray, order: str, start: int) -> tuple[dict[int, int], int]:
    """Return the positions of the entries of an EXIF directory by their tags, and the end of the last entry."""
    (count,) = struct.unpack_from(order + 'H', data, start)
    end = start + 2 + 12 * count
    return {struct.unpack_from(order + 'H', data, at)[0]: at for at in range(start + 2, end, 12)}, end


def descriptive_exif(tiff: bytes) -> bytes:
    """Return the EXIF data of a TIFF file with orientation 1, without the tags that describe its pixels."""
    found, chosen = Image.Exif(), Image.Exif()
    found.load(tiff)
    chosen.endian = found.endian
    for tag in found:
        if tag in DESCRIPTIVE:
            value = found.get_ifd(tag) if tag in (EXIF, GPS) else found[tag]
            chosen[tag] = (
                {key: each for key, each in value.items() if key != 40965} if isinstance(value, dict) else value
            )
    return upright_exif(chosen.tobytes().removeprefix(b'Exif\0\0')) if len(chosen) else b''
