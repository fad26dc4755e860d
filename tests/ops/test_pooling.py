import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deeprftv2_plugin.ops.pooling import local_mean


@pytest.mark.parametrize('window', [(3, 4), (5, 99), (99, 2), (7, 9), (1, 1)])
def test_local_mean_is_the_valid_mean_with_a_repeated_border(window):
    x = torch.randn(2, 3, 7, 10)
    cut = min(window[0], 7), min(window[1], 10)
    valid = F.avg_pool2d(x, cut, stride=1)
    lost = [7 - valid.shape[2], 10 - valid.shape[3]]
    margins = [(0, 0), (0, 0), *((n // 2, (n + 1) // 2) for n in lost)]
    np.testing.assert_allclose(local_mean(x, window), np.pad(valid, margins, mode='edge'), atol=1e-6)


def test_a_window_over_the_whole_map_is_the_global_mean():
    x = torch.randn(2, 3, 7, 10)
    assert torch.equal(local_mean(x, (7, 11)), x.mean((-2, -1), keepdim=True))


def test_float32_stays_exact_on_large_maps_far_from_zero():
    x = 100 + torch.rand(1, 1, 600, 800)
    error = local_mean(x, (24, 24)) - local_mean(x.double(), (24, 24))
    assert error.abs().max() < 1e-6 * 100


def test_half_precision_is_summed_in_float32():
    x = torch.rand(1, 2, 64, 96).bfloat16()
    mean = local_mean(x, (48, 48))
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, local_mean(x.float(), (48, 48)).bfloat16())


def test_gradient():
    x = torch.rand(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: local_mean(x, (4, 3)), x)
