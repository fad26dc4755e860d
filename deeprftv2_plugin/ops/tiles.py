"""Overlapping tiles: split a map into a regular grid, and blend the tiles with linear cross-fades.

A batch of tiles is ordered by image, tile row and tile column: tile t of image b has index b * len(grid) + t. The tiles
to merge may have another number of channels than those from the split.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import product

import torch
from torch import Tensor

from deeprftv2_plugin.utils.errors import UserError


def pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Return `(height, width)` for a nonnegative integer or a pair of them.

    Raises:
        UserError: The value is neither. The message contains `name`.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in values):
        raise UserError(f'{name} is {value!r}, expected pixels as a nonnegative integer or [height, width]')
    return values


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the starts of the tiles along one axis: `tile - overlap` apart, the last one aligned with the end.

    An axis that is not longer than the tile has a single tile.
    """
    last = max(length - tile, 0)
    return [*range(0, last, tile - overlap), last]


def even_tile(length: int, tile: int, overlap: int, multiple: int = 1) -> int:
    """Return the shortest tile length that covers an axis with as few tiles as the length `tile`.

    Tiles of a fixed length may overlap almost entirely at the end of an axis: 1280 pixels take three tiles of 640 with
    an overlap of 48, but also three tiles of 459. `tile` is returned if one tile covers the axis.

    Args:
        length: Length of the axis.
        tile, multiple: Maximum length of a tile, and the number of which it and the result are multiples.
        overlap: Minimum number of pixels that neighboring tiles share.
    """
    pieces = len(tile_starts(length, tile, overlap))
    if pieces == 1:
        return tile
    shortest = math.ceil((length - overlap) / pieces) + overlap
    return math.ceil(shortest / multiple) * multiple


def tile_weights(length: int, tile: int, overlap: int) -> Tensor:
    """Return the blend weights along one axis: float64 of shape (tiles, min(tile, length)).

    Neighboring tiles cross-fade linearly over the pixels they share, from 0 to 1 including both end points. Where more
    than two tiles meet, the ramps are multiplied. The weights of all tiles at a pixel are divided by their sum.
    """
    starts, tile = tile_starts(length, tile, overlap), min(tile, length)
    weights = torch.ones(len(starts), tile, dtype=torch.float64)
    for i in range(1, len(starts)):
        shared = starts[i - 1] + tile - starts[i]
        ramp = torch.linspace(0, 1, shared, dtype=torch.float64)
        weights[i, :shared] *= ramp
        weights[i - 1, tile - shared :] *= 1 - ramp
    positions = torch.tensor(starts)[:, None] + torch.arange(tile)
    total = weights.new_zeros(length).index_add(0, positions.flatten(), weights.flatten())
    return weights / total[positions]


class TileGrid:
    """The positions of the tiles of a map.

    Args:
        size: Height and width of the map in pixels.
        tile: Height and width of a tile, or one number for both. A smaller map is one tile.
        overlap: Minimum number of pixels that neighboring tiles share, a number or a pair.

    Attributes:
        shape: Height and width of every tile.
        starts: First rows and first columns of the tiles.
        boxes: For every tile, row by row, the index that selects it from an (..., H, W) tensor.

    Raises:
        UserError: The overlap is not smaller than the tile, or a number is not a nonnegative integer.
    """

    def __init__(self, size: Sequence[int], tile: int | Sequence[int], overlap: int | Sequence[int] = 0):
        self.size, self.tile, self.overlap = pair(size, 'size'), pair(tile, 'tile'), pair(overlap, 'overlap')
        if any(o >= t for o, t in zip(self.overlap, self.tile, strict=True)):
            raise UserError(
                f'overlap {self.overlap} is not smaller than the tile {self.tile}: '
                'use a smaller overlap or larger tiles'
            )
        self._axes = tuple(zip(self.size, self.tile, self.overlap, strict=True))
        self.shape = tuple(min(length, tile) for length, tile, _ in self._axes)
        self.starts = tuple(tile_starts(*axis) for axis in self._axes)
        self.boxes = [
            (..., slice(top, top + self.shape[0]), slice(left, left + self.shape[1]))
            for top, left in product(*self.starts)
        ]

    def __len__(self) -> int:
        return len(self.boxes)

    def half(self) -> 'TileGrid':
        """Return the grid of the same tiles in the map at half scale. Every start is half of the start in this grid.

        Raises:
            UserError: Size, tile or overlap is odd, so that a tile would start between two pixels.
        """
        if any(n % 2 for n in self.size + self.tile + self.overlap):
            raise UserError(
                f'size {self.size}, tile {self.tile} and overlap {self.overlap} must be even '
                'for a network that works at two scales'
            )
        return TileGrid(*([n // 2 for n in numbers] for numbers in (self.size, self.tile, self.overlap)))

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return the blend weights of rows and columns, see `tile_weights`. A pixel's weight is their product."""
        rows, columns = (tile_weights(*axis) for axis in self._axes)
        return rows, columns


def split_tiles(x: Tensor, grid: TileGrid) -> Tensor:
    """Split (N, C, H, W) into (N * tiles, C, h, w) in channels_last."""
    rows = x.permute(0, 2, 3, 1)
    return torch.stack([rows[:, top, left] for _, top, left in grid.boxes], 1).flatten(0, 1).permute(0, 3, 1, 2)


def merge_tiles(tiles: Tensor, grid: TileGrid) -> Tensor:
    """Blend (N * tiles, C, h, w), in the order of `split_tiles`, into (N, C, H, W) of the same type."""
    return blend_tiles(tiles.unflatten(0, (-1, len(grid))).unbind(1), grid).to(tiles.dtype)


def blend_tiles(tiles: Iterable[Tensor], grid: TileGrid) -> Tensor:
    """Blend an iterable of tiles (N, C, h, w), given row by row, into (N, C, H, W) of at least float32.

    With a generator, only one tile is in memory at a time.
    """
    whole = None
    for tile, box, at in zip(tiles, grid.boxes, product(*map(range, map(len, grid.starts))), strict=True):
        if whole is None:
            dtype = torch.promote_types(tile.dtype, torch.float32)
            whole = tile.new_zeros(*tile.shape[:-2], *grid.size, dtype=dtype)
            rows, columns = (weights.to(whole) for weights in grid.weights())
        whole[box] += tile * (rows[at[0]][:, None] * columns[at[1]])
    assert whole is not None  # a grid has at least one tile
    return whole
