"""Convolution of an image with one kernel, or with kernels that vary across the image."""

import cv2
import numpy as np

TILE = 11
"""Largest kernel size that OpenCV convolves directly, without Fourier transforms."""

DENSE = 500
"""Number of nonzero weights above which Fourier transforms are faster."""


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve an image (H, W, C) with a kernel (k, k), k odd, at the pixels where the kernel is inside the image.

    Returns:
        Array (H - k + 1, W - k + 1, C).
    """
    side = kernel.shape[0]
    height, width = image.shape[0] - side + 1, image.shape[1] - side + 1
    # OpenCV computes a correlation, which is a convolution with the kernel rotated by 180 degrees.
    rotated = np.ascontiguousarray(kernel[::-1, ::-1])
    step = side if np.count_nonzero(kernel) > DENSE else TILE
    total = np.zeros((height, width, image.shape[2]), np.float32)
    for top in range(0, side, step):
        for left in range(0, side, step):
            tile = rotated[top : top + step, left : left + step]
            if tile.any():
                source = image[top : top + height + tile.shape[0] - 1, left : left + width + tile.shape[1] - 1]
                part = cv2.filter2D(source, -1, tile, anchor=(0, 0))
                total += part.reshape(source.shape)[:height, :width]
    return total


def convolve_varying(image: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    r"""Convolve an image (H, W, C) with kernels (rows, columns, k, k) that vary across the image.

    The kernels belong to grid points that span the result from corner to corner. Between grid points, the results of
    the four surrounding kernels are interpolated:

    .. math:: y = \sum_r w_r \cdot (k_r * x), \qquad \sum_r w_r = 1

    with bilinear weights w. The operation is linear in the image and preserves constant images. With one grid point or
    with equal kernels it equals `convolve`.

    Returns:
        Array (H - k + 1, W - k + 1, C).

    References:
        Nagy and O'Leary, "Restoring Images Degraded by Spatially Variant Blur", SIAM J. Sci. Comput. 19(4), 1998.
        Hirsch et al., "Efficient Filter Flow for Space-Variant Multiframe Blind Deconvolution", CVPR 2010, who apply
        the weights before the convolutions.
    """
    border = kernels.shape[-1] - 1
    shape = image.shape[0] - border, image.shape[1] - border
    down, right = (_linear_weights(length, points) for length, points in zip(shape, kernels.shape, strict=False))
    total = np.zeros((*shape, image.shape[2]), np.float32)
    for row_kernels, (rows, row_weights) in zip(kernels, down, strict=True):
        for kernel, (columns, column_weights) in zip(row_kernels, right, strict=True):
            source = image[rows.start : rows.stop + border, columns.start : columns.stop + border]
            weights = row_weights[:, None, None] * column_weights[:, None]
            total[rows, columns] += weights * convolve(source, kernel)
    return total


def _linear_weights(length: int, points: int) -> list[tuple[slice, np.ndarray]]:
    """Return the range and the values of the nonzero linear interpolation weights of evenly spaced grid points."""
    weights = 1 - np.abs(np.linspace(0, points - 1, length, dtype=np.float32) - np.arange(points)[:, None])
    found = []
    for weight in weights.clip(0).astype(np.float32):
        nonzero = np.flatnonzero(weight)
        part = slice(int(nonzero[0]), int(nonzero[-1]) + 1) if nonzero.size else slice(0, 0)
        found.append((part, weight[part]))
    return found
