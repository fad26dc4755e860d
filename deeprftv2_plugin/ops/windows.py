"""Windows side by side: cut a map where each pixel is to be worked on once, and put it together again.

The grid is the one of `tiles` without an overlap: only the last row and column of windows, anchored to the
border, share pixels with the windows before them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeprftv2_plugin.ops.tiles import TileGrid, split_tiles


def split_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """Cut a map into windows, those at the far borders flush with them.

    Args:
        x: Map of shape (N, C, H, W).
        window: Height and width; a side longer than the map is cut to it.

    Returns:
        Tensor of shape (N * windows, C, h, w), ordered by image, window row, window column.
    """
    return split_tiles(x, TileGrid(x.shape[-2:], window))


def merge_windows(windows: Tensor, window: Sequence[int], size: Sequence[int]) -> Tensor:
    """Undo `split_windows`. Of pixels in several windows, the first one's are taken.

    Args:
        windows: Tensor of shape (N * windows, C, h, w), as `split_windows` orders them; any C.
        window: The height and width that the map was cut with.
        size: Height and width of the whole map.

    Returns:
        Map of shape (N, C, H, W).
    """
    tops, lefts = TileGrid(size, window).starts
    grid = windows.unflatten(0, (-1, len(tops), len(lefts)))
    rows = [_join(row.unbind(1), lefts, -1) for row in grid.unbind(1)]
    return _join(rows, tops, -2)


def _join(pieces, starts, dim):
    """Concatenate pieces, leaving out of each what the ones before it cover."""
    length = pieces[0].shape[dim]
    covered = [0] + [start + length for start in starts[:-1]]
    return torch.cat(
        [
            piece.narrow(dim, done - start, length - (done - start))
            for piece, start, done in zip(pieces, starts, covered, strict=True)
        ],
        dim,
    )
