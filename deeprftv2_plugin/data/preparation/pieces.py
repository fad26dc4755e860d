"""What is stored of a pair: both pictures as they are, or crops of them."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2

from deeprftv2_plugin.data.layouts.pairs import Pair, check_equal_size
from deeprftv2_plugin.data.storage.images import StoredImage, decode
from deeprftv2_plugin.data.storage.lmdb_writer import encode_png
from deeprftv2_plugin.utils.errors import UserError


class Crops(NamedTuple):
    """Square windows over a picture, from its upper left corner on at every multiple of a step that leaves room.

    A last window is flush with the border. A picture that is smaller than a window, in one direction or both, is not
    cropped there.
    """

    size: int
    step: int

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Rows and columns of all windows over a picture, row by row."""
        return list(product(self._along(height), self._along(width)))

    def _along(self, length):
        last = max(length - self.size, 0)
        starts = [*range(0, last, self.step), last]
        return [slice(start, min(start + self.size, length)) for start in starts]


class Piece(NamedTuple):
    """A blurry and a sharp picture, encoded."""

    key: str
    suffix: str
    """Of both in a folder."""
    shape: tuple[int, int, int]
    """Height, width and channels of either when decoded."""
    lq: bytes
    gt: bytes


def cut(pair: Pair, crops: Crops | None) -> list[Piece]:
    """The pieces of a pair: the pair as it is, or with `crops` as many as it has windows.

    The crops of a pair have keys that end in _s001, _s002, ..., as BasicSR's own script names them. They are PNGs,
    8 or 16 bit as the pictures are. A picture that fits into one window keeps its bytes, as it does without crops.

    Raises:
        UserError: A picture cannot be read, or the two differ in size.
    """
    stored = [_read_bytes(image) for image in (pair.lq, pair.gt)]
    lq, gt = (decode(data, str(image)) for data, image in zip(stored, (pair.lq, pair.gt), strict=True))
    check_equal_size(pair, lq, gt)
    windows = crops.windows(*lq.shape[:2]) if crops else [None]
    if len(windows) == 1:
        key = pair.name + ('_s001' if crops else '')
        return [Piece(key, _common_suffix(pair), lq.shape, *stored)]
    lq, gt = (cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in (lq, gt))
    return [
        Piece(f'{pair.name}_s{number:03d}', '.png', lq[window].shape, encode_png(lq[window]), encode_png(gt[window]))
        for number, window in enumerate(windows, start=1)
    ]


def _common_suffix(pair):
    """The suffix of both, or .png: BasicSR pairs files of equal names, and whoever reads them looks at what is in them.

    The frames of REDS that are blurred and compressed are JPEGs, the sharp ones PNGs.
    """
    suffixes = {Path(image.path).suffix.lower() for image in (pair.lq, pair.gt)}
    return suffixes.pop() if len(suffixes) == 1 else '.png'


def _read_bytes(image: StoredImage) -> bytes:
    try:
        return Path(image.path).read_bytes()
    except OSError as error:
        raise UserError(f'cannot read the picture {image}: {error.strerror}') from error
