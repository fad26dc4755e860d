"""Images stored in files or LMDB databases, read as arrays and converted to tensors."""

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import get_worker_info

from deeprftv2_plugin.data.storage.lmdb_reader import read_value
from deeprftv2_plugin.utils.errors import UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')


class StoredImage(NamedTuple):
    """The location of an image: a file path or, if `database` is given, a key of that LMDB."""

    path: str
    database: str | None = None

    def __str__(self) -> str:
        return f'{self.path} in {self.database}' if self.database else self.path

    def read(self) -> np.ndarray:
        """Return the image as an RGB array (H, W, 3) of uint8 or uint16.

        Raises:
            UserError: The image is missing, truncated or damaged, or OpenCV cannot decode it.
        """
        if get_worker_info() is not None:
            # The loader already runs one worker per core; OpenCV threads in each worker would compete for the cores.
            cv2.setNumThreads(0)
        return decode(self.read_bytes(), str(self))

    def read_bytes(self) -> bytes:
        """Return the encoded image.

        Raises:
            UserError: The file or key cannot be read.
        """
        if self.database:
            return read_value(self.database, self.path)
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise UserError(f'cannot read the image {self}: {error.strerror}') from error


def is_image(path: str | Path) -> bool:
    """Return whether a file name has an image suffix. Hidden files, such as previews, do not count."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).name.startswith('.')


def list_images(folder: str | Path) -> list[Path]:
    """Return the sorted paths, relative to a folder, of all images below it. Symbolic links are followed."""
    walk = os.walk(folder, followlinks=True)
    files = (Path(parent, name) for parent, _, names in walk for name in names if is_image(name))
    return sorted(file.relative_to(folder) for file in files)


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode an image to an RGB array (H, W, 3) of uint8 or uint16. Grayscale is repeated, transparency dropped.

    Args:
        data: The encoded image.
        name: What error messages call the image.

    Raises:
        UserError: The image is truncated, damaged or of an unsupported type.
    """
    damage = find_damage(data)
    if damage:
        raise UserError(f'the image {name} is damaged: {damage}. Copy or unpack it again')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise UserError(f'OpenCV cannot decode the image {name}: {error.err}') from error
    if image is None:
        raise UserError(f'OpenCV cannot decode the image {name}: it is damaged or not an image')
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f'the image {name} has type {image.dtype}, expected 8 or 16 bit integers')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def find_damage(data: bytes) -> str | None:
    """Describe how an encoded image is damaged, or return None if it seems complete.

    OpenCV silently returns the upper part of a truncated image, so PNG and JPEG files are checked here.
    """
    if not data:
        return 'the file is empty'
    if data.startswith(b'\x89PNG\r\n\x1a\n'):
        return _find_png_damage(data)
    if data.startswith(b'\xff\xd8'):
        return _find_jpeg_damage(data)
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


def _find_png_damage(data: bytes) -> str | None:
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != struct.unpack_from('>I', data, end - 4)[0]:
            return f'the checksum of the PNG chunk at byte {position} is wrong'
        if kind == b'IEND':
            return None
        position = end
    return f'the PNG ends after {len(data)} bytes, before its last chunk'


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert an array (H, W, C) of uint8 or uint16 to a tensor (C, H, W) of float32 in [0, 1]."""
    scaled = image.astype(np.float32) / np.iinfo(image.dtype).max
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
