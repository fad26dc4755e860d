"""Write photographs to files."""

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeprftv2_plugin.data.storage.images import full_scale
from deeprftv2_plugin.inference.photographs.photograph import Photograph, descriptive_exif, loaded_exif
from deeprftv2_plugin.inference.photographs.png import encode_png
from deeprftv2_plugin.inference.photographs.reading import HEIC_HINT, formats, lacks_heic
from deeprftv2_plugin.inference.photographs.tiff import encode_tiff
from deeprftv2_plugin.utils.errors import UserError

DEPTHS: dict[str, tuple[type, ...]] = {'PNG': (np.uint8, np.uint16), 'TIFF': (np.uint8, np.uint16, np.floating)}
"""Pixel types by format. Formats that are not listed store 8 bits."""
WITHOUT_ALPHA = ('BMP', 'JPEG', 'PPM')
SETTINGS: dict[str, dict[str, Any]] = {
    'AVIF': {'quality': 90},
    'BMP': {},
    'HEIF': {'quality': 90},
    'JPEG': {'quality': 95, 'subsampling': 0},
    'JPEG2000': {},  # lossless
    'PNG': {},
    'PPM': {},
    'TIFF': {},
    'WEBP': {'quality': 95},
}
"""Settings of the formats that can be written, by Pillow's names."""
MAX_SIDE = {'AVIF': 32_768, 'JPEG': 65_500, 'WEBP': 16_383}
"""Maximum width and height in pixels. Larger AVIF files can be written, but Pillow does not read them."""
OTHER_PIXELS = ('.pbm', '.pfm')
"""Suffixes that Pillow assigns to PPM but that stand for one bit and floating-point numbers."""
JPEG_LIMITS = {'exif': 65_533, 'xmp': 65_504}
"""Maximum sizes of EXIF data and of XMP in a JPEG file, in bytes. Larger metadata is omitted."""
WITHOUT_METADATA = ('BMP', 'JPEG2000', 'PPM')


def format_of(path: str | Path) -> str | None:
    """Return the format of a file name by its suffix, or None if the format cannot be written."""
    formats()  # registers the suffixes
    suffix = Path(path).suffix.lower()
    found = Image.registered_extensions().get(suffix)
    return found if found in SETTINGS and found in Image.SAVE and suffix not in OTHER_PIXELS else None


def require_format(path: Path) -> str:
    """Return the format of a file name by its suffix.

    Raises:
        UserError: The format cannot be written.
    """
    name = format_of(path)
    if name is None:
        hint = f'. {HEIC_HINT}' if lacks_heic(path) else ': use a name that ends in .png, .tif or .jpg'
        raise UserError(f'{path}: cannot write this format{hint}')
    return name


def check_target(photo: Photograph, path: Path, columns: int = 1) -> str:
    """Return the format of an output file.

    Args:
        photo: The photograph.
        path: The file.
        columns: Number of images of this size that are written side by side.

    Raises:
        UserError: The format cannot store the photograph.
    """
    name = require_format(path)
    height, width = photo.pixels.shape[0], photo.pixels.shape[1] * columns
    limit = MAX_SIDE.get(name, sys.maxsize)
    if max(height, width) > limit:
        raise UserError(
            f'{path}: {name} cannot store {width}x{height} pixels, its limit is {limit} in width and height: use .png '
            'or .tif'
        )
    if name in WITHOUT_ALPHA and is_transparent(photo):
        raise UserError(f'{path}: {name} cannot store the transparency of this image: use .png')
    return name


def is_transparent(photo: Photograph) -> bool:
    """Return whether a photograph has pixels that are not opaque."""
    return photo.alpha is not None and bool(photo.alpha.min() < full_scale(photo.alpha))


def encode(photo: Photograph, format: str) -> bytes:
    """Encode a photograph with its metadata. Pixels are rounded to 8 or 16 bits if the format requires it.

    Args:
        photo: The photograph.
        format: A key of `SETTINGS`. BMP, JPEG 2000 and PPM files have no metadata.
    """
    photo = _with_depth(photo, DEPTHS.get(format, (np.uint8,)))
    if format in WITHOUT_ALPHA:
        photo = photo._replace(alpha=None)
    if format == 'TIFF':
        return encode_tiff(photo)
    if format == 'PNG':
        return encode_png(photo)
    settings, metadata = SETTINGS[format], photo.metadata
    if format not in WITHOUT_METADATA:
        exif = b'Exif\0\0' + metadata.exif if metadata.exif else b''
        if format == 'AVIF':  # Pillow decodes and encodes it, which fails for damaged values
            exif = descriptive_exif(loaded_exif(exif))
        found = {'exif': exif, 'icc_profile': metadata.icc, 'xmp': metadata.xmp, 'dpi': metadata.dpi}
        if format == 'JPEG':
            found['extra'] = metadata.jpeg
        limits = JPEG_LIMITS if format == 'JPEG' else {}
        settings = settings | {
            key: value for key, value in found.items() if value and len(value) <= limits.get(key, sys.maxsize)
        }
    file = io.BytesIO()
    to_pillow(photo).save(file, format, **settings)
    return file.getvalue()


def to_pillow(photo: Photograph) -> Image.Image:
    """Convert a photograph to a Pillow image. It must be uint8, or grayscale without transparency."""
    image = Image.fromarray(photo.pixels)
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(photo.alpha))
    return image


def convert(array: np.ndarray, dtype: type | np.dtype) -> np.ndarray:
    """Scale an array of integers, or of floating-point numbers in [0, 1], to the range of an integer type."""
    if array.dtype == dtype:
        return array
    return np.rint(array * np.float32(np.iinfo(dtype).max / full_scale(array))).astype(dtype)


def _with_depth(photo: Photograph, known: Iterable[type]) -> Photograph:
    """Convert a photograph to the type with the most bits among the given ones, unless its type is among them."""
    known = tuple(known)
    if any(np.issubdtype(photo.pixels.dtype, each) for each in known):
        return photo
    alpha = None if photo.alpha is None else convert(photo.alpha, known[-1])
    return photo._replace(pixels=convert(photo.pixels, known[-1]), alpha=alpha)
