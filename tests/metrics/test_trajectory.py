"""Metrics of Köhler's benchmark on trajectories with a known best position."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import correlate2d
from skimage.metrics import structural_similarity

from deeprftv2_plugin.metrics import trajectory_mssim, trajectory_psnr
from deeprftv2_plugin.metrics.trajectory import apply, multi_scale_ssim, register
from deeprftv2_plugin.utils.errors import UserError
from tests.metrics.photographs import load, restored

SHARP = load('coffee.png')[60:260, 100:300]


def crop(row, column):
    return load('coffee.png')[60 + row : 260 + row, 100 + column : 300 + column]


class Frames(tuple):
    """A trajectory in memory."""

    def __new__(cls, *frames):
        return super().__new__(cls, frames)

    def __hash__(self):
        return id(self)


@pytest.mark.parametrize('shift', [(0, 0), (3, -2), (-5, 4), (7, 0)])
@pytest.mark.parametrize('factor', [1, 0.6])
def test_register_finds_shift_and_brightness(shift, factor):
    reference = SHARP.astype(float)
    result = factor * crop(*shift).astype(float)
    found = register(result, reference)
    assert found.shift == shift
    moved, visible = apply(found, result, reference)
    outside = moved.sum(2) == 0
    assert (visible[outside] == 0).all()
    rows, columns = (slice(max(s, 0), 200 + min(s, 0)) for s in shift)
    assert not outside[rows, columns].any() and outside.sum() == 200**2 - (200 - abs(shift[0])) * (200 - abs(shift[1]))
    np.testing.assert_allclose(moved[rows, columns] / found.factor, result[_source(shift[0]), _source(shift[1])])
    np.testing.assert_allclose(moved, visible * (found.factor * factor))


def _source(shift):
    return slice(max(-shift, 0), 200 + min(-shift, 0))


def test_the_score_is_that_of_the_best_position():
    result = restored(SHARP)
    # another part of the scene, the right one, and the right one moved
    frames = Frames(crop(60, 60), SHARP, crop(2, 1))
    scores = [trajectory_psnr(result, Frames(frame)) for frame in frames]
    assert scores[0] < 22 < 26 < scores[1] and trajectory_psnr(result, frames) == max(scores)
    similarities = [trajectory_mssim(result, Frames(frame)) for frame in frames]
    assert trajectory_mssim(result, frames) == max(similarities) > similarities[0] + 0.02


def test_psnr_is_that_of_gray_values_with_the_best_brightness():
    result = restored(SHARP, dim=1)
    x, z = SHARP.astype(float), result.astype(float)
    z *= (x * z).sum() / (z * z).sum()
    gray = [0.114, 0.587, 0.299]
    expected = 10 * np.log10(255**2 / np.square((x - z) @ gray).mean())
    assert trajectory_psnr(result, Frames(SHARP)) == pytest.approx(expected)
    assert trajectory_psnr(result // 2 * 2, Frames(SHARP)) == pytest.approx(expected, abs=0.2)
    dark = (SHARP // 3 * 3).astype(np.uint8)
    assert trajectory_psnr(dark // 3, Frames(dark)) > 100  # the brightness does not matter


def test_equal_images_are_perfect():
    assert trajectory_psnr(SHARP, Frames(SHARP)) == np.inf
    assert trajectory_mssim(SHARP, Frames(SHARP)) == pytest.approx(1)


def test_the_first_scale_is_the_ssim(monkeypatch):
    """With one scale and all exponents 1, the product of means is close to the mean of the products."""
    first, second = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float) for image in (restored(SHARP), SHARP))
    monkeypatch.setattr('deeprftv2_plugin.metrics.trajectory.WEIGHTS', (1,))
    expected = structural_similarity(
        first, second, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert multi_scale_ssim(first, second) == pytest.approx(expected, abs=0.03)


def test_mssim_follows_its_definition():
    """Compare with an independent computation in double precision with two-dimensional windows."""
    low_pass = np.array([0.037828455507260, -0.023849465019560, -0.110624404418440, 0.377402855612830])
    low_pass = np.array([*low_pass, 0.852698679008890, *low_pass[::-1]])
    low_pass = np.outer(low_pass, low_pass) / low_pass.sum() ** 2
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def average(values):
        return correlate2d(values, window, 'valid')

    x, y = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float) for image in (restored(SHARP), SHARP))
    expected = multi_scale_ssim(x, y)
    score = 1
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            x, y = (ndimage.correlate(image, low_pass, mode='reflect')[::2, ::2] for image in (x, y))
        deviations = [np.sqrt((average(image**2) - average(image) ** 2).clip(0)) for image in (x, y)]
        product, squares = deviations[0] * deviations[1], deviations[0] ** 2 + deviations[1] ** 2
        score *= ((2 * product + 7.65**2) / (squares + 7.65**2)).mean() ** exponent
        covariance = average(x * y) - average(x) * average(y)
        score *= ((covariance + 7.65**2 / 2) / (product + 7.65**2 / 2)).mean() ** exponent
    luminance = (2 * average(x) * average(y) + 2.55**2) / (average(x) ** 2 + average(y) ** 2 + 2.55**2)
    assert score * luminance.mean() ** 0.1333 == pytest.approx(expected, abs=1e-9)


def test_mssim_decreases_with_blur_at_every_scale():
    gray = cv2.cvtColor(SHARP, cv2.COLOR_BGR2GRAY).astype(float)
    scores = [multi_scale_ssim(cv2.GaussianBlur(gray, (0, 0), sigma), gray) for sigma in (0.5, 1, 2, 4, 8)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.8 < 0.97 < scores[0]


@pytest.mark.parametrize(
    'image, trajectory, reason',
    [
        (SHARP, None, 'sharp images along a trajectory'),
        (SHARP, Frames(SHARP[:100]), r'\(200, 200, 3\), but an image of its trajectory has \(100'),
        (SHARP.astype(np.uint16), Frames(SHARP), 'of uint8'),
        (SHARP[:50], Frames(SHARP[:50]), '176 pixels'),
    ],
)
def test_wrong_images(image, trajectory, reason):
    with pytest.raises(UserError, match=reason):
        trajectory_mssim(image, trajectory)
