"""Windows: split the maps inside a network, average neighboring windows, and merge the results.

The grid is that of `tiles`. Without overlap, each pixel is processed once: only the last row and column of windows,
which are aligned with the border, share pixels with the windows before them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeprftv2_plugin.ops import window_indices
from deeprftv2_plugin.ops.tiles import TileGrid, merge_tiles, pair, split_tiles
from deeprftv2_plugin.utils.errors import UserError

LEAST_WINDOW = 16
"""Minimum height and width of the windows of an image. The time per image rises with their number, and the windows of
coarser maps have a fraction of this size."""


def window_of(
    name: str, window: int | Sequence[int] | None, overlap: int | Sequence[int] = 0
) -> tuple[int, int] | None:
    """Return the height and width of windows that an option sets, or None.

    Args:
        name: Name of the option, which ends in 'window'.
        window: One number, (height, width), or None.
        overlap: Pixels by which neighboring windows overlap, one number or (height, width).

    Raises:
        UserError: The windows are too small or overlap by more than half. An image would have too many of them.
    """
    if window is None:
        return None
    window, overlap = pair(window, name), pair(overlap, name.replace('window', 'overlap'))
    if min(window) < LEAST_WINDOW:
        raise UserError(
            f'{name} is {list(window)}, expected at least {LEAST_WINDOW} pixels: smaller ones are very slow'
        )
    if any(2 * shared > length for shared, length in zip(overlap, window, strict=True)):
        raise UserError(
            f'{name.replace("window", "overlap")} is {list(overlap)}, expected at most half of {name}, which is '
            f'{list(window)}'
        )
    return window


def split_windows(x: Tensor, window: Sequence[int], overlap: Sequence[int] = (0, 0)) -> Tensor:
    """Split a map into windows. The last windows are aligned with the border.

    Args:
        x: Map of shape (N, C, H, W).
        window: Height and width of the windows. They are limited to those of the map.
        overlap: Minimum number of pixels that neighboring windows share.

    Returns:
        Tensor of shape (N * windows, C, h, w), ordered by image, window row, window column.
    """
    if torch.compiler.is_exporting():
        return window_indices.split(x, window, overlap)
    return split_tiles(x, TileGrid(x.shape[-2:], window, overlap))


def merge_windows(
    windows: Tensor, window: Sequence[int], size: Sequence[int], overlap: Sequence[int] = (0, 0)
) -> Tensor:
    """Undo `split_windows`. With overlap, windows are blended. Without, pixels are taken from their first window.

    Args:
        windows: Tensor of shape (N * windows, C, h, w), ordered as in `split_windows`, with any C.
        window: The height and width passed to `split_windows`.
        size: Height and width of the map.
        overlap: The overlap passed to `split_windows`.

    Returns:
        Map of shape (N, C, H, W).
    """
    if torch.compiler.is_exporting():
        return window_indices.merge(windows, window, size, overlap)
    grid = TileGrid(size, window, overlap)
    if any(overlap):
        return merge_tiles(windows, grid)
    tops, lefts = grid.starts
    table = windows.unflatten(0, (-1, len(tops), len(lefts)))
    rows = [_join(row.unbind(1), lefts, -1) for row in table.unbind(1)]
    return _join(rows, tops, -2)


def smooth_windows(windows: Tensor, window: Sequence[int], size: Sequence[int], overlap: Sequence[int]) -> Tensor:
    """Average each window with those next to it.

    The weights along each axis are 1 for the window and 1/2 for a neighbor, divided by their sum.

    Args:
        windows: Tensor of shape (N * windows, C, h, w), ordered as in `split_windows`, with any C, h and w.
        window, overlap: The arguments passed to `split_windows`.
        size: Height and width of the map.

    Returns:
        Tensor of the same shape.
    """
    if torch.compiler.is_exporting():
        rows, columns = window_indices.counts(windows, window, size, overlap)
    else:
        rows, columns = map(len, TileGrid(size, window, overlap).starts)
    vertical, horizontal = _neighbor_weights(windows, rows), _neighbor_weights(windows, columns)
    weights = (vertical[:, None, :, None] * horizontal[:, None]).flatten(2).flatten(0, 1)
    maps = windows.permute(0, 2, 3, 1)  # a view as a matrix, since windows are in channels_last
    smooth = weights @ maps.unflatten(0, (-1, rows * columns)).flatten(2)
    return smooth.reshape(maps.shape).permute(0, 3, 1, 2)


def _neighbor_weights(like, count):
    """Return the weights (count, count) of all windows along an axis in the average of each."""
    index = torch.arange(count, device=like.device, dtype=like.dtype)
    weights = (1 - (index[:, None] - index).abs() / 2).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def _join(pieces, starts, dim):
    """Concatenate pieces, without the part of each that earlier pieces cover."""
    length = pieces[0].shape[dim]
    covered = [0] + [start + length for start in starts[:-1]]
    return torch.cat(
        [
            piece.narrow(dim, done - start, length - (done - start))
            for piece, start, done in zip(pieces, starts, covered, strict=True)
        ],
        dim,
    )
