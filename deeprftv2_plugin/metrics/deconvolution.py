r"""Deconvolution with a known kernel, as a reference for blind deblurring.

The blurry image y is the convolution k * x of the kernel k with a scene x that extends beyond the border of y. Both
functions return an image of the size of y.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

GRADIENTS = (
    (1.0, ((0, 0, 1.0), (0, 1, -1.0))),
    (1.0, ((0, 0, 1.0), (1, 0, -1.0))),
    (0.25, ((0, 0, -1.0), (0, 1, 2.0), (0, 2, -1.0))),
    (0.25, ((0, 0, -1.0), (1, 0, 2.0), (2, 0, -1.0))),
    (0.25, ((0, 0, -1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, -1.0))),
)
"""First and second derivatives: the weight in the prior, and the filter as (row, column, value)."""


def deconvolve_wiener(blurry: np.ndarray, kernel: np.ndarray, noise: float = 0.01) -> np.ndarray:
    r"""Deconvolve an image with a Wiener filter.

    .. math:: X = \frac{\bar K\, Y}{|K|^2 + \lambda \left( |D_r|^2 + |D_c|^2 \right)}

    with the differences :math:`D_r` and :math:`D_c` of neighboring rows and columns, the prior for a scene whose power
    decreases with the square of the frequency. The image is extended by reflection to twice its size, so that the
    circular convolution has no jumps at the border.

    Args:
        blurry: Array (H, W) or (H, W, C) of floating-point numbers.
        kernel: The kernel (k, k), k odd, with sum one.
        noise: The noise-to-signal ratio :math:`\lambda`.

    Returns:
        Array of the shape of `blurry`.

    References:
        Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series", 1949.
    """
    planes = np.atleast_3d(blurry)
    height, width = planes.shape[:2]
    whole = np.pad(planes, ((height // 2, height - height // 2), (width // 2, width - width // 2), (0, 0)), 'symmetric')
    size = whole.shape[:2]
    transfer = _transfer(kernel, size)
    roughness = np.abs(np.fft.rfft2([[1, -1]], size)) ** 2 + np.abs(np.fft.rfft2([[1], [-1]], size)) ** 2
    inverse = transfer.conj() / (np.abs(transfer) ** 2 + noise * roughness)
    found = np.fft.irfft2(inverse[..., None] * np.fft.rfft2(whole, axes=(0, 1)), size, axes=(0, 1))
    part = found[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
    return part.reshape(blurry.shape)


def deconvolve_sparse(
    blurry: np.ndarray, kernel: np.ndarray, weight: float = 0.0068, iterations: int = 70, reweightings: int = 2
) -> np.ndarray:
    r"""Deconvolve an image with the sparse derivative prior of Levin et al.

    .. math:: \min_x \sum_{p} (k * x - y)_p^2 + w \sum_i a_i \sum_p \rho(D_i x)_p, \qquad \rho(d) \sim |d|^{0.8}

    with first and second derivatives :math:`D_i`. The scene x extends beyond y by the radius of the kernel, and the
    first sum is over the pixels of y only, so that nothing is assumed about the border. The minimum is found by
    iteratively reweighted least squares. The first solution has :math:`\rho(d) = d^2` and :math:`a_i = 1`. The
    following ones have :math:`\rho(d) = 0.1 \max(|d'|, 0.01)^{-1.2} d^2` with the derivative d' of the previous
    solution, and :math:`a_i = 0.25` for second derivatives. Each solution takes `iterations` steps of conjugate
    gradients, starting from the image extended by replication.

    The default values are those with which the authors' code computes the error ratio.

    Args:
        blurry: Array (H, W) or (H, W, C) of floating-point numbers in [0, 1].
        kernel: The kernel (k, k), k odd, with sum one.
        weight: The weight w of the prior.
        iterations: Steps of conjugate gradients for each solution.
        reweightings: Number of solutions after the first one.

    Returns:
        Array of the shape of `blurry`.

    References:
        Levin et al., "Image and Depth from a Conventional Camera with a Coded Aperture", SIGGRAPH 2007.
        Levin et al., "Understanding and Evaluating Blind Deconvolution Algorithms", CVPR 2009.
    """
    if blurry.ndim == 3:
        planes = np.moveaxis(blurry, 2, 0)
        return np.stack([deconvolve_sparse(plane, kernel, weight, iterations, reweightings) for plane in planes], 2)
    radius = kernel.shape[0] // 2
    start = np.pad(blurry, radius, 'edge')
    inside = np.zeros_like(start)
    inside[radius : radius + blurry.shape[0], radius : radius + blurry.shape[1]] = 1
    # at the pixels of the image, the circular convolution of the scene equals the linear one
    size = [cv2.getOptimalDFTSize(length) for length in start.shape]
    transfer = _transfer(kernel, size)

    def convolve(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(factor * np.fft.rfft2(x, size), size)[: x.shape[0], : x.shape[1]]

    target = convolve(start * inside, transfer.conj())
    factors: list[np.ndarray | float] = [1.0] * len(GRADIENTS)
    x = start
    for number in range(1 + reweightings):
        if number:
            factors = [
                share * 0.1 * np.maximum(np.abs(_apply(taps, x)), 0.01) ** (0.8 - 2) for share, taps in GRADIENTS
            ]

        def normal(v: np.ndarray, factors: list = factors) -> np.ndarray:
            total = convolve(inside * convolve(v, transfer), transfer.conj())
            for (_, taps), factor in zip(GRADIENTS, factors, strict=True):
                total += weight * _apply_adjoint(taps, factor * _apply(taps, v), v.shape)
            return total

        x = _conjugate_gradients(normal, target, start, iterations)
    return x[radius : radius + blurry.shape[0], radius : radius + blurry.shape[1]]


def _transfer(kernel: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return the half spectrum, for maps of this size, of a kernel with its origin in the center."""
    whole = np.zeros(tuple(size))
    whole[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.rfft2(np.roll(whole, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1)))


def _windows(taps: tuple, shape: tuple[int, ...]) -> Iterator[tuple[float, tuple[slice, slice]]]:
    """Yield each value of a filter and the part of a map that it multiplies."""
    height, width = (length - max(tap[axis] for tap in taps) for axis, length in enumerate(shape))
    for row, column, value in taps:
        yield value, np.s_[row : row + height, column : column + width]


def _apply(taps: tuple, x: np.ndarray) -> np.ndarray:
    """Return the correlation of a map with a filter at the positions where the filter is inside the map."""
    return functools.reduce(np.add, (value * x[part] for value, part in _windows(taps, x.shape)))


def _apply_adjoint(taps: tuple, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    total = np.zeros(shape)
    for value, part in _windows(taps, shape):
        total[part] += value * values
    return total


def _conjugate_gradients(
    operator: Callable[[np.ndarray], np.ndarray], target: np.ndarray, start: np.ndarray, iterations: int
) -> np.ndarray:
    """Approximately solve a linear system with a symmetric positive semidefinite operator."""
    x = start.copy()
    residual = target - operator(x)
    direction, power = residual, float(np.square(residual).sum())
    for _ in range(iterations):
        if power < 1e-16:
            break
        step = operator(direction)
        length = power / float((direction * step).sum())
        x += length * direction
        residual = residual - length * step
        before, power = power, float(np.square(residual).sum())
        direction = residual + power / before * direction
    return x
