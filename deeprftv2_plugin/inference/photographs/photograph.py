"""A photograph in memory."""

import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
"""The EXIF tag of the orientation of an image."""
DESCRIPTIVE = (
    *(270, 271, 272, ORIENTATION),  # description, camera
    *(282, 283, 296, 305, 306, 315, 316),  # resolution, software, time, artist, computer
    *(18246, 18249, 33432, *range(40091, 40096)),  # rating, copyright, fields of Windows
    *(34665, 34853),  # EXIF and GPS
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


class Photograph(NamedTuple):
    """The pixels of a photograph, upright, with its transparency and metadata."""

    pixels: np.ndarray
    """Gray values (H, W) or RGB (H, W, 3): uint8, uint16, or floating-point numbers in [0, 1]."""
    alpha: np.ndarray | None = None
    """Opacity (H, W) of the same type."""
    metadata: Metadata = Metadata()


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate or mirror an array (H, W, ...) according to an EXIF orientation, 1 to 8. Other values have no effect."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def upright_exif(exif: bytes) -> bytes:
    """Return EXIF data with orientation 1. All other bytes, such as maker notes with offsets, are unchanged.

    Raises:
        struct.error: The data is damaged.
    """
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None:
        return exif
    (start,) = struct.unpack_from(order + 'I', exif, 4)
    (count,) = struct.unpack_from(order + 'H', exif, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(order + 'H', exif, at)[0] == ORIENTATION:
            entry = struct.pack(order + 'HHIHH', ORIENTATION, 3, 1, 1, 0)
            exif = exif[:at] + entry + exif[at + 12 :]
    return exif


def descriptive_exif(tiff: bytes) -> bytes:
    """Return the EXIF data of a TIFF file with orientation 1, without the tags that describe its pixels."""
    found, chosen = Image.Exif(), Image.Exif()
    found.load(tiff)
    chosen.endian = found.endian
    for tag in found:
        if tag in DESCRIPTIVE:
            value = found.get_ifd(tag) if tag in (34665, 34853) else found[tag]
            chosen[tag] = (
                {key: each for key, each in value.items() if key != 40965} if isinstance(value, dict) else value
            )
    return upright_exif(chosen.tobytes().removeprefix(b'Exif\0\0')) if len(chosen) else b''
