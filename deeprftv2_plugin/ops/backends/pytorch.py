"""The backend in plain PyTorch, for every device and dtype. It is the reference for the others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deeprftv2_plugin.ops.backends.pytorch_scan import scan_entries_shape, selective_scan, selective_scan_backward
from deeprftv2_plugin.ops.fourier import as_complex, as_parts, hermitian_columns
from deeprftv2_plugin.ops.precision import at_least_float32

__all__ = ['scan_entries_shape', 'selective_scan', 'selective_scan_backward']


def why_not() -> None:
    return None


def takes(x: Tensor) -> bool:
    return True


def layer_norm(x, weight, bias, eps, dtype):
    rows = at_least_float32(_rows(x))
    return _map(F.layer_norm(rows, weight.shape, weight.to(rows.dtype), bias.to(rows.dtype), eps).to(dtype))


def layer_norm_backward(dy, x, weight, eps):
    rows, gain = at_least_float32(_rows(x)), at_least_float32(weight)
    normalized, mean, scale = torch.native_layer_norm(rows, weight.shape, None, None, eps)
    dy = _rows(dy).to(rows.dtype)
    dx, _, _ = torch.ops.aten.native_layer_norm_backward(
        dy, rows, weight.shape, mean, scale, gain, None, (True, False, False)
    )
    dweight, dbias = (dy * normalized).sum((0, 1, 2)), dy.sum((0, 1, 2))
    return _map(dx.to(x.dtype)), dweight.to(weight.dtype), dbias.to(weight.dtype)


def gated_layer_norm(x, gate, weight, bias, eps, dtype):
    normalized = layer_norm(x, weight, bias, eps, at_least_float32(x).dtype)
    return _channels_last(normalized * F.gelu(gate.to(normalized.dtype))).to(dtype)


def gated_layer_norm_backward(dy, x, gate, weight, bias, eps):
    dtype = at_least_float32(x).dtype
    dy, opening = dy.to(dtype), gate.to(dtype)
    normalized = layer_norm(x, weight, bias, eps, dtype)
    dgate = torch.ops.aten.gelu_backward(dy * normalized, opening)
    dx, dweight, dbias = layer_norm_backward(dy * F.gelu(opening), x, weight, eps)
    return dx, _channels_last(dgate.to(gate.dtype)), dweight, dbias


def simple_gate(x):
    first, second = x.chunk(2, dim=1)
    return _channels_last(first * second)


def simple_gate_backward(dy, x):
    first, second = x.chunk(2, dim=1)
    return _channels_last(torch.cat([dy * second, dy * first], 1))


def depthwise_gate(x, weight, bias):
    return simple_gate(_depthwise(x, weight, bias))


def depthwise_gate_backward(dy, x, weight, bias):
    return _depthwise_backward(simple_gate_backward(dy, _depthwise(x, weight, bias)), x, weight)


def depthwise_gelu(x, weight, bias):
    return _channels_last(F.gelu(_depthwise(x, weight, bias)))


def depthwise_gelu_backward(dy, x, weight, bias):
    return _depthwise_backward(torch.ops.aten.gelu_backward(dy, _depthwise(x, weight, bias)), x, weight)


def half_spectrum(x):
    return as_parts(torch.fft.rfft2(x))


def half_spectrum_backward(dy, width):
    """Apply the transposed transform: the inverse, but columns that it counts twice are counted once."""
    spectrum = as_complex(dy)
    spectrum[..., 1 : (width + 1) // 2] *= 0.5
    return torch.fft.irfft2(hermitian_columns(spectrum, width), s=(dy.shape[2], width), norm='forward')


def spectral_filter(x, transfer):
    product = torch.fft.rfft2(x) * as_complex(transfer)
    return _channels_last(torch.fft.irfft2(hermitian_columns(product, x.shape[3]), s=x.shape[2:]))


def spectral_filter_backward(dy, x, transfer):
    """Return the gradients: a correlation with the kernels, and the product of the spectra of x and dy."""
    width, gradient = x.shape[3], torch.fft.rfft2(dy)
    product = gradient * as_complex(transfer).conj_physical()
    dx = torch.fft.irfft2(hermitian_columns(product, width), s=x.shape[2:])
    gradient = gradient * torch.fft.rfft2(x, norm='forward').conj_physical()
    gradient[..., 1 : (width + 1) // 2] *= 2
    return _channels_last(dx), as_parts(gradient)


def _depthwise(x, weight, bias):
    return F.conv2d(_channels_last(x), weight, bias, padding=1, groups=x.shape[1])


def _depthwise_backward(dz, x, weight):
    stride = padding = dilation = (1, 1)
    shape = (stride, padding, dilation, False, (0, 0), x.shape[1])  # not transposed, one group per channel
    dx, dweight, dbias = torch.ops.aten.convolution_backward(
        _channels_last(dz), _channels_last(x), weight, weight.shape[:1], *shape, (True, True, True)
    )
    return _channels_last(dx), dweight.contiguous(), dbias


def _channels_last(x):
    return _map(_rows(x))


def _rows(x):
    """Return the pixels of a map as a contiguous tensor (N, H, W, C)."""
    return x.permute(0, 2, 3, 1).contiguous()


def _map(rows):
    return rows.permute(0, 3, 1, 2)
