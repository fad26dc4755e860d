"""Metrics after the best shift compared with an exhaustive search, and deconvolutions with a known kernel."""

import numpy as np
import pytest
from scipy.signal import fftconvolve

from deeprftv2_plugin.data.blur.kernels import CameraShake, disc
from deeprftv2_plugin.metrics import error_ratio, psnr, shifted, shifted_psnr, shifted_ssim
from deeprftv2_plugin.metrics.deconvolution import deconvolve_sparse, deconvolve_wiener
from deeprftv2_plugin.metrics.shifted import best_shift
from deeprftv2_plugin.utils.errors import UserError
from tests.metrics.photographs import load

SHARP = load('astronaut.png')[20:170, 60:220]
GRAY = SHARP.mean(2) / 255
SHAKE = CameraShake((6, 10))(np.random.default_rng(1))((64, 64)).astype(np.float64)


def searched(result, reference, border, reach):
    """Search by definition: bilinear interpolation at every quarter pixel."""
    from scipy.ndimage import map_coordinates

    height, width = reference.shape
    rows, columns = np.mgrid[border : height - border, border : width - border].astype(float)
    window = reference[border : height - border, border : width - border]
    steps = np.arange(-4 * reach, 4 * reach + 1) / 4
    return min(
        (float(((map_coordinates(result, [rows + y, columns + x], order=1) - window) ** 2).sum()), (y, x))
        for y in steps
        for x in steps
    )


@pytest.mark.parametrize('border, reach', [(6, 2), (5, 3)])
def test_the_best_shift_equals_that_of_an_exhaustive_search(border, reach):
    rng = np.random.default_rng(0)
    reference = GRAY[:44, :52]
    result = np.roll(GRAY, (2, -1), (0, 1))[:44, :52] * 0.9 + rng.normal(0, 0.02, (44, 52))
    found = best_shift(result, reference, border, reach)
    error, shift = searched(result, reference, border, reach)
    assert found.error == pytest.approx(error) and found.shift == shift
    assert np.square(found.result - found.reference).sum() == pytest.approx(error)


def test_the_errors_of_all_shifts_equal_those_of_the_interpolated_images():
    rng = np.random.default_rng(0)
    search, window = rng.random((9, 10, 2)), rng.random((6, 7, 2))
    found = shifted._errors(search, window, 4)
    assert found.shape == (13, 13)
    for row, column in np.ndindex(found.shape):
        moved = shifted._interpolate(search, row / 4, column / 4, (6, 7))
        assert found[row, column] == pytest.approx(np.square(moved - window).sum())


def test_channels_share_a_shift():
    color = SHARP[:40, :40] / 255
    result = np.stack([np.roll(color[..., 0], 1, 0), color[..., 1], np.roll(color[..., 2], 1, 0)], 2)
    shifts = [best_shift(result[..., channel], color[..., channel], 6, 3).shift for channel in range(3)]
    assert shifts == [(1, 0), (0, 0), (1, 0)]
    assert best_shift(result, color, 6, 3).shift == min(
        ((row, column) for row in np.arange(-12, 13) / 4 for column in np.arange(-12, 13) / 4),
        key=lambda shift: _error_at(result, color, shift),
    )


def _error_at(result, reference, shift):
    (top, left), (row, column) = (divmod(value + 3, 1) for value in shift), (shift[0] % 1, shift[1] % 1)
    top, left = int(top[0]), int(left[0])
    window, search = reference[6:-6, 6:-6], np.pad(result[3:-3, 3:-3], ((0, 1), (0, 1), (0, 0)))
    height, width = window.shape[:2]
    moved = sum(
        abs(1 - down - row)
        * abs(1 - right - column)
        * search[top + down : top + down + height, left + right :][:, :width]
        for down in (0, 1)
        for right in (0, 1)
    )
    return np.square(moved - window).sum()


def test_a_shifted_copy_is_perfect():
    moved = np.roll(SHARP, (-3, 4), (0, 1))
    assert psnr(moved, SHARP) < 25
    assert shifted_psnr(moved, SHARP) > 200 and shifted_ssim(moved, SHARP) == pytest.approx(1)
    assert shifted_psnr(moved, SHARP, reach=2) < 30


def test_without_shifts_it_is_the_psnr_inside_the_border():
    result = (SHARP * 0.95).astype(np.uint8)
    assert shifted_psnr(result, SHARP, reach=0) == pytest.approx(psnr(result, SHARP, crop_border=15))
    luma = psnr(result, SHARP, crop_border=15, test_y_channel=True)
    assert shifted_psnr(result, SHARP, reach=0, test_y_channel=True) == pytest.approx(luma, abs=1e-5)


def test_a_gray_reference_is_compared_with_the_mean_of_the_channels():
    gray = np.repeat(SHARP[..., :1] // 2 + 50, 3, 2)
    tinted = (gray.astype(int) + [-3, 0, 3]).astype(np.uint8)
    assert psnr(tinted, gray) < 45 and shifted_psnr(tinted, gray) > 200
    assert shifted_psnr(gray[..., 0], gray[..., 0]) == np.inf


def blurred(kernel):
    """A blurry 8-bit image of a scene that extends beyond the border, and its sharp version, both gray."""
    scene = load('camera.png')[120:230, 180:290, 0]
    reach = kernel.shape[0] // 2
    blurry = fftconvolve(scene, kernel, 'valid')
    return np.rint(blurry).clip(0, 255).astype(np.uint8), scene[reach:-reach, reach:-reach]


@pytest.mark.parametrize('kernel', [SHAKE, disc(2.5).astype(np.float64)])
def test_deconvolutions_sharpen_with_the_right_kernel(kernel):
    blurry, sharp = blurred(kernel)
    before = shifted_psnr(blurry, sharp)
    wiener, sparse = (shifted_psnr(blurry, sharp, blurry, kernel, of=of) for of in ('wiener', 'sparse'))
    assert min(wiener, sparse) > before + 2
    assert shifted_psnr(sharp, sharp, blurry, of='blurry') == before
    assert error_ratio(blurry, sharp, blurry, kernel, of='sparse') == pytest.approx(1)
    assert error_ratio(blurry, sharp, blurry, kernel) == pytest.approx(10 ** ((sparse - before) / 10))


def test_a_deconvolution_with_the_rotated_kernel_is_worse():
    blurry, sharp = blurred(SHAKE)
    turned = np.ascontiguousarray(SHAKE[::-1, ::-1])
    for of in ('wiener', 'sparse'):
        right = shifted_psnr(blurry, sharp, blurry, SHAKE, of=of)
        assert shifted_psnr(blurry, sharp, blurry, turned, of=of) < right - 2


def matrix(function, shape):
    """Return the matrix of a linear function of maps."""
    columns = []
    for index in range(shape[0] * shape[1]):
        unit = np.zeros(shape)
        unit.flat[index] = 1
        columns.append(function(unit).ravel())
    return np.stack(columns, 1)


def test_the_sparse_deconvolution_solves_its_least_squares_problems():
    rng = np.random.default_rng(0)
    kernel = rng.random((3, 3))
    kernel /= kernel.sum()
    scene = (11, 13)
    blurry = rng.random((9, 11))
    blur = matrix(lambda x: fftconvolve(x, kernel, 'valid'), scene)
    derivatives = [
        (share, matrix(function, scene))
        for share, function in (
            (1, lambda x: np.diff(x, axis=0)),
            (1, lambda x: np.diff(x, axis=1)),
            (0.25, lambda x: np.diff(x, 2, 0)),
            (0.25, lambda x: np.diff(x, 2, 1)),
            (0.25, lambda x: np.diff(np.diff(x, axis=0), axis=1)),
        )
    ]

    def solve(priors):
        normal = blur.T @ blur + 0.02 * sum(matrix.T @ (factor * matrix) for factor, matrix in priors)
        return np.linalg.solve(normal, blur.T @ blurry.ravel())

    x = solve([(1, matrix) for _, matrix in derivatives])
    for reweightings in range(2):
        found = deconvolve_sparse(blurry, kernel, weight=0.02, iterations=500, reweightings=reweightings)
        np.testing.assert_allclose(found, x.reshape(scene)[1:-1, 1:-1], atol=1e-5)
        x = solve(
            [
                ((0.1 * share * np.maximum(np.abs(matrix @ x), 0.01) ** -1.2)[:, None], matrix)
                for share, matrix in derivatives
            ]
        )


def test_wiener_inverts_an_impulse():
    impulse = np.zeros((5, 5))
    impulse[2, 2] = 1
    assert np.abs(deconvolve_wiener(GRAY, impulse, noise=0) - GRAY).max() < 1e-9
    moved = np.roll(impulse, 1, 0)
    assert np.abs(deconvolve_wiener(GRAY, moved, noise=0)[:-1] - GRAY[1:]).max() < 1e-9


@pytest.mark.parametrize(
    'settings, reason',
    [
        ({'of': 'sharpest'}, 'expected result, blurry, wiener or sparse'),
        ({'of': 'wiener'}, 'needs the blurry image'),
        ({'of': 'wiener', 'blurry': SHARP}, 'needs the true kernel'),
        ({'border': 3}, 'reach <= border'),
        ({'border': 80}, '160x150 pixels'),
    ],
)
def test_wrong_arguments(settings, reason):
    with pytest.raises(UserError, match=reason):
        shifted_psnr(SHARP, SHARP, **settings)
