"""Choose the tiles of an image so that the network has the least work."""

from collections.abc import Sequence
from itertools import product

from deeprftv2_plugin.ops.tiles import even_tile, tile_starts

SMALLEST = 256
"""Smallest tile that is tried, in pixels."""
ESTIMATION = 0.6
"""Time of the Fourier Kernel Estimators per pixel, relative to the rest of the network, measured on a CPU."""


def best_tile(
    size: Sequence[int],
    largest: int,
    overlap: int,
    multiple: int,
    window: Sequence[int] | None = None,
    window_overlap: Sequence[int] = (0, 0),
) -> tuple[int, int]:
    """Return the height and width of the tiles in which an image takes the least time.

    Pixels are processed more than once where tiles overlap, and by the estimators also where kernel windows overlap
    within a tile. A tile that is a little larger than several windows has another window with hardly a new pixel.

    Args:
        size: Height and width of the image, multiples of `multiple`.
        largest: Largest height and width of a tile, a multiple of `multiple`. The largest of equally good tiles is
            chosen.
        overlap: Minimum number of pixels that neighboring tiles share.
        multiple: Number of which the sides of a tile are multiples.
        window: Height and width of the kernel windows, if any.
        window_overlap: Number of pixels that neighboring windows share, vertically and horizontally.

    Example:
        >>> best_tile((3000, 4000), 640, 48, 8)
        (640, 616)
        >>> best_tile((3000, 4000), 640, 48, 8, window=(128, 128), window_overlap=(8, 8))
        (472, 488)
    """
    axes = []
    for axis, length in enumerate(size):
        tried = range(largest, min(SMALLEST, largest) - 1, -multiple)
        found = []
        for side in dict.fromkeys(even_tile(length, each, overlap, multiple) for each in tried):
            tiles, within = len(tile_starts(length, side, overlap)), min(side, length)
            in_windows = within
            if window is not None:
                in_windows = min(window[axis], within) * len(tile_starts(within, window[axis], window_overlap[axis]))
            found.append((side, tiles * within, tiles * in_windows))
        axes.append(found)
    rows, columns = min(product(*axes), key=lambda pair: pair[0][1] * pair[1][1] + ESTIMATION * pair[0][2] * pair[1][2])
    return rows[0], columns[0]
