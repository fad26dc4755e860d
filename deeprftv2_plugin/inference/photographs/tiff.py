"""Read and write TIFF files with any bit depth. Pillow does not support color images with more than 8 bits."""

import io
import warnings
import zlib

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from deeprftv2_plugin.data.storage.decoding import (
    BIG_TIFF,
    BITS,
    COMPRESSION,
    PLANES,
    SAMPLES,
    TIFF,
    separate_planes,
)
from deeprftv2_plugin.inference.photographs.photograph import (
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Photograph,
    descriptive_entries,
    loaded_exif,
)
from deeprftv2_plugin.utils.errors import UserError

MAX_PAGES = 1000
WIDTH, HEIGHT, PHOTOMETRIC = 256, 257, 262
STRIP_OFFSETS, ROWS, STRIP_BYTES, PREDICTOR, EXTRA, FORMAT = 273, 278, 279, 317, 338, 339
REDUCED, XMP, ICC = 254, 700, 34675
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
"""Values of the tag PHOTOMETRIC."""
UNSIGNED, SIGNED, FLOATING = 1, 2, 3
"""Values of the tag FORMAT."""
KNOWN_BITS = {UNSIGNED: (10, 12, 14, 16), FLOATING: (32, 64)}
"""Numbers of bits above 8 that OpenCV reads."""
UNSPECIFIED, PREMULTIPLIED, UNASSOCIATED = 0, 1, 2
"""Values of the tag EXTRA for the fourth channel: any content, or opacity by which the colors are multiplied or not."""
STRIP = 2**20
"""Approximate size of a compressed strip in bytes."""


def is_tiff(data: bytes) -> bool:
    """Return whether a file is a TIFF or a BigTIFF that Pillow reads, so not a big-endian BigTIFF."""
    return data.startswith((*TIFF, BIG_TIFF[0]))


def only_page(data: bytes, name: str) -> ImageFileDirectory_v2:
    """Return the tags of the image in a TIFF file. Thumbnails after it are ignored.

    Raises:
        UserError: There are several pages, or the first one is a thumbnail, as in camera raw files.
    """
    header = data[:16] if data.startswith(BIG_TIFF) else data[:8]
    file, pages, seen = io.BytesIO(data), list[ImageFileDirectory_v2](), set[int]()
    offset = ImageFileDirectory_v2(header).next
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # warnings about damaged tags
        while offset and offset not in seen and len(pages) < MAX_PAGES:
            seen.add(offset)
            page = ImageFileDirectory_v2(header)
            page.next = 0
            file.seek(offset)
            page.load(file)
            pages.append(page)
            offset = page.next
    if not pages:
        raise UserError(f'the image {name} is damaged: the TIFF has no pages. Copy or unpack it again')
    if pages[0].get(REDUCED, 0) & 1:
        raise UserError(f'the image {name} begins with a thumbnail, like camera raw files: convert it first')
    count = sum(1 for page in pages if not page.get(REDUCED, 0) & 1)
    if count > 1:
        raise UserError(f'the image {name} has {count} pages, expected one: save the pages as separate files')
    return pages[0]


def require_known_pixels(page: ImageFileDirectory_v2, name: str) -> None:
    """Check that the pixels of a page are decoded correctly: by Pillow, or by OpenCV if they have more than 8 bits.

    Raises:
        UserError: The page has channels or numbers that are not supported.
    """
    samples, kind, bits = page.get(SAMPLES, 1), page.get(FORMAT, (1,))[0], page.get(BITS, (1,))[0]
    photometric = page.get(PHOTOMETRIC, BLACK_IS_ZERO if samples == 1 else RGB)
    if page.get(PLANES) == 2 and samples > 1 and (bits > 8 or samples not in (3, 4)):
        raise separate_planes(name)
    if bits > 8 and photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise UserError(f'the image {name} has more than 8 bits and is not RGB or grayscale: convert it to RGB')
    if bits > 8 and samples not in ((3, 4) if photometric == RGB else (1,)):
        raise UserError(
            f'the image {name} has more than 8 bits and {samples} channels, expected grayscale without transparency, '
            'RGB or RGBA: convert it to RGB'
        )
    known = KNOWN_BITS.get(kind, ()) if photometric != WHITE_IS_ZERO else (16,)
    if kind == SIGNED or (bits > 8 and bits not in known):
        numbers = {SIGNED: 'signed integers', FLOATING: 'floating-point numbers'}.get(kind, 'integers')
        raise UserError(
            f'the image {name} has {numbers} of {bits} bits, expected unsigned integers of 8 or 16 bits or '
            'floating-point numbers of 32 or 64 bits: convert it'
        )


def exif_of(data: bytes, page: ImageFileDirectory_v2) -> Image.Exif:
    """Return the tags of a page in a TIFF file as EXIF data."""
    exif = Image.Exif()
    exif.bigtiff, exif.endian = data.startswith(BIG_TIFF), '<' if data.startswith(b'II') else '>'
    exif.load_from_fp(io.BytesIO(data), page.offset)
    return exif


def dpi_of(page: ImageFileDirectory_v2) -> tuple[float, float] | None:
    """Return the resolution of a page in pixels per inch, or None if it is not known."""
    scale = {2: 1.0, 3: 2.54}.get(page.get(RESOLUTION_UNIT, 2))
    horizontal, vertical = page.get(X_RESOLUTION), page.get(Y_RESOLUTION)
    numbers = (int, float, IFDRational)
    if scale is None or not isinstance(horizontal, numbers) or not isinstance(vertical, numbers):
        return None
    return float(horizontal) * scale, float(vertical) * scale


def encode_tiff(photo: Photograph) -> bytes:
    """Encode a photograph of any type as a losslessly compressed TIFF with its metadata.

    Gray with more than 8 bits and transparency is converted to RGB, since OpenCV and other programs cannot read it.
    """
    pixels, alpha = photo.pixels, photo.alpha
    if alpha is not None and pixels.ndim == 2 and pixels.itemsize > 1:
        pixels = np.dstack([pixels] * 3)
    gray = pixels.ndim == 2
    array = np.dstack([pixels] if alpha is None else [pixels, alpha])
    array = array.astype(array.dtype.newbyteorder('<'))
    height, width, channels = array.shape
    rows = max(1, STRIP // (width * channels * array.itemsize))
    kind = {'u': UNSIGNED, 'f': FLOATING}[array.dtype.kind]
    if kind == UNSIGNED:
        array = np.concatenate([array[:, :1], np.diff(array, axis=1)], axis=1)
    strips = [zlib.compress(array[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]
    page = ImageFileDirectory_v2(b'II*\0\0\0\0\0')
    _describe(page, photo)
    page[WIDTH], page[HEIGHT], page[SAMPLES] = width, height, channels
    page[BITS], page[FORMAT] = (8 * array.itemsize,) * channels, (kind,) * channels
    page[COMPRESSION], page[PREDICTOR], page[PHOTOMETRIC] = (
        8,
        2 if kind == UNSIGNED else 1,
        BLACK_IS_ZERO if gray else RGB,
    )
    if alpha is not None:
        page[EXTRA] = UNASSOCIATED
    page[ROWS], page[STRIP_BYTES] = rows, tuple(map(len, strips))
    page[STRIP_OFFSETS] = tuple(int(start) for start in np.cumsum([0, *map(len, strips[:-1])]))  # after the tags
    file = io.BytesIO()
    page.save(file)
    return b''.join([file.getvalue(), *strips])


def _describe(page: ImageFileDirectory_v2, photo: Photograph) -> None:
    """Add the metadata of a photograph to the tags of its page."""
    metadata = photo.metadata
    for tag, value in descriptive_entries(loaded_exif(metadata.exif)).items():
        page[tag] = value
    if metadata.dpi:
        page[X_RESOLUTION], page[Y_RESOLUTION], page[RESOLUTION_UNIT] = *metadata.dpi, 2
    for tag, kind, value in ((ICC, 7, metadata.icc), (XMP, 1, metadata.xmp)):
        if value:
            page.tagtype[tag] = kind
            page[tag] = value
