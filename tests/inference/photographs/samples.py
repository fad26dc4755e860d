"""Images and files of the tests of photographs."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

from deeprftv2_plugin.inference.photographs.writing import check_target, encode

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6">caf\xc3\xa9</d></x:xmpmeta>'


def random_image(dtype=np.uint8, channels=3, size=(9, 14)):
    random = np.random.default_rng(0).random((*size, channels))
    values = random if np.dtype(dtype).kind == 'f' else random * np.iinfo(dtype).max
    return values.squeeze().astype(dtype)


def smooth(size=(16, 24)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.dstack([rows * 8, columns * 8, rows * 4 + columns * 4]).astype(np.uint8)


def exif(orientation=1):
    found = Image.Exif()
    found[271], found[306], found[0x0112] = 'Maker', '2026:11:26 04:00:00', orientation
    found[34665] = {33434: (1, 60), 37500: b'notes of the camera', 36867: '2026:11:25 03:00:00'}
    found[34853] = {1: 'N', 2: (48.0, 8.0, 14.0)}
    return found.tobytes().removeprefix(b'Exif\0\0')


def written(tmp_path, photo, suffix):
    path = tmp_path / f'photo{suffix}'
    path.write_bytes(encode(photo, check_target(photo, path)))
    return path


def png_chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def tiff_of(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()
