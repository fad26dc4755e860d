"""Images stored in files or LMDB databases: reading as arrays, conversion to tensors, and writing as PNG files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import get_worker_info

from deeprftv2_plugin.data.storage.decoding import decode
from deeprftv2_plugin.data.storage.lmdb_reader import read_value
from deeprftv2_plugin.data.storage.mat_files import read_mat
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import reading

MAX_BYTES = 2**30
"""Maximum size of an encoded image."""
PNG_LEVEL = 1
"""Compression of PNG files, 0 to 9."""


class StoredImage(NamedTuple):
    """The location of an image: a file path, with `variable` a MATLAB file, or with `database` a key of that LMDB."""

    path: str
    database: str | None = None
    variable: str | None = None
    """The variable of a MATLAB file, gray values in [0, 1]. The image has 16 bits."""

    def __str__(self) -> str:
        if self.variable:
            return f'{self.variable} in {self.path}'
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
        if self.variable:
            return encode_png(_as_16_bit(read_mat(self.path, self.variable), str(self)))
        with reading(self.path, MAX_BYTES, 'the image') as file:
            return file.read()


@dataclass(frozen=True)
class ImageSequence:
    """An iterable over images (H, W, 3), BGR, that reads them from files one at a time.

    Args:
        paths: Paths of the files.
        side: Height and width of the upper left part that is returned; None for whole images.
    """

    paths: tuple[str, ...]
    side: int | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            yield cv2.cvtColor(StoredImage(path).read()[: self.side, : self.side], cv2.COLOR_RGB2BGR)


def _as_16_bit(values: np.ndarray, name: str) -> np.ndarray:
    """Convert gray values (H, W) in [0, 1] to uint16.

    Raises:
        UserError: The array is not two-dimensional or has values outside of [0, 1].
    """
    if values.ndim != 2 or values.dtype.kind != 'f' or not values.size:
        found = f'{values.dtype} of shape {values.shape}'
        raise UserError(f'the image {name} is {found}, expected floating-point numbers of shape (height, width)')
    if not (values.min() >= 0 and values.max() <= 1):
        raise UserError(f'the image {name} has values from {values.min():g} to {values.max():g}, expected 0 to 1')
    return np.rint(values * np.iinfo(np.uint16).max).astype(np.uint16)


def full_scale(image: np.ndarray) -> int:
    """Return the highest value of an image: 1 for floating-point numbers, otherwise that of its integer type."""
    return 1 if image.dtype.kind == 'f' else np.iinfo(image.dtype).max


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert an array to a tensor of float32 in [0, 1].

    Args:
        image: Array (H, W, C), or (H, W) for one channel, of uint8, uint16, or floating-point numbers in [0, 1].

    Returns:
        Tensor (C, H, W).
    """
    scaled = np.atleast_3d(image).astype(np.float32) / full_scale(image)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def encode_png(image: np.ndarray) -> bytes:
    """Encode a BGR array (H, W, 3) or grayscale array (H, W) of uint8 or uint16 as PNG.

    Raises:
        ValueError: PNG does not support the shape or type.
    """
    done, png = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise ValueError(f'PNG does not support an image of shape {image.shape} and type {image.dtype}')
    return png.tobytes()


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write an image as for `encode_png` to a file, and create its folder if needed.

    Unlike OpenCV, this writes files whose names are not UTF-8, which crash OpenCV.

    Raises:
        OSError: The file cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode_png(image))
