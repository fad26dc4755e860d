"""Encode image pairs for storage, as unchanged files or as crops on a grid."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2

from deeprftv2_plugin.data.layouts.pairs import Pair, check_equal_size
from deeprftv2_plugin.data.storage.decoding import decode
from deeprftv2_plugin.data.storage.images import StoredImage, encode_png
from deeprftv2_plugin.utils.errors import UserError


class CropGrid(NamedTuple):
    """A grid of square windows with a fixed step, which starts at the top left corner.

    The last windows are aligned with the border. An image smaller than the window, in one direction or both, is not
    cropped in that direction.
    """

    size: int
    step: int

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return rows and columns of all windows of an image, row by row."""
        return list(product(self._along(height), self._along(width)))

    def _along(self, length: int) -> list[slice]:
        last = max(length - self.size, 0)
        starts = [*range(0, last, self.step), last]
        return [slice(start, min(start + self.size, length)) for start in starts]


class Entry(NamedTuple):
    """The identity of a stored pair: a line of meta_info.txt or, with its suffix, a file name."""

    key: str
    suffix: str
    shape: tuple[int, ...]
    """Height, width and channels."""


class EncodedPair(NamedTuple):
    """An encoded pair of a blurry and a sharp image, whole or cropped."""

    entry: Entry
    lq: bytes
    gt: bytes


def encode_pair(pair: Pair, crops: CropGrid | None) -> list[EncodedPair]:
    """Return a pair with the bytes of its files or, with `crops`, one encoded pair per window.

    Keys of crops end in _s001, _s002, ..., as in BasicSR's own script. Crops are PNGs of the bit depth of the image. An
    image that fits into one window keeps its bytes.

    Raises:
        UserError: An image cannot be read, or the images differ in size.
    """
    if pair.gt is None:
        raise UserError(f'{pair.lq} has no sharp image')
    data = [image.read_bytes() for image in (pair.lq, pair.gt)]
    lq, gt = decode(data[0], str(pair.lq)), decode(data[1], str(pair.gt))
    check_equal_size(pair, lq, gt)
    windows = crops.windows(*lq.shape[:2]) if crops else []
    if len(windows) < 2:
        key = pair.name + ('_s001' if crops else '')
        return [EncodedPair(Entry(key, _common_suffix(pair.lq, pair.gt), lq.shape), *data)]
    lq, gt = cv2.cvtColor(lq, cv2.COLOR_RGB2BGR), cv2.cvtColor(gt, cv2.COLOR_RGB2BGR)
    return [
        EncodedPair(
            Entry(f'{pair.name}_s{number:03d}', '.png', lq[window].shape),
            encode_png(lq[window]),
            encode_png(gt[window]),
        )
        for number, window in enumerate(windows, start=1)
    ]


def _common_suffix(*images: StoredImage) -> str:
    """Return the suffix of both files, or .png if they differ, as for REDS with JPEG blurry frames and PNG sharp ones.

    BasicSR pairs files of equal names, and all readers detect the format from the content.
    """
    suffixes = {Path(image.path).suffix.lower() for image in images}
    return suffixes.pop() if len(suffixes) == 1 else '.png'
