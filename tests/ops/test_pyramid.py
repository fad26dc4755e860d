import numpy as np
import pytest
import torch
from scipy import ndimage

from deeprftv2_plugin.ops.pyramid import half_scale


@pytest.mark.parametrize('size', [(8, 8), (10, 24)])
def test_half_scale_is_a_binomial_blur_and_the_mean_of_2x2_blocks(size):
    x = torch.rand(2, 3, *size)
    row = np.array([1, 4, 6, 4, 1]) / 16
    blurred = ndimage.convolve(x.double().numpy(), np.outer(row, row)[None, None], mode='mirror')
    blocks = blurred.reshape(2, 3, size[0] // 2, 2, size[1] // 2, 2).mean((3, 5))
    np.testing.assert_allclose(half_scale(x), blocks, atol=1e-6)


def test_constant_images_are_preserved_and_odd_sides_are_rounded_down():
    assert torch.allclose(half_scale(torch.full((1, 1, 9, 12), 0.3)), torch.full((1, 1, 4, 6), 0.3))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_half_scale_keeps_the_type_under_autocast(dtype):
    x = torch.rand(1, 3, 8, 8, dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16):
        under_autocast = half_scale(x)
    assert under_autocast.dtype == dtype
    assert torch.equal(under_autocast, half_scale(x))


def test_gradient():
    x = torch.rand(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(half_scale, x)
