import cv2
import numpy as np
import pytest

from deeprftv2_plugin.data.blur.camera import (
    add_sensor_noise,
    blur,
    blur_window,
    compress,
    linear_to_srgb,
    overexpose,
    srgb_to_linear,
    to_light,
    to_pixels,
)
from deeprftv2_plugin.data.blur.trajectory import random_kernel

NOISELESS = {'shot': 0, 'read': 0}


def delta(side, row=0, column=0):
    kernel = np.zeros((side, side), np.float32)
    kernel[side // 2 + row, side // 2 + column] = 1
    return kernel


def test_srgb_conversion_is_invertible_and_matches_known_values():
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)
    np.testing.assert_allclose(srgb_to_linear(np.array([0, 0.5, 1])), [0, 0.21404114, 1], atol=1e-7)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_pixel_levels_survive_conversion_to_linear_light(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    light = to_light(levels)
    assert light.dtype == np.float32 and light[0] == 0 and light[-1] == 1
    assert (np.diff(light) > 0).all()
    assert np.array_equal(to_pixels(light, dtype), levels)
    assert to_pixels(np.float32([-1, 2]), dtype).tolist() == [0, np.iinfo(dtype).max]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_kernel_is_convolved_not_correlated(dtype, rng):
    image = rng.integers(0, np.iinfo(dtype).max, (12, 14, 3), dtype, endpoint=True)
    shifted = blur(image, delta(5, row=1, column=2), rng, **NOISELESS)
    assert shifted.dtype == dtype
    assert np.array_equal(shifted, image[1:9, 0:10])


def test_blur_is_linear_in_light(rng):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = 255
    halves = np.zeros((3, 3), np.float32)
    halves[1, :2] = 0.5
    # Half of the light has the sRGB value 188.
    assert set(blur(stripes, halves, rng, **NOISELESS).ravel()) == {188}


def test_noise_has_the_requested_variance(rng):
    level = np.full((200, 200), 0.25, np.float32)
    noisy = add_sensor_noise(level, shot=0.01, read=0.05, rng=rng)
    assert noisy.var() == pytest.approx(0.01 * 0.25 + 0.05**2, rel=0.05)
    assert noisy.mean() == pytest.approx(0.25, abs=0.002)


def test_blurry_window_equals_the_window_of_the_blurry_image(rng):
    image, kernel = rng.integers(0, 256, (40, 50, 3), np.uint8), random_kernel(rng, (9, 9))
    whole, _ = blur_window(image, (slice(0, 40), slice(0, 50)), kernel, rng, **NOISELESS)
    window = (slice(0, 20), slice(13, 50))
    blurry, sharp = blur_window(image, window, kernel, rng, **NOISELESS)
    assert np.abs(blurry.astype(int) - whole[window]).max() <= 1
    assert np.array_equal(sharp, image[window])


def test_blur_window_with_varying_kernels(rng):
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    kernels = np.stack([delta(5, column=-2), delta(5, column=2)])[None]
    blurry, _ = blur_window(image, (slice(2, 18), slice(5, 25)), kernels, rng, **NOISELESS)
    assert np.array_equal(blurry[:, 0], image[2:18, 7])
    assert np.array_equal(blurry[:, -1], image[2:18, 22])


def test_overexposure_affects_only_highlights():
    colors = np.array([[1, 1, 1], [1, 0.9, 0.8], [1, 0.2, 0.1], [0.5, 0.5, 0.5]], np.float32)[None]
    exposed = overexpose(colors, 4)
    ratios = exposed / colors
    np.testing.assert_allclose(ratios, ratios[..., :1].repeat(3, -1), rtol=1e-6)  # hues are unchanged
    assert ratios[0, 0, 0] == pytest.approx(4)
    assert 1 < ratios[0, 1, 0] < 4
    np.testing.assert_array_equal(exposed[0, 2:], colors[0, 2:])


def test_overexposed_lights_leave_clipped_streaks(rng):
    night = np.full((21, 21, 3), 10, np.uint8)
    night[10, 10] = 255
    streak = np.zeros((5, 5), np.float32)
    streak[2] = 0.2
    window = slice(0, 21), slice(0, 21)
    (dim, sharp), (bright, sharp_too) = (blur_window(night, window, streak, rng, gain, **NOISELESS) for gain in (1, 10))
    assert dim[10, 8:13].max() < 150
    assert (bright[10, 8:13] == 255).all()
    assert np.array_equal(bright[:10], dim[:10])
    assert np.array_equal(sharp, night) and np.array_equal(sharp_too, night)


def test_sharp_and_blurry_window_are_overexposed_in_the_same_way(rng):
    image = rng.integers(200, 256, (20, 20, 3), np.uint8)
    window = slice(2, 18), slice(2, 18)
    blurry, sharp = blur_window(image, window, delta(3), rng, gain=3, **NOISELESS)
    assert np.array_equal(blurry, sharp)
    assert (sharp >= image[window]).all() and (sharp > image[window]).any()


def test_blur_is_uint8_and_reproducible(rng):
    image, kernel = rng.integers(0, 256, (30, 30, 3), np.uint8), random_kernel(rng, (9, 9))
    first, again, other = (blur(image, kernel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.uint8 and first.shape == (20, 20, 3)
    assert np.array_equal(first, again)
    assert 0 < np.abs(first.astype(int) - other).mean() < 3


@pytest.fixture
def smooth(rng):
    """A photograph-like image (80, 96, 3), RGB, with much more red than blue."""
    image = cv2.GaussianBlur(rng.integers(0, 256, (80, 96, 3), np.uint8), (0, 0), 2) * [1.2, 1, 0.5]
    return image.clip(0, 255).astype(np.uint8)


def test_compression_is_that_of_a_jpeg_file(smooth, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.jpg'), smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    assert np.array_equal(compress(smooth, 75), cv2.imread(str(tmp_path / 'a.jpg'))[..., ::-1])


def test_compressed_crop_equals_the_crop_of_the_compressed_image(smooth):
    crop = compress(smooth[21:80, 35:96], 75, corner=(21 % 16, 35 % 16))
    assert crop.shape == (59, 61, 3)
    # from the first complete block on; chroma is interpolated from the neighboring block
    inside = np.s_[32 - 21 + 2 :, 48 - 35 + 2 :]
    assert np.array_equal(crop[inside], compress(smooth, 75)[21:80, 35:96][inside])
    assert not np.array_equal(crop[inside], compress(smooth[21:80, 35:96], 75)[inside])


def test_lower_quality_is_further_from_the_image(smooth):
    errors = [np.abs(compress(smooth, quality) - smooth.astype(float)).mean() for quality in (98, 80, 60)]
    assert 0 < errors[0] < errors[1] < errors[2] < 10


def test_compression_keeps_16_bit(smooth):
    assert np.array_equal(compress(smooth * np.uint16(257), 80), compress(smooth, 80) * np.uint16(257))
