"""Windows of maps, and the form of their functions in exported programs."""

import pytest
import torch

from deeprftv2_plugin.ops import window_indices
from deeprftv2_plugin.ops.windows import merge_windows, smooth_windows, split_windows


@pytest.mark.parametrize('size', [(8, 8), (12, 20), (10, 8), (8, 13), (11, 13), (5, 21), (3, 2)])
def test_merging_undoes_splitting(size):
    x = torch.randn(2, 3, *size)
    windows = split_windows(x, (4, 8))
    assert windows.shape[2:] == (min(size[0], 4), min(size[1], 8))
    assert torch.equal(merge_windows(windows, (4, 8), size), x)


def test_order_is_image_row_column():
    x = torch.arange(2 * 4 * 6.0).reshape(2, 1, 4, 6)
    windows = split_windows(x, (2, 3))
    assert torch.equal(windows[5], x[1, :, :2, 3:])
    assert torch.equal(windows[6], x[1, :, 2:, :3])


def test_the_last_window_only_fills_remaining_pixels():
    """With numbered windows of a 5x7 map, the additional windows appear as strips at the borders."""
    windows = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 3, 3)
    merged = merge_windows(windows, (3, 3), (5, 7))[0, 0]
    rows = [[0, 0, 0, 1, 1, 1, 2]] * 3 + [[3, 3, 3, 4, 4, 4, 5]] * 2
    assert merged.tolist() == rows


def test_windows_are_averaged_with_their_neighbors():
    """The three columns of windows of each image have the weights 1, 1/2 and 0, and 1/2, 1 and 1/2."""
    windows = torch.zeros(12, 1, 1, 2)
    windows[3] = 12  # the first window of the second row
    smooth = smooth_windows(windows, (4, 4), (8, 12), (0, 0))
    first, second = torch.tensor([8 / 3, 1, 0]), torch.tensor([16 / 3, 2, 0])
    torch.testing.assert_close(smooth[:6, 0, 0, 1], torch.cat([first, second]))
    assert not smooth[6:].any()


def test_the_average_keeps_equal_windows():
    windows = torch.rand(1, 2, 3, 5).expand(2 * 3 * 5, -1, -1, -1)
    torch.testing.assert_close(smooth_windows(windows, (4, 8), (9, 27), (1, 2)), windows)


def test_channels_may_change_between_splitting_and_merging():
    x = torch.randn(2, 4, 10, 13)
    first = split_windows(x, (4, 4))[:, :2]
    assert torch.equal(merge_windows(first, (4, 4), (10, 13)), x[:, :2])


def test_gradient():
    x = torch.rand(2, 1, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: merge_windows(split_windows(x, (2, 4)) ** 2, (2, 4), (5, 7)), x)


def test_indices_refuse_windows_that_overlap_by_more_than_half():
    with pytest.raises(ValueError, match='windows of 4 pixels overlap by 3, expected at most half'):
        window_indices.split(torch.rand(1, 1, 9, 9), (4, 4), (3, 0))


@pytest.mark.parametrize('overlap', [(0, 0), (1, 1), (2, 3), (2, 4), (0, 4), (1, 2)])
@pytest.mark.parametrize('size', [(8, 8), (12, 20), (10, 8), (11, 13), (5, 21), (3, 2), (17, 33), (29, 31)])
def test_indices_split_and_merge_the_same_windows(size, overlap):
    x = torch.randn(2, 3, *size)
    assert torch.equal(window_indices.split(x, (4, 8), overlap), split_windows(x, (4, 8), overlap))
    windows = torch.randn_like(split_windows(x, (4, 8), overlap))  # neighbors differ where they overlap
    expected = merge_windows(windows, (4, 8), size, overlap)
    torch.testing.assert_close(window_indices.merge(windows, (4, 8), size, overlap), expected)
    rows, columns = window_indices.counts(x, (4, 8), size, overlap)
    assert 2 * rows * columns == len(windows)
