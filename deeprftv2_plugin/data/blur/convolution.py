"""Convolution of a picture with a kernel, and with kernels that change from place to place."""

import cv2
import numpy as np

TILE = 11
"""Side of the largest kernel that OpenCV adds up weight by weight, skipping zeros, before it turns to Fourier."""

DENSE = 500
"""Weights from which on Fourier transforms are the faster way."""


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """True convolution of (H, W, C) with (k, k), k odd, where the kernel lies inside the picture.

    Returns:
        Array (H - k + 1, W - k + 1, C).
    """
    side = kernel.shape[0]
    height, width = image.shape[0] - side + 1, image.shape[1] - side + 1
    # OpenCV correlates; with the kernel turned by 180 degrees that is a convolution.
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    step = side if np.count_nonzero(kernel) > DENSE else TILE
    total = np.zeros((height, width, image.shape[2]), np.float32)
    for top in range(0, side, step):
        for left in range(0, side, step):
            tile = turned[top : top + step, left : left + step]
            if tile.any():
                seen = image[top : top + height + tile.shape[0] - 1, left : left + width + tile.shape[1] - 1]
                part = cv2.filter2D(seen, -1, tile, anchor=(0, 0))
                total += part.reshape(seen.shape)[:height, :width]
    return total


def convolve_varying(image: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    r"""Convolution of (H, W, C) with kernels (rows, columns, k, k) that change from place to place.

    The kernels belong to the points of a grid from corner to corner of the result; between them the results
    of the four around are interpolated:

    .. math:: y = \sum_r w_r \cdot (k_r * x), \qquad \sum_r w_r = 1

    with weights w that are bilinear hats. It is linear in the picture and keeps a constant one. With one
    point, or with equal kernels, it is `convolve`.

    Nagy and O'Leary, "Restoring Images Degraded by Spatially Variant Blur", SIAM Journal on Scientific
    Computing 19(4), 1998; Hirsch et al., "Efficient Filter Flow for Space-Variant Multiframe Blind
    Deconvolution", CVPR 2010, where the weights come before the convolutions.

    Returns:
        Array (H - k + 1, W - k + 1, C).
    """
    beyond = kernels.shape[-1] - 1
    shape = image.shape[0] - beyond, image.shape[1] - beyond
    down, right = (_hats(length, points) for length, points in zip(shape, kernels.shape, strict=False))
    total = np.zeros((*shape, image.shape[2]), np.float32)
    for row_kernels, (rows, row_weights) in zip(kernels, down, strict=True):
        for kernel, (columns, column_weights) in zip(row_kernels, right, strict=True):
            seen = image[rows.start : rows.stop + beyond, columns.start : columns.stop + beyond]
            weights = row_weights[:, None, None] * column_weights[:, None]
            total[rows, columns] += weights * convolve(seen, kernel)
    return total


def _hats(length: int, points: int) -> list[tuple[slice, np.ndarray]]:
    """Where each of the points, spread over a length, has a weight in the linear interpolation, and the weights."""
    weights = 1 - np.abs(np.linspace(0, points - 1, length, dtype=np.float32) - np.arange(points)[:, None])
    hats = []
    for weight in weights.clip(0).astype(np.float32):
        seen = np.flatnonzero(weight)
        part = slice(seen[0], seen[-1] + 1) if seen.size else slice(0, 0)
        hats.append((part, weight[part]))
    return hats
