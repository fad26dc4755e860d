"""Pictures as they are stored, in a file or in an LMDB, and as arrays and tensors."""

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
    """Where a picture is: a file, or with `database` a key of an LMDB."""

    path: str
    database: str | None = None

    def __str__(self) -> str:
        return f'{self.path} in {self.database}' if self.database else self.path

    def read(self) -> np.ndarray:
        """The picture as array (H, W, 3) of uint8 or uint16, RGB.

        Raises:
            UserError: The picture is missing, truncated, damaged or none that OpenCV can decode.
        """
        if get_worker_info() is not None:
            # The workers are the parallelism; threads of OpenCV in each of them fight for the same cores.
            cv2.setNumThreads(0)
        if self.database:
            return decode(read_value(self.database, self.path), str(self))
        try:
            return decode(Path(self.path).read_bytes(), str(self))
        except OSError as error:
            raise UserError(f'cannot read the picture {self}: {error.strerror}') from error


def is_image(path: str | Path) -> bool:
    """Whether a file is a picture, by its name; hidden files, such as previews, are none."""
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).name.startswith('.')


def list_images(folder: str | Path) -> list[Path]:
    """All picture files below a folder and behind its links, relative to it and sorted."""
    walk = os.walk(folder, followlinks=True)
    files = (Path(parent, name) for parent, _, names in walk for name in names if is_image(name))
    return sorted(file.relative_to(folder) for file in files)


def decode(data: bytes, name: str) -> np.ndarray:
    """Array (H, W, 3) of uint8 or uint16, RGB, of an encoded picture; a gray one is repeated.

    Raises:
        UserError: The picture, called `name` in the message, is truncated, damaged or of another kind.
    """
    fault = find_fault(data)
    if fault:
        raise UserError(f'the picture {name} is damaged: {fault}. Copy or unpack it again')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise UserError(f'OpenCV cannot decode the picture {name}: {error.err}') from error
    if image is None:
        raise UserError(f'OpenCV cannot decode the picture {name}: it is damaged or no picture at all')
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f'the picture {name} holds {image.dtype}: 8 or 16 bit integers are expected')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def find_fault(data: bytes) -> str | None:
    """What is wrong with the encoded bytes of a picture, or None.

    OpenCV returns the upper part of a truncated picture without a word, so PNG and JPEG are checked here.
    """
    if not data:
        return 'the file is empty'
    if data.startswith(b'\x89PNG\r\n\x1a\n'):
        return _find_png_fault(data)
    if data.startswith(b'\xff\xd8'):
        return _find_jpeg_fault(data)
    return None


def _find_jpeg_fault(data: bytes) -> str | None:
    """Walks over the header, where a thumbnail has an end marker of its own; what follows the picture's is no fault."""
    position = 2
    while position + 4 <= len(data):
        marker, kind, length = struct.unpack_from('>BBH', data, position)
        if marker != 0xFF:
            return None  # no header that is known here; OpenCV has the last word
        if kind == 0xDA:  # the start of the first scan
            if data.find(b'\xff\xd9', position) >= 0:
                return None
            break
        position += 1 if kind == 0xFF else 2 + length
    return f'the JPEG ends after {len(data)} bytes without its end marker'


def _find_png_fault(data: bytes) -> str | None:
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
    """Tensor (C, H, W) of float32 in [0, 1] of an array (H, W, C) of uint8 or uint16."""
    scaled = image.astype(np.float32) / np.iinfo(image.dtype).max
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
