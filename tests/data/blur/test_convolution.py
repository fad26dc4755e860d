import numpy as np
import pytest
from scipy.signal import convolve2d

from deeprftv2_plugin.data.blur.convolution import DENSE, TILE, convolve, convolve_varying


@pytest.mark.parametrize('side', [1, 3, TILE, 21, 31])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('share', [0.1, 1])
def test_convolve_matches_scipy(side, channels, share, rng):
    image = rng.random((44, 40, channels), np.float32)
    kernel = rng.random((side, side), np.float32) * (rng.random((side, side)) <= share)
    expected = [convolve2d(image[..., channel], kernel, mode='valid') for channel in range(channels)]
    np.testing.assert_allclose(convolve(image, kernel), np.stack(expected, -1), rtol=1e-4, atol=1e-5)


def test_parameters_cover_sparse_and_dense_kernels():
    assert TILE**2 < DENSE < 31**2


def test_impulse_response_is_the_kernel(rng):
    impulse, kernel = np.zeros((9, 9, 1), np.float32), rng.random((5, 5), np.float32)
    impulse[4, 4] = 1
    np.testing.assert_array_equal(convolve(impulse, kernel)[..., 0], kernel)
    np.testing.assert_allclose(convolve_varying(impulse, kernel[None, None])[..., 0], kernel)


@pytest.fixture
def kernels(rng):
    """Random kernels on a 3x4 grid, each with sum one."""
    weights = rng.random((3, 4, 5, 5), np.float32)
    return weights / weights.sum(axis=(2, 3), keepdims=True)


@pytest.mark.parametrize('points', [(1, 1), (1, 3), (3, 5), (20, 30)])
def test_equal_kernels_match_a_single_kernel(points, kernels, rng):
    image = rng.random((16, 21, 3), np.float32)
    field = np.broadcast_to(kernels[1, 1], (*points, 5, 5))
    np.testing.assert_allclose(convolve_varying(image, field), convolve(image, kernels[1, 1]), atol=1e-6)


def test_constant_image_is_preserved(kernels):
    blurry = convolve_varying(np.full((25, 36, 3), 0.7, np.float32), kernels)
    assert blurry.shape == (21, 32, 3)
    np.testing.assert_allclose(blurry, 0.7, rtol=1e-5)


def test_varying_convolution_is_linear_in_the_image(kernels, rng):
    one, two = rng.random((2, 25, 36, 3), np.float32)
    together = convolve_varying(one + 3 * two, kernels)
    apart = convolve_varying(one, kernels) + 3 * convolve_varying(two, kernels)
    np.testing.assert_allclose(together, apart, rtol=1e-5)


def test_kernels_apply_at_grid_points_and_are_interpolated_between(kernels, rng):
    image = rng.random((25, 35, 1), np.float32)
    blurry = convolve_varying(image, kernels)
    uniform = np.array([[convolve(image, kernel) for kernel in row] for row in kernels])
    for row in range(3):
        for column in range(4):
            place = 10 * row, 10 * column
            np.testing.assert_allclose(blurry[place], uniform[(row, column, *place)], rtol=1e-5)
    np.testing.assert_allclose(blurry[5, 15], uniform[:2, 1:3, 5, 15].mean(axis=(0, 1)), rtol=1e-5)
