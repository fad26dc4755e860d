"""Real Fourier transforms of feature maps, with the same convention for half spectra on every device.

A half spectrum contains the columns 0 to w // 2 of a transform. In the half spectrum of a real map, the columns 0 and,
if w is even, w / 2 are Hermitian: the value at row -k is the conjugate of the value at row k. In its product with a
transfer function they are not, and libraries interpret such columns differently. This module uses their Hermitian part,
as NumPy does.
"""

import torch
from torch import Tensor

from deeprftv2_plugin.ops.library import empty_map, operator


def irfft2(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """Invert half spectra, with the same result as `numpy.fft.irfft2` on every device.

    Args:
        spectrum: Complex half spectra of shape (..., h, w // 2 + 1).
        size: Height h and width w of the result.

    Returns:
        Real tensor of shape (..., h, w).

    Raises:
        ValueError: The sizes do not match.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin import ops
        >>> x = torch.rand(3, 6, 8)
        >>> torch.allclose(ops.irfft2(torch.fft.rfft2(x), (6, 8)), x, atol=1e-6)
        True
    """
    if spectrum.shape[-2:] != (size[0], size[1] // 2 + 1):
        raise ValueError(
            f'a map of {size[0]}x{size[1]} has a half spectrum of {size[0]}x{size[1] // 2 + 1}, '
            f'found {spectrum.shape[-2]}x{spectrum.shape[-1]}'
        )
    return torch.fft.irfft2(hermitian_columns(spectrum, size[1]), s=size)


def half_spectrum(x: Tensor) -> Tensor:
    """Return the half spectrum of a real map, with real and imaginary parts as channels.

    Args:
        x: Map of shape (N, C, h, w) in float32 or float64.

    Returns:
        Map of shape (N, 2 C, h, w // 2 + 1) in channels_last: the real parts of all channels, then the imaginary ones.
    """
    return _half_spectrum(x)


def spectral_filter(x: Tensor, transfer: Tensor) -> Tensor:
    """Convolve every channel circularly with the kernel of a transfer function, as a product of spectra.

    Args:
        x: Map of shape (N, C, h, w) in float32 or float64.
        transfer: Transfer functions of shape (N, 2 C, h, w // 2 + 1), laid out as `half_spectrum` returns them.

    Returns:
        Map of shape (N, C, h, w) in channels_last.

    Raises:
        ValueError: The shapes do not match.
    """
    if transfer.shape != (x.shape[0], 2 * x.shape[1], x.shape[2], x.shape[3] // 2 + 1):
        raise ValueError(f'transfer functions of shape {tuple(transfer.shape)} do not match a map {tuple(x.shape)}')
    return _spectral_filter(x, transfer)


def as_complex(parts: Tensor) -> Tensor:
    """Convert real and imaginary parts (N, 2 C, h, w) to complex numbers (N, C, h, w)."""
    pairs = parts.permute(0, 2, 3, 1).unflatten(3, (2, -1)).permute(0, 4, 1, 2, 3)
    return torch.view_as_complex(pairs.contiguous())


def as_parts(numbers: Tensor) -> Tensor:
    """Split complex numbers (N, C, h, w) into real and imaginary parts (N, 2 C, h, w) in channels_last."""
    return torch.view_as_real(numbers).permute(0, 2, 3, 4, 1).flatten(3).contiguous().permute(0, 3, 1, 2)


def hermitian_columns(spectrum: Tensor, width: int) -> Tensor:
    """Replace the columns of half spectra that are their own mirror images by their Hermitian parts.

    Args:
        spectrum: Complex half spectra of shape (..., h, width // 2 + 1).
        width: Width of the map.

    Returns:
        Tensor of the same shape, which equals the half spectra of NumPy's inverse transforms.
    """
    first, between, last = spectrum.split([1, (width - 1) // 2, 1 - width % 2], dim=-1)
    first, last = ((column + column.flip(-2).roll(1, -2).conj_physical()) / 2 for column in (first, last))
    return torch.cat([first, between, last], -1)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _save_width(ctx, inputs, output):
    ctx.width = inputs[0].shape[3]


_half_spectrum_backward = operator(
    'half_spectrum_backward(Tensor dy, int width) -> Tensor',
    fake=lambda dy, width: dy.new_empty((dy.shape[0], dy.shape[1] // 2, dy.shape[2], width)),
)
_half_spectrum = operator(
    'half_spectrum(Tensor x) -> Tensor',
    fake=lambda x: empty_map(x[..., : x.shape[3] // 2 + 1], 2 * x.shape[1]),
    save=_save_width,
    backward=lambda ctx, dy: _half_spectrum_backward(dy, ctx.width),
)
_spectral_filter_backward = operator(
    'spectral_filter_backward(Tensor dy, Tensor x, Tensor transfer) -> (Tensor, Tensor)',
    fake=lambda dy, x, transfer: (empty_map(x), empty_map(transfer)),
)
_spectral_filter = operator(
    'spectral_filter(Tensor x, Tensor transfer) -> Tensor',
    fake=lambda x, transfer: empty_map(x),
    save=_save,
    backward=lambda ctx, dy: _spectral_filter_backward(dy, *ctx.saved_tensors),
)
