import numpy as np
import pytest

from deeprftv2_plugin.data.blur.camera import (
    add_sensor_noise,
    blur,
    blur_window,
    linear_to_srgb,
    over_expose,
    srgb_to_linear,
    to_light,
    to_pixels,
)
from deeprftv2_plugin.data.blur.trajectory import random_kernel

QUIET = {'shot': 0, 'read': 0}


def delta(side, row=0, column=0):
    kernel = np.zeros((side, side), np.float32)
    kernel[side // 2 + row, side // 2 + column] = 1
    return kernel


def test_transfer_functions_undo_each_other_and_meet_known_values():
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)
    np.testing.assert_allclose(srgb_to_linear(np.array([0, 0.5, 1])), [0, 0.21404114, 1], atol=1e-7)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_every_level_of_a_pixel_survives_linear_light(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    light = to_light(levels)
    assert light.dtype == np.float32 and light[0] == 0 and light[-1] == 1
    assert (np.diff(light) > 0).all()
    assert np.array_equal(to_pixels(light, dtype), levels)
    assert to_pixels(np.float32([-1, 2]), dtype).tolist() == [0, np.iinfo(dtype).max]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_kernel_shifts_as_a_convolution_does(dtype, rng):
    image = rng.integers(0, np.iinfo(dtype).max, (12, 14, 3), dtype, endpoint=True)
    shifted = blur(image, delta(5, row=1, column=2), rng, **QUIET)
    assert shifted.dtype == dtype
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


def test_kernel_may_change_from_place_to_place(rng):
    picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
    kernels = np.stack([delta(5, column=-2), delta(5, column=2)])[None]
    blurry, _ = blur_window(picture, (slice(2, 18), slice(5, 25)), kernels, rng, **QUIET)
    assert np.array_equal(blurry[:, 0], picture[2:18, 7])
    assert np.array_equal(blurry[:, -1], picture[2:18, 22])


def test_over_exposure_is_for_what_is_nearly_white():
    colours = np.array([[1, 1, 1], [1, 0.9, 0.8], [1, 0.2, 0.1], [0.5, 0.5, 0.5]], np.float32)[None]
    exposed = over_expose(colours, 4)
    ratios = exposed / colours
    np.testing.assert_allclose(ratios, ratios[..., :1].repeat(3, -1), rtol=1e-6)  # colours stay
    assert ratios[0, 0, 0] == pytest.approx(4)
    assert 1 < ratios[0, 1, 0] < 4
    np.testing.assert_array_equal(exposed[0, 2:], colours[0, 2:])


def test_over_exposed_lights_draw_clipped_streaks(rng):
    night = np.full((21, 21, 3), 10, np.uint8)
    night[10, 10] = 255
    streak = np.zeros((5, 5), np.float32)
    streak[2] = 0.2
    window = slice(0, 21), slice(0, 21)
    (dim, sharp), (bright, sharp_too) = (blur_window(night, window, streak, rng, gain, **QUIET) for gain in (1, 10))
    assert dim[10, 8:13].max() < 150
    assert (bright[10, 8:13] == 255).all()
    assert np.array_equal(bright[:10], dim[:10])
    assert np.array_equal(sharp, night) and np.array_equal(sharp_too, night)


def test_sharp_picture_is_over_exposed_like_the_blurry_one(rng):
    picture = rng.integers(200, 256, (20, 20, 3), np.uint8)
    window = slice(2, 18), slice(2, 18)
    blurry, sharp = blur_window(picture, window, delta(3), rng, gain=3, **QUIET)
    assert np.array_equal(blurry, sharp)
    assert (sharp >= picture[window]).all() and (sharp > picture[window]).any()


def test_blur_is_in_bytes_and_reproducible(rng):
    picture, kernel = rng.integers(0, 256, (30, 30, 3), np.uint8), random_kernel(rng, (9, 9))
    first, again, other = (blur(picture, kernel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.uint8 and first.shape == (20, 20, 3)
    assert np.array_equal(first, again)
    assert 0 < np.abs(first.astype(int) - other).mean() < 3
