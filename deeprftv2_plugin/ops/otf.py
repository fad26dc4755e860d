"""A convolution kernel in space (point spread function) and in frequency (optical transfer function)."""

import torch
from torch import Tensor


def psf_from_otf(otf: Tensor, size: tuple[int, int]) -> Tensor:
    """Point spread functions of transfer functions.

    Args:
        otf: Complex half spectra of shape (..., h, w // 2 + 1), as `torch.fft.rfft2` lays them out.
        size: The height h and width w of the map in pixels.

    Returns:
        Real kernels of shape (..., h, w) whose origin stands at pixel (h // 2, w // 2).
    """
    if otf.shape[-2:] != (size[0], size[1] // 2 + 1):
        raise ValueError(
            f'a map of {size[0]}x{size[1]} has a half spectrum of {size[0]}x{size[1] // 2 + 1}, '
            f'found {otf.shape[-2]}x{otf.shape[-1]}'
        )
    return torch.fft.fftshift(torch.fft.irfft2(otf, s=size), dim=(-2, -1))


def otf_from_psf(psf: Tensor) -> Tensor:
    """Undo `psf_from_otf`: transfer functions (..., h, w // 2 + 1) of kernels (..., h, w)."""
    return torch.fft.rfft2(torch.fft.ifftshift(psf, dim=(-2, -1)))
