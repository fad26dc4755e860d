"""Conversion between convolution kernels (point spread functions) and their optical transfer functions."""

import torch
from torch import Tensor

from deeprftv2_plugin.ops.fourier import irfft2


def psf_from_otf(otf: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the point spread functions of transfer functions.

    Args:
        otf: Complex half spectra of shape (..., h, w // 2 + 1), in the layout of `torch.fft.rfft2`.
        size: The height h and width w of the map in pixels.

    Returns:
        Real kernels of shape (..., h, w) with their origin at pixel (h // 2, w // 2).

    Raises:
        ValueError: The half spectra do not have this size.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin import ops
        >>> psf = ops.psf_from_otf(torch.ones(4, 3, dtype=torch.complex64), (4, 4))  # keeps every frequency: an impulse
        >>> psf.shape, psf[2, 2].item()
        (torch.Size([4, 4]), 1.0)
    """
    return torch.fft.fftshift(irfft2(otf, size), dim=(-2, -1))


def otf_from_psf(psf: Tensor) -> Tensor:
    """Undo `psf_from_otf`: return the transfer functions (..., h, w // 2 + 1) of kernels (..., h, w)."""
    return torch.fft.rfft2(torch.fft.ifftshift(psf, dim=(-2, -1)))
