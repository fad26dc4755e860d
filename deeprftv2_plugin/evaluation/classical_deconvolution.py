"""Classical deconvolution as a reference: with the true kernel, and blind."""

import numpy as np
import torch
from torch import Tensor

from deeprftv2_plugin.data.blur.camera import linear_to_srgb, srgb_to_linear

PAD = 32
"""Width of the reflection padding before a deconvolution, in pixels."""
BALANCES = (0.003, 0.01, 0.03)
"""Regularization parameters of the Wiener filter."""
ITERATIONS = (10, 30)
"""Numbers of Richardson-Lucy iterations."""


def wiener(blurry: Tensor, kernel: np.ndarray, balance: float) -> Tensor:
    """Deconvolve an image with scikit-image's Wiener filter, in linear light.

    Args:
        blurry: Image (3, h, w) in [0, 1].
        kernel: The kernel (k, k) with sum one.
        balance: Regularization parameter, larger for smoother results.

    Returns:
        Image (3, h, w) in [0, 1].
    """
    from skimage.restoration import wiener as filtered

    return _in_linear_light(blurry, lambda channel: filtered(channel, kernel, balance, clip=False))


def richardson_lucy(blurry: Tensor, kernel: np.ndarray, iterations: int) -> Tensor:
    """Deconvolve an image with scikit-image's Richardson-Lucy iterations, in linear light.

    Args:
        blurry: Image (3, h, w) in [0, 1].
        kernel: The kernel (k, k) with sum one.
        iterations: Number of iterations.

    Returns:
        Image (3, h, w) in [0, 1].
    """
    from skimage.restoration import richardson_lucy as iterated

    return _in_linear_light(blurry, lambda channel: iterated(channel, kernel, iterations))


def _in_linear_light(image, deconvolve):
    channels = [np.pad(srgb_to_linear(each), PAD, mode='reflect') for each in image.numpy().astype(np.float64)]
    inner = slice(PAD, -PAD)
    restored = np.stack([deconvolve(each)[inner, inner] for each in channels])
    return torch.from_numpy(linear_to_srgb(restored.clip(0, 1)).astype(np.float32))


def blind_richardson_lucy(blurry: Tensor, side: int, rounds: int = 10, inner: int = 3) -> np.ndarray:
    """Estimate the blur kernel of an image, of which only the size is known.

    Alternates Richardson-Lucy iterations for the kernel and the image, starting from a disc and the blurry image.

    Args:
        blurry: Image (3, h, w) in [0, 1].
        side: Height and width of the kernel, an odd number.
        rounds: Number of alternations.
        inner: Number of iterations for each of the two in a round.

    Returns:
        Kernel (side, side), nonnegative, with sum one.

    References:
        Fish et al., "Blind deconvolution by means of the Richardson-Lucy algorithm", JOSA A 12(1), 1995.
    """
    observed = np.pad(srgb_to_linear(blurry.numpy().astype(np.float64)).mean(0), PAD, mode='reflect').clip(1e-4)
    size, reach = observed.shape, side // 2
    offsets = np.arange(-reach, reach + 1)
    inside = offsets[:, None] ** 2 + offsets**2 <= (reach + 0.5) ** 2
    kernel = np.zeros(size)
    rows, columns = (np.add.outer(offsets, [0] * side), np.add.outer([0] * side, offsets))
    kernel[rows, columns] = inside / inside.sum()
    image = observed.copy()

    def update(estimate, other):
        """Return an estimate after one iteration, given the factor with which it is convolved."""
        spectrum = np.fft.rfft2(other)
        ratio = observed / np.fft.irfft2(np.fft.rfft2(estimate) * spectrum, size).clip(1e-6)
        return estimate * np.fft.irfft2(np.fft.rfft2(ratio) * spectrum.conj(), size).clip(0) / other.sum()

    for _ in range(rounds):
        for _ in range(inner):
            kernel = update(kernel, image)
            kernel /= kernel.sum()
        for _ in range(inner):
            image = update(image, kernel)
    return kernel[rows, columns] / kernel[rows, columns].sum()
