"""The windows of maps of any size, split and merged by index.

In an exported program, the number of windows depends on the size of the map, so they cannot be split one by one, as in
`windows`. Here they are rows of an index. For a fixed size, the program has fewer nodes than with a node per window.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def split(x: Tensor, window: Sequence[int], overlap: Sequence[int]) -> Tensor:
    """Compute `windows.split_windows`."""
    for dim in (-2, -1):
        axis = _Axis(x, x.shape[dim], window[dim], overlap[dim])
        inside = axis.starts[:, None] + torch.arange(axis.window, device=x.device)
        x = x.index_select(dim, inside.flatten())
        x = x.unflatten(dim, (axis.count, axis.window))
        if dim == -2:
            x = x.movedim(-3, 1).flatten(0, 1)
    return x.movedim(-2, 1).flatten(0, 1)


def merge(windows: Tensor, window: Sequence[int], size: Sequence[int], overlap: Sequence[int]) -> Tensor:
    """Compute `windows.merge_windows`."""
    rows, columns = (_Axis(windows, *axis) for axis in zip(size, window, overlap, strict=True))
    x = windows.unflatten(0, (-1, rows.count, columns.count)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    join = _blend if any(overlap) else _first
    return join(join(x, -2, rows), -1, columns)


def counts(like: Tensor, window: Sequence[int], size: Sequence[int], overlap: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of rows and columns of windows of a map of `size`, on the device of `like`."""
    rows, columns = (_Axis(like, *axis).count for axis in zip(size, window, overlap, strict=True))
    return rows, columns


class _Axis:
    """The windows along one axis, as in `tiles.tile_starts`. They overlap by at most half."""

    def __init__(self, like, length, window, overlap):
        if 2 * overlap > window:
            raise ValueError(f'windows of {window} pixels overlap by {overlap}, expected at most half')
        self.length, self.window = length, window if length > window else length  # `min` would be symbolic
        self.step = window - overlap
        self.count = (length - self.window + self.step - 1) // self.step + 1
        self.pixels = torch.arange(length, device=like.device)
        self.starts = self.start(torch.arange(self.count, device=like.device))

    def start(self, index):
        """Return the first pixels of windows."""
        return (index * self.step).clamp(max=self.length - self.window)

    def weight(self, index):
        """Return the weight of one window for every pixel, before normalization, as in `tiles.tile_weights`.

        Args:
            index: The number of the window for every pixel.
        """
        start, last = self.start(index), self.count - 1
        offset = self.pixels - start
        shared = torch.where(index > 0, self.start(index - 1) + self.window - start, 0)
        rises = torch.where(offset < shared, offset / (shared - 1).clamp(min=1), 1.0)
        after = torch.where(index < last, self.start(index + 1) - start, self.window)
        falls = torch.where(offset < after, 1.0, 1 - (offset - after) / (self.window - after - 1).clamp(min=1))
        return rises * falls * (offset >= 0) * (offset < self.window)

    def take(self, x, dim, index):
        """Return for every pixel its value in one window, of a map in which all windows are concatenated."""
        offset = (self.pixels - self.start(index)).clamp(0, self.window - 1)
        return x.index_select(dim, index * self.window + offset)


def _first(x, dim, axis):
    """Take every pixel from its first window."""
    return axis.take(x, dim, (axis.pixels // axis.step).clamp(max=axis.count - 1))


def _blend(x, dim, axis):
    """Blend the windows of every pixel: at most two that are `step` apart, and the last one."""
    last = torch.full_like(axis.pixels, axis.count - 1)
    second = (axis.pixels // axis.step).clamp(max=axis.count - 2)
    candidates = [(second - 1, second > 0), (second, second >= 0), (last, last >= 0)]
    indices = [index.clamp(min=0) for index, _ in candidates]
    weights = [axis.weight(index) * known for index, (_, known) in zip(indices, candidates, strict=True)]
    total = sum(weights)
    shape = (-1, 1) if dim == -2 else (-1,)
    return sum(
        axis.take(x, dim, index) * (weight / total).to(x.dtype).reshape(shape)
        for index, weight in zip(indices, weights, strict=True)
    )
