r"""Metrics after the best shift, as used for the benchmarks of Levin et al. and Lai et al.

A blurry image determines the sharp image and the kernel only up to opposite shifts, so a result may be shifted relative
to the ground truth. The procedure is that of Levin et al.:

1. A border is cropped from the ground truth :math:`x`.
2. The result :math:`z` is shifted by :math:`s` with bilinear interpolation, for all multiples of a quarter of a pixel
   up to a maximum in rows and columns. The shift with the least :math:`\sum (z_s - x)^2` over all channels is used.

If the ground truth is grayscale, the mean of the result's channels is compared with it. Images are not rounded after
the shift.

References:
    Levin et al., "Understanding and Evaluating Blind Deconvolution Algorithms", CVPR 2009; the border of 15 pixels, the
    maximum shift of 5 pixels and the quarter pixels are those of the authors' `comp_upto_shift.m`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from deeprftv2_plugin.metrics.deconvolution import deconvolve_sparse, deconvolve_wiener
from deeprftv2_plugin.metrics.inputs import LUMA, MetricInputs, check_inputs, describe, metric
from deeprftv2_plugin.metrics.pixelwise import to_decibel
from deeprftv2_plugin.metrics.structural import check_window_fits, mean_ssim
from deeprftv2_plugin.utils.errors import UserError

BORDER, REACH = 15, 5
STEPS = 4
"""Shifts per pixel."""


class Shifted(NamedTuple):
    """A result at the best shift."""

    result: np.ndarray
    """Array (h, w) or (h, w, 3) of float64, the moved result inside the border."""
    reference: np.ndarray
    """The ground truth inside the border."""
    error: float
    """Sum of the squared differences."""
    shift: tuple[float, float]
    """Rows and columns: `result[p]` is the original at p + shift."""


def _after_best_shift(score: Callable[[Shifted], float]) -> Callable[..., float]:
    """Decorate a score of the result at its best shift, in [0, 1], so that it becomes a metric of images."""

    def compute(
        img: np.ndarray,
        img2: np.ndarray,
        blurry: np.ndarray | None = None,
        kernel: np.ndarray | None = None,
        of: str = 'result',
        border: int = BORDER,
        reach: int = REACH,
        test_y_channel: bool = False,
    ) -> float:
        return score(best_shift(*_inputs(img, img2, blurry, kernel, of, test_y_channel), border, reach))

    functools.update_wrapper(compute, score, assigned=('__module__', '__name__', '__qualname__', '__doc__'))
    del compute.__wrapped__  # type: ignore[attr-defined]  # whose arguments are others
    return metric(compute)


@_after_best_shift
def shifted_psnr(shifted: Shifted) -> float:
    """Return the PSNR in dB after the best shift by quarter pixels, within a border.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16.
        img2: The ground truth, of the same shape and type.
        blurry: The image that was restored, for `of`.
        kernel: The true kernel (k, k), for `of`.
        of: What to score: the 'result'; or for comparison the 'blurry' image, or its deconvolution with the true kernel
            by `deconvolve_wiener` ('wiener') or `deconvolve_sparse` ('sparse').
        border: Number of pixels to crop at each edge.
        reach: Largest shift in rows and columns, in pixels, at most `border`.
        test_y_channel: Whether to compare the luma (ITU-R BT.601, [16, 235] of 255) of color images.

    Returns:
        PSNR in dB, infinite for equal images.

    Raises:
        UserError: The images differ in size or type or are too small, an argument is invalid, or a required true kernel
            is not known.
    """
    return to_decibel(shifted.error / shifted.result.size, 1)


@_after_best_shift
def shifted_ssim(shifted: Shifted) -> float:
    """Return the SSIM with a window of 11x11 pixels after the best shift by quarter pixels, within a border.

    Args:
        img, img2, blurry, kernel, of, border, reach, test_y_channel: As in `shifted_psnr`.

    Returns:
        A value in [-1, 1], 1 for equal images.

    Raises:
        UserError: As in `shifted_psnr`.
    """
    check_window_fits(shifted.result)
    result, reference = (image.astype(np.float32) for image in shifted[:2])
    return mean_ssim(MetricInputs(result, reference, 1))


@metric
def error_ratio(
    img: np.ndarray,
    img2: np.ndarray,
    blurry: np.ndarray,
    kernel: np.ndarray | None = None,
    of: str = 'result',
    border: int = BORDER,
    reach: int = REACH,
) -> float:
    r"""Return the error ratio of Levin et al., relative to a deconvolution with the true kernel.

    .. math:: \frac{\min_s \sum (z_s - x)^2}{\min_s \sum (d_s - x)^2}

    where d is the deconvolution of the blurry image with the true kernel by `deconvolve_sparse`. A ratio of 1 means
    that the result is as good as the deconvolution. Differences are usually visible for ratios above 2 or 3. A mean
    over images is dominated by a few large values; papers report the share of images below a ratio.

    Args:
        img, img2, blurry, kernel, of, border, reach: As in `shifted_psnr`.

    Returns:
        A positive number, lower is better.

    Raises:
        UserError: As in `shifted_psnr`.
    """
    error, least = (
        best_shift(*_inputs(img, img2, blurry, kernel, each, False), border, reach).error for each in (of, 'sparse')
    )
    return error / least


def best_shift(result: np.ndarray, reference: np.ndarray, border: int = BORDER, reach: int = REACH) -> Shifted:
    """Find the shift by quarter pixels with the least squared error.

    The squared error after bilinear interpolation is a quadratic form in the interpolation weights. Its coefficients
    are sums of products of neighboring pixels with each other and with the ground truth, computed for all integer
    shifts at once.

    Args:
        result: Array (H, W) or (H, W, C) of floating-point numbers.
        reference: The ground truth, of the same shape.
        border: Number of pixels to crop from the ground truth at each edge.
        reach: Largest shift in pixels.

    Raises:
        UserError: The images are too small, or an argument is invalid.
    """
    height, width = result.shape[:2]
    if not (isinstance(border, int) and isinstance(reach, int) and 0 <= reach <= border):
        raise UserError(f'border is {border!r} and reach {reach!r}, expected integers, 0 <= reach <= border')
    if min(height, width) <= 2 * border:
        raise UserError(f'an image has {width}x{height} pixels, but a border of {border} pixels is cropped: lower it')
    window = reference[border : height - border, border : width - border]
    search = result[border - reach : height - border + reach, border - reach : width - border + reach]
    errors = _errors(np.atleast_3d(search), np.atleast_3d(window), 2 * reach + 1)
    row, column = (int(index) for index in np.unravel_index(errors.argmin(), errors.shape))
    moved = _interpolate(search, row / STEPS, column / STEPS, window.shape[:2])
    difference = float(np.square(moved - window).sum(dtype=np.float64))
    return Shifted(moved, window, difference, (row / STEPS - reach, column / STEPS - reach))


def _interpolate(search: np.ndarray, row: float, column: float, shape: tuple[int, int]) -> np.ndarray:
    """Return the part of an image at a fractional position by bilinear interpolation."""
    total = np.zeros((*shape, *search.shape[2:]))
    for top, vertical in ((int(row), 1 - row % 1), (int(row) + 1, row % 1)):
        for left, horizontal in ((int(column), 1 - column % 1), (int(column) + 1, column % 1)):
            if vertical * horizontal:
                total += vertical * horizontal * search[top : top + shape[0], left : left + shape[1]]
    return total


def _errors(search: np.ndarray, window: np.ndarray, count: int) -> np.ndarray:
    """Return the squared errors of all positions of the window, an array of STEPS * (count - 1) + 1 rows and columns.

    Args:
        search: Array (h + count - 1, w + count - 1, C).
        window: Array (h, w, C).
        count: Number of integer positions in rows and columns.
    """
    shape = window.shape[:2]
    padded = np.pad(search, ((0, 1), (0, 1), (0, 0)))  # the padding always gets weight zero
    products = {
        (down, right): _box_sums(
            (search * padded[down : down + search.shape[0], right : right + search.shape[1]]).sum(2), shape
        )
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1))
    }
    # products of the pixel below and the pixel to the right; windows start at the pixel to the upper left of both
    products[1, -1] = _box_sums((padded[1:, :-1] * padded[:-1, 1:]).sum(2), shape)
    correlation = np.zeros((count + 1, count + 1))
    correlation[:count, :count] = _correlate(search, window, count)
    own = np.pad(products[0, 0], ((0, 1), (0, 1)))
    power = float(np.square(window).sum())

    errors = np.full((STEPS * count, STEPS * count), np.inf)
    for vertical in range(STEPS):
        for horizontal in range(STEPS):
            y, x = vertical / STEPS, horizontal / STEPS
            weights = {(0, 0): (1 - y) * (1 - x), (0, 1): (1 - y) * x, (1, 0): y * (1 - x), (1, 1): y * x}
            squared = sum(
                weight**2 * own[down : down + count, right : right + count] for (down, right), weight in weights.items()
            )
            squared = squared + 2 * (
                weights[0, 0] * weights[0, 1] * products[0, 1]
                + weights[0, 0] * weights[1, 0] * products[1, 0]
                + weights[0, 0] * weights[1, 1] * products[1, 1]
                + weights[1, 0] * weights[0, 1] * products[1, -1]
                + weights[1, 0] * weights[1, 1] * np.pad(products[0, 1], ((0, 1), (0, 0)))[1:]
                + weights[0, 1] * weights[1, 1] * np.pad(products[1, 0], ((0, 0), (0, 1)))[:, 1:]
            )
            mixed = sum(
                weight * correlation[down : down + count, right : right + count]
                for (down, right), weight in weights.items()
            )
            errors[vertical::STEPS, horizontal::STEPS] = squared - 2 * mixed + power
    last = STEPS * (count - 1) + 1
    return errors[:last, :last]


def _box_sums(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the sums over all windows of a shape inside an array."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
    height, width = shape
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]


def _correlate(search: np.ndarray, window: np.ndarray, count: int) -> np.ndarray:
    """Return the sums of products of the window with the search area at all integer positions."""
    size = search.shape[:2]
    spectrum = np.fft.rfft2(search, axes=(0, 1)) * np.fft.rfft2(window, size, axes=(0, 1)).conj()
    return np.fft.irfft2(spectrum.sum(2), size)[:count, :count]


def _inputs(
    img: np.ndarray,
    img2: np.ndarray,
    blurry: np.ndarray | None,
    kernel: np.ndarray | None,
    of: str,
    luma: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image that is scored and the ground truth as float64 in [0, 1]."""
    if of not in ('result', 'blurry', 'wiener', 'sparse'):
        raise UserError(f'of is {of!r} in a metric, expected result, blurry, wiener or sparse')
    if of != 'result':
        if blurry is None:
            raise UserError(f'a metric with of: {of} needs the blurry image, which is missing')
        img = blurry
    images = check_inputs(img, img2)
    result, reference = (image / images.peak for image in images[:2])
    if luma and result.ndim == 3:
        result, reference = (cv2.transform(image, np.hstack([LUMA, [[16.0]]])) / 255 for image in (result, reference))
    elif result.ndim == 3 and (reference == reference[..., :1]).all():
        result, reference = result.mean(2), reference[..., 0]
    if of in ('wiener', 'sparse'):
        if kernel is None:
            raise UserError(
                f'a metric needs the true kernel of {describe(img)}, which is not known: remove it, or test on a '
                'dataset with kernels, such as those of Levin and Lai'
            )
        result = _deconvolve(of, result.tobytes(), result.shape, kernel.tobytes(), kernel.shape, kernel.dtype)
    return result, reference


@functools.lru_cache(maxsize=2)
def _deconvolve(
    of: str,
    blurry: bytes,
    shape: tuple[int, ...],
    kernel: bytes,
    kernel_shape: tuple[int, ...],
    kernel_dtype: np.dtype,
) -> np.ndarray:
    """Deconvolve an image given as bytes, so that the cache, shared by several metrics, compares the content."""
    deconvolve = deconvolve_wiener if of == 'wiener' else deconvolve_sparse
    return deconvolve(np.frombuffer(blurry).reshape(shape), np.frombuffer(kernel, kernel_dtype).reshape(kernel_shape))
