import numpy as np
import pytest
from scipy.signal import convolve2d

from deeprftv2_plugin.data.blur import (
    add_sensor_noise,
    blur,
    blur_window,
    convolve,
    linear_to_srgb,
    srgb_to_linear,
)
from deeprftv2_plugin.data.trajectory import random_kernel

QUIET = {'shot': 0, 'read': 0}


def delta(side, row=0, column=0):
    kernel = np.zeros((side, side), np.float32)
    kernel[side // 2 + row, side // 2 + column] = 1
    return kernel


def test_transfer_functions_undo_each_other_and_meet_known_values():
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)
    np.testing.assert_allclose(srgb_to_linear(np.array([0, 0.5, 1])), [0, 0.21404114, 1], atol=1e-7)


@pytest.mark.parametrize('side', [3, 9, 21])
@pytest.mark.parametrize('channels', [1, 3])
def test_convolution_is_scipys(side, channels, rng):
    image, kernel = rng.random((30, 26, channels), np.float32), rng.random((side, side), np.float32)
    expected = [convolve2d(image[..., channel], kernel, mode='valid') for channel in range(channels)]
    np.testing.assert_allclose(convolve(image, kernel), np.stack(expected, -1), rtol=1e-4)


def test_kernel_shifts_as_a_convolution_does(rng):
    image = rng.integers(0, 256, (12, 14, 3), np.uint8)
    shifted = blur(image, delta(5, row=1, column=2), rng, **QUIET)
    assert np.array_equal(shifted, image[1:9, 0:10])


def test_light_adds_up_in_linear_intensities(rng):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    halves = np.zeros((3, 3), np.float32)
    halves[1, :2] = 0.5
    # Half of the light is not half of the sRGB value but 188.
    assert set(blur(stripes, halves, rng, **QUIET).ravel()) == {188}


def test_noise_has_the_variance_stated(rng):
    level = np.full((200, 200), 0.25, np.float32)
    noisy = add_sensor_noise(level, shot=0.01, read=0.05, rng=rng)
    assert noisy.var() == pytest.approx(0.01 * 0.25 + 0.05**2, rel=0.05)
    assert noisy.mean() == pytest.approx(0.25, abs=0.002)


def test_window_is_the_same_window_of_the_whole_blurry_picture(rng):
    picture, kernel = rng.integers(0, 256, (40, 50, 3), np.uint8), random_kernel(rng, (9, 9))
    whole, _ = blur_window(picture, (slice(0, 40), slice(0, 50)), kernel, rng, **QUIET)
    window = (slice(0, 20), slice(13, 50))
    blurry, sharp = blur_window(picture, window, kernel, rng, **QUIET)
    assert np.abs(blurry.astype(int) - whole[window]).max() <= 1
    assert np.array_equal(sharp, picture[window])


def test_blur_is_in_bytes_and_reproducible(rng):
    picture, kernel = rng.integers(0, 256, (30, 30, 3), np.uint8), random_kernel(rng, (9, 9))
    first, again, other = (blur(picture, kernel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.uint8 and first.shape == (20, 20, 3)
    assert np.array_equal(first, again)
    assert 0 < np.abs(first.astype(int) - other).mean() < 3
