"""The choice of tiles by the work that they cause."""

import pytest

from deeprftv2_plugin.inference.tile_choice import best_tile
from deeprftv2_plugin.ops.tiles import TileGrid

SIZES = [(3000, 4000), (720, 1280), (264, 8000), (8, 100_000)]


def pixels(size, tile, overlap):
    """The pixels of all tiles, with those in several tiles counted several times."""
    grid = TileGrid(size, tile, overlap)
    return len(grid) * grid.shape[0] * grid.shape[1]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('largest', [256, 640])
def test_tiles_are_multiples_and_not_larger_than_permitted(size, largest):
    for side in best_tile(size, largest, 48, 8, (128, 128), (8, 8)):
        assert side <= largest and side % 8 == 0


@pytest.mark.parametrize('size', SIZES)
def test_without_windows_no_square_tile_covers_fewer_pixels(size):
    chosen = pixels(size, best_tile(size, 640, 48, 8), 48)
    assert chosen <= min(pixels(size, side, 48) for side in range(256, 641, 8))


@pytest.mark.parametrize('size', SIZES[:3])
def test_windows_overlap_less_within_the_tiles_chosen_for_them(size):
    def in_windows(tile):
        grid = TileGrid(size, tile, 48)
        return len(grid) * pixels(grid.shape, (128, 128), 8)

    with_windows, without = best_tile(size, 640, 48, 8, (128, 128), (8, 8)), best_tile(size, 640, 48, 8)
    assert in_windows(with_windows) <= in_windows(without)


def test_an_image_smaller_than_the_largest_tile_is_one_tile():
    assert best_tile((312, 400), 640, 48, 8) == (640, 640)
