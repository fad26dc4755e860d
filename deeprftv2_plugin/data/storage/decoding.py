"""Decode image files to arrays, and detect damaged files.

PNG files have checksums, so any damage is found. TIFF files have checksums only if they are compressed with Deflate.
JPEG, WebP and BMP files have none: a changed bit is found only if it violates the format. Truncation is always found.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import TiffImagePlugin

from deeprftv2_plugin.data.storage.native_messages import captured, show
from deeprftv2_plugin.utils.errors import UserError

PNG, JPEG = b'\x89PNG\r\n\x1a\n', b'\xff\xd8'
TIFF, BIG_TIFF = (b'II*\0', b'MM\0*'), (b'II+\0', b'MM\0+')
"""The first bytes of files."""
OFFSETS, SIZES = (273, 324), (279, 325)
"""Tags of TIFF files: the positions and sizes of strips or tiles."""
BITS, COMPRESSION, SAMPLES, PLANES = 258, 259, 277, 284
"""Tags of TIFF files: bits per sample, compression, samples per pixel, and how the samples are arranged."""
DEFLATE = {8, 32946}
"""The compressions that have checksums."""
_DAMAGE = re.compile(
    r'TIFF_Error (?P<tiff_error>(?!.*"Orientation" tag).*)'  # 0 is a common value, and means 1
    # Other warnings of libtiff are about tags of cameras and editors, which do not affect the pixels.
    r'|TIFF_Warning (?P<tiff_warning>\w+Decode.*|.*"Predictor".*)'
    r'|(?P<jpeg>Corrupt JPEG data: (?!\d+ extraneous).*|Premature end of JPEG.*|Inconsistent progression.*)'
    r'|libpng error: (?P<png>.*)'
    r'|OpenCV TIFF: (?P<opencv_4>(?:\w*Decode|TIFFFill\w+|): Warning, .*)'
)
UNAVAILABLE = ('is not configured', 'is not implemented')
"""The ends of libtiff's messages about a compression that it was built without."""
_EXTRANEOUS = re.compile(r'Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]{2})')


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode an image to an RGB array (H, W, 3) of uint8 or uint16. Gray values are repeated, transparency is dropped.

    Args:
        data: The encoded image.
        name: Name of the image in error messages.

    Raises:
        UserError: The image is truncated, damaged or of an unsupported type.
    """
    damage = find_damage(data)
    if damage:
        raise damaged(name, damage)
    image = _decode(data, name, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f'the image {name} has type {image.dtype}, expected 8 or 16 bit integers')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_unchanged(data: bytes, name: str) -> np.ndarray:
    """Decode an image to an array (H, W), (H, W, 3) in RGB or (H, W, 4) in RGBA, of the type that the file stores.

    Args:
        data: The encoded image, in which `find_damage` finds no damage.
        name: Name of the image in error messages.

    Raises:
        UserError: The image is damaged or of an unsupported type.
    """
    image = _decode(data, name, cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else np.ascontiguousarray(image[..., (2, 1, 0, 3)[: image.shape[2]]])


def _decode(data: bytes, name: str, flags: int) -> np.ndarray:
    if data.startswith((*TIFF, *BIG_TIFF)) and _has_deep_planes(data):
        raise separate_planes(name)
    try:
        with captured() as messages:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UserError(f'OpenCV cannot decode the image {name}: {error.err}') from error
    damage = _reported_damage(messages, data)
    if damage and damage.endswith(UNAVAILABLE):
        raise UserError(f'OpenCV cannot decode the image {name}: {damage}. Save it with another compression')
    if damage:
        raise damaged(name, damage)
    if image is None:
        raise UserError(f'OpenCV cannot decode the image {name}: it is damaged or not an image')
    show([line for line in messages if 'TIFF_Warning' not in line])
    return image


def separate_planes(name: str) -> UserError:
    """Return the error about a TIFF file whose channels are not interleaved, which would be decoded to wrong values."""
    return UserError(f'the image {name} stores its colors in separate planes: save it with interleaved channels')


def damaged(name: str, damage: str) -> UserError:
    """Return the error about an image that `find_damage` describes."""
    return UserError(f'the image {name} is damaged: {damage}. Copy or unpack it again')


def is_transparent(data: bytes) -> bool:
    """Return whether an encoded image has pixels that are not opaque. The image must be valid."""
    opaque_png = data.startswith(PNG) and data[25:26] in (b'\0', b'\2') and b'tRNS' not in data[:1024]
    if opaque_png or data.startswith(JPEG):  # without decoding it
        return False
    try:
        with captured():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # empty, or too large
        return False
    return image is not None and image.ndim == 3 and image.shape[2] == 4 and image[..., 3].min() < image[..., 3].max()


def find_damage(data: bytes) -> str | None:
    """Describe how an encoded image is damaged, or return None if it seems complete.

    OpenCV silently returns the upper part of a truncated JPEG file, and ignores some checksums in TIFF files.
    """
    if not data:
        return 'the file is empty'
    if data.startswith(PNG):
        return _find_png_damage(data)
    if data.startswith(JPEG):
        return _find_jpeg_damage(data)
    if data.startswith(TIFF):
        return _find_deflate_damage(data)
    return None


def _find_jpeg_damage(data: bytes) -> str | None:
    """Look for the end marker after the header, since an embedded thumbnail in the header has its own end marker.

    Data after the end marker, such as the video of a motion photo, is ignored.
    """
    position = 2
    while position + 4 <= len(data):
        marker, kind, length = struct.unpack_from('>BBH', data, position)
        if marker != 0xFF:
            return None  # an unknown header; leave the decision to OpenCV
        if kind == 0xDA:  # start of scan
            if data.find(b'\xff\xd9', position) >= 0:
                return None
            break
        position += 1 if kind == 0xFF else 2 + length
    return f'the JPEG ends after {len(data)} bytes without an end marker'


def _find_deflate_damage(data: bytes) -> str | None:
    """Check the checksums of the strips or tiles of a TIFF file. The decoder may stop before it reaches them."""
    tags = _tiff_tags(data)
    starts, sizes = (tags.get(strips) or tags.get(tiles) or () for strips, tiles in (OFFSETS, SIZES))
    if DEFLATE.isdisjoint(tags.get(COMPRESSION, ())) or len(starts) != len(sizes):
        return None
    for start, size in zip(starts, sizes, strict=True):
        inflater, part = zlib.decompressobj(), data[start : start + size]
        try:
            while part:
                inflater.decompress(part, 2**20)
                part = inflater.unconsumed_tail
        except zlib.error as error:
            return f'the TIFF strip at byte {start}: {error}'
        if not inflater.eof:
            return f'the TIFF strip at byte {start} is incomplete'
    return None


def _has_deep_planes(data: bytes) -> bool:
    """Return whether a TIFF file stores more than 8 bits in separate planes, which OpenCV decodes to wrong values."""
    tags = _tiff_tags(data)
    return tags.get(PLANES) == (2,) and max(tags.get(SAMPLES, (1,))) > 1 and max(tags.get(BITS, (1,))) > 8


def _tiff_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return the tags about the encoding of the first image in a TIFF file, none if the directory is damaged."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data.startswith(BIG_TIFF) else data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # about damaged tags
            tags.load(file)
        known = (*OFFSETS, *SIZES, BITS, COMPRESSION, SAMPLES, PLANES)
        found = {tag: tags[tag] for tag in known if tag in tags}
        return {tag: tuple(map(int, np.atleast_1d(value))) for tag, value in found.items()}
    except Exception:  # Pillow raises errors of many types; OpenCV reports a damaged directory
        return {}


def _find_png_damage(data: bytes) -> str | None:
    for kind, start, end in png_chunks(data):
        if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != struct.unpack_from('>I', data, end - 4)[0]:
            return f'the checksum of the PNG chunk at byte {start} is wrong'
        if kind == b'IEND':
            return None
    return f'the PNG ends after {len(data)} bytes, before its last chunk'


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, the start and the end of each complete chunk of a PNG file, up to the last one."""
    kind, end = b'', 8
    while kind != b'IEND' and end + 12 <= len(data):
        start = end
        length, kind = struct.unpack_from('>I4s', data, start)
        end = start + 12 + length
        if end <= len(data):
            yield kind, start, end


def _reported_damage(messages: list[str], data: bytes) -> str | None:
    """Return the first message of a decoder that indicates damage. OpenCV may return an image nevertheless."""
    for line in messages:
        found = _DAMAGE.search(line)
        if found:
            return found[found.lastgroup or 0].strip()
        extraneous = _EXTRANEOUS.search(line)
        if extraneous and not _has_padding(data, int(extraneous[1]), int(extraneous[2], 16)):
            return extraneous[0].strip()
    return None


def _has_padding(data: bytes, count: int, marker: int) -> bool:
    """Return whether a marker of a JPEG file follows bytes of padding, which some cameras write."""
    ends = (found.start() for found in re.finditer(re.escape(bytes([0xFF, marker])), data))
    return any(not data[max(0, end - count) : end].strip(b'\x00\xff') for end in ends)
