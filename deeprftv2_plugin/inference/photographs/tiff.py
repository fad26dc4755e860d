"""Read and write TIFF files with any bit depth. Pillow does not support color images with more than 8 bits."""

import io
import warnings
import zlib

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from deeprftv2_plugin.data.storage.decoding import BIG_TIFF, BITS, COMPRESSION, SAMPLES, TIFF
from deeprftv2_plugin.inference.photographs.photograph import DESCRIPTIVE, EXIF, GPS, Photograph
from deeprftv2_plugin.utils.errors import UserError

MAX_PAGES = 1000
WIDTH, HEIGHT, PHOTOMETRIC = 256, 257, 262
STRIP_OFFSETS, ROWS, STRIP_BYTES, PREDICTOR, EXTRA, FORMAT = 273, 278, 279, 317, 338, 339
REDUCED, XMP, ICC = 254, 700, 34675
UNSPECIFIED, PREMULTIPLIED, UNASSOCIATED = 0, 1, 2
"""Values of the tag EXTRA for the fourth channel: any content, or opacity by which the colors are multiplied or not."""
STRIP = 2**20
"""Approximate size of a compressed strip in bytes."""


def is_tiff(data: bytes) -> bool:
    """Return whether a file is a TIFF or a BigTIFF."""
    return data.startswith((*TIFF, *BIG_TIFF))


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
    kind = {'u': 1, 'f': 3}[array.dtype.kind]
    if kind == 1:
        array = np.concatenate([array[:, :1], np.diff(array, axis=1)], axis=1)
    strips = [zlib.compress(array[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]
    page = ImageFileDirectory_v2(b'II*\0\0\0\0\0')
    _describe(page, photo)
    page[WIDTH], page[HEIGHT], page[SAMPLES] = width, height, channels
    page[BITS], page[FORMAT] = (8 * array.itemsize,) * channels, (kind,) * channels
    page[COMPRESSION], page[PREDICTOR], page[PHOTOMETRIC] = 8, 2 if kind == 1 else 1, 1 if gray else 2
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
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag in exif:
            if tag in DESCRIPTIVE:
                page[tag] = exif.get_ifd(tag) if tag in (EXIF, GPS) else exif[tag]
    if metadata.dpi:
        page[282], page[283], page[296] = *metadata.dpi, 2
    for tag, kind, value in ((ICC, 7, metadata.icc), (XMP, 1, metadata.xmp)):
        if value:
            page.tagtype[tag] = kind
            page[tag] = value
