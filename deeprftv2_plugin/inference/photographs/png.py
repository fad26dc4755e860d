"""Write PNG files with their metadata, including color images of 16 bits, which Pillow cannot write."""

import struct
import zlib

import numpy as np

from deeprftv2_plugin.data.storage.decoding import PNG, png_chunks
from deeprftv2_plugin.inference.photographs.photograph import Photograph

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Color type by number of channels."""
LEVEL = 4
"""Compression level, 0 to 9. Higher levels take several times as long and save a few percent."""
COLORS, TEXTS = (b'cHRM', b'cICP', b'gAMA', b'sRGB'), (b'iTXt', b'tEXt', b'zTXt')
"""Types of chunks about the meaning of the pixel values, and with texts."""
XMP = b'XML:com.adobe.xmp\0'
WRITTEN_ELSEWHERE = (XMP, b'Raw profile type ')
"""The beginnings of texts that contain XMP or EXIF data."""


def kept_chunks(data: bytes) -> bytes:
    """Return the chunks of a valid PNG file about its colors and with texts, except those with other metadata."""
    return b''.join(
        data[start:end]
        for kind, start, end in png_chunks(data)
        if kind in COLORS or (kind in TEXTS and not data.startswith(WRITTEN_ELSEWHERE, start + 8))
    )


def encode_png(photo: Photograph) -> bytes:
    """Encode a photograph of uint8 or uint16 as PNG with its metadata."""
    parts = [photo.pixels, *([] if photo.alpha is None else [photo.alpha])]
    array = np.dstack(parts)
    height, width, channels = array.shape
    metadata = photo.metadata
    bits = 8 * array.itemsize
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, COLOR_TYPES[channels], 0, 0, 0))]
    if metadata.icc:
        chunks.append((b'iCCP', b'ICC profile\0\0' + zlib.compress(metadata.icc)))
    if metadata.dpi:
        chunks.append((b'pHYs', struct.pack('>IIB', *(round(each / 0.0254) for each in metadata.dpi), 1)))
    if metadata.exif:
        chunks.append((b'eXIf', metadata.exif))
    if metadata.xmp:
        chunks.append((b'iTXt', XMP + bytes(4) + metadata.xmp))
    chunks += [(b'IDAT', zlib.compress(_filtered(array), LEVEL)), (b'IEND', b'')]
    header, *others = (
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in chunks
    )
    return b''.join([PNG, header, metadata.png, *others])


def _filtered(array: np.ndarray) -> bytes:
    """Encode the rows of an array (H, W, C) with PNG's filter 1, which stores differences from the left pixel."""
    rows = np.ascontiguousarray(array, array.dtype.newbyteorder('>')).view(np.uint8)
    differences = np.concatenate([rows[:, :1], np.diff(rows, axis=1)], axis=1).reshape(len(array), -1)
    return np.insert(differences, 0, 1, axis=1).tobytes()
