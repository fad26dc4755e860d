import itertools

import numpy as np
import pytest
import torch

from deeprftv2_plugin.ops.tiles import (
    TileGrid,
    blend_tiles,
    even_tile,
    merge_tiles,
    split_tiles,
    tile_starts,
    tile_weights,
)
from deeprftv2_plugin.utils.errors import UserError

GRIDS = [
    ((16, 16), 16, 4),
    ((40, 24), 16, 4),
    ((33, 50), 16, 6),
    ((5, 40), (16, 12), 8),
    ((41, 41), 16, 0),
    ((50, 47), 16, 13),
    ((17, 17), (16, 16), (15, 1)),
]


def published_weights(length, tile, overlap):
    """Return the ramps of the published evaluation code, whose sum is not always one."""
    k = min(length, tile)
    step = k - overlap
    n = (length - overlap - 1) // step + 1
    e = n * step + 2 * overlap - length
    starts = [min(i * step, length - k) for i in range(n)]
    weights = np.ones((n, k))
    for w, i in zip(weights, starts, strict=True):
        if i != 0 and i + k != length:
            w[:overlap] *= np.linspace(0, 1, overlap)
        if i + 2 * k - e < length:
            w[k - overlap :] *= np.linspace(1, 0, overlap)
        if i + k == length and i != 0:
            w[:e] *= np.linspace(0, 1, e)
        if i + 2 * k - e == length:
            w[k - e :] *= np.linspace(1, 0, e)
    return starts, weights


def total(starts, weights, length):
    """Return the sum of the weights at every pixel."""
    whole = np.zeros(length)
    for start, w in zip(starts, weights, strict=True):
        whole[start : start + len(w)] += w
    return whole


def test_starts_and_weights_equal_the_published_ones_if_those_sum_to_one():
    same = 0
    for length, tile, overlap in itertools.product(range(9, 60), (8, 16, 17), (2, 3, 5, 8)):
        if overlap >= min(tile, length):
            continue
        starts, weights = published_weights(length, tile, overlap)
        assert tile_starts(length, tile, overlap) == starts
        if np.allclose(total(starts, weights, length), 1):
            np.testing.assert_allclose(tile_weights(length, tile, overlap), weights, atol=1e-12)
            same += 1
    assert same > 200


@pytest.mark.parametrize(
    'length, overlap, starts', [(720, 48, [0, 208]), (1280, 48, [0, 464, 768]), (1280, 128, [0, 384, 768])]
)
def test_known_starts(length, overlap, starts):
    assert tile_starts(length, 512, overlap) == starts


@pytest.mark.parametrize(
    'length, tile, overlap',
    [(1000, 512, 48), (900, 512, 128), (100, 512, 128), (128, 512, 128), (50, 16, 12), (17, 16, 1), (40, 16, 0)],
)
def test_weights_sum_to_one_everywhere(length, tile, overlap):
    """This includes sizes at which three tiles meet, and sides that are not longer than the overlap."""
    starts, weights = tile_starts(length, tile, overlap), tile_weights(length, tile, overlap)
    np.testing.assert_allclose(total(starts, weights.numpy(), length), 1, rtol=1e-12)
    assert weights.min() >= 0


@pytest.mark.parametrize('size, tile, overlap', GRIDS)
def test_merging_undoes_splitting(size, tile, overlap):
    x = torch.randn(2, 3, *size)
    grid = TileGrid(size, tile, overlap)
    tiles = split_tiles(x, grid)
    assert tiles.shape == (2 * len(grid), 3, *grid.shape)
    torch.testing.assert_close(merge_tiles(tiles, grid), x)
    torch.testing.assert_close(merge_tiles(tiles[:, :1], grid), x[:, :1])


def test_order_is_image_row_column():
    x = torch.randn(2, 1, 6, 10)
    grid = TileGrid((6, 10), 4, 2)
    tiles = split_tiles(x, grid)
    assert len(grid) == 2 * 4
    assert torch.equal(tiles[8 + 4 + 1], x[1, :, 2:, 2:6])


def test_a_single_tile_is_returned_bit_for_bit():
    x = torch.randn(2, 3, 9, 12)
    grid = TileGrid((9, 12), 64, 48)
    assert torch.equal(merge_tiles(split_tiles(x, grid), grid), x)


def test_half_precision_is_blended_in_float32():
    x = torch.rand(1, 1, 40, 40).bfloat16()
    grid = TileGrid((40, 40), 16, 6)
    assert torch.equal(merge_tiles(split_tiles(x, grid), grid), x)


def test_the_half_grid_has_the_same_tiles():
    grid = TileGrid((104, 152), (64, 48), (16, 10))
    half = grid.half()
    assert [[2 * start for start in axis] for axis in half.starts] == [*map(list, grid.starts)]
    assert half.shape == (32, 24)
    assert TileGrid((40, 8), 64, 48).half().shape == (20, 4)


@pytest.mark.parametrize('odd', [((41, 40), 16, 4), ((40, 40), (16, 15), 4), ((40, 40), 16, 3)])
def test_an_odd_grid_has_no_half(odd):
    with pytest.raises(UserError, match='must be even'):
        TileGrid(*odd).half()


@pytest.mark.parametrize(
    'tile, overlap, message',
    [
        (16, 16, 'overlap .* not smaller than the tile'),
        ((32, 8), 12, 'overlap .* not smaller'),
        (0, 0, 'not smaller'),
        (16, -1, 'overlap is -1'),
        (16.0, 4, 'tile is 16.0'),
        ((16, 16, 16), 4, 'tile is'),
    ],
)
def test_errors_name_unsuitable_numbers(tile, overlap, message):
    with pytest.raises(UserError, match=message):
        TileGrid((40, 40), tile, overlap)


def test_too_few_tiles_are_an_error():
    grid = TileGrid((40, 40), 16, 4)
    with pytest.raises(ValueError):
        blend_tiles([torch.zeros(1, 1, 16, 16)], grid)


def test_gradient():
    x = torch.rand(2, 1, 7, 6, dtype=torch.float64, requires_grad=True)
    grid = TileGrid((7, 6), 4, 2)
    assert torch.autograd.gradcheck(lambda x: merge_tiles(split_tiles(x, grid) ** 2, grid), x)


@pytest.mark.parametrize('multiple', [1, 8])
@pytest.mark.parametrize('length', [8, 40, 64, 65, 160, 1280])
def test_even_tiles_are_the_shortest_of_as_few_pieces(length, multiple):
    tile, overlap = 64, 16
    found = even_tile(length, tile, overlap, multiple)
    pieces = len(tile_starts(length, tile, overlap))
    assert found <= tile and found % multiple == 0
    assert len(tile_starts(length, found, overlap)) == pieces
    if found > multiple and pieces > 1:
        assert len(tile_starts(length, max(found - multiple, overlap + 1), overlap)) > pieces
