"""Products of the two halves of the channels, with and without a depthwise convolution before."""

import math

from torch import Tensor

from deeprftv2_plugin.ops.library import empty_like_all, empty_map, operator
from deeprftv2_plugin.ops.precision import result_type

TAPS = 9
"""Number of weights of a depthwise kernel."""


def simple_gate(x: Tensor) -> Tensor:
    """Return the product of the first and the second half of the channels: (N, 2 C, H, W) to (N, C, H, W).

    Raises:
        ValueError: The number of channels is odd.
    """
    _check_halves(x)
    return _simple_gate(x)


def depthwise_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a 3x3 depthwise convolution with zero padding, then `simple_gate`.

    Args:
        x: Map of shape (N, 2 C, H, W).
        weight: Kernels of shape (2 C, 1, 3, 3).
        bias: Bias of shape (2 C,).

    Returns:
        Map of shape (N, C, H, W) in channels_last, of x's type or of autocast's.

    Raises:
        ValueError: The number of channels is odd, or weight and bias do not match it.
    """
    _check_halves(x)
    _check_kernels(x, weight, bias)
    return _depthwise_gate(*_of_one_type(x, weight, bias))


def depthwise_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a 3x3 depthwise convolution with zero padding, then a GELU: (N, C, H, W) to the same shape.

    Raises:
        ValueError: Weight and bias do not match the channels.
    """
    _check_kernels(x, weight, bias)
    return _depthwise_gelu(*_of_one_type(x, weight, bias))


def _of_one_type(x, *parameters):
    dtype = result_type(x)
    return [t.to(dtype) for t in (x, *parameters)]


def _check_halves(x):
    if x.ndim != 4 or x.shape[1] % 2:
        raise ValueError(f'a gate takes maps (N, 2 C, H, W) with an even number of channels, found {tuple(x.shape)}')


def _check_kernels(x, weight, bias):
    if weight.shape != (x.shape[1], 1, 3, 3) or bias.shape != weight.shape[:1]:
        raise ValueError(
            f'kernels for {x.shape[1]} channels are ({x.shape[1]}, 1, 3, 3) with a bias ({x.shape[1]},), found '
            f'{tuple(weight.shape)} and {tuple(bias.shape)}'
        )


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _fake_backward(dy, x, weight, bias):
    return empty_map(x), *empty_like_all(weight, bias)


def _flops(x, *_):
    return 2 * TAPS * math.prod(x)


def _flops_backward(dy, x, *_):
    """Count the recomputed convolution, and the products for the gradients of map and weight."""
    return 3 * _flops(x)


_simple_gate_backward = operator('simple_gate_backward(Tensor dy, Tensor x) -> Tensor', fake=lambda dy, x: empty_map(x))
_simple_gate = operator(
    'simple_gate(Tensor x) -> Tensor',
    fake=lambda x: empty_map(x, x.shape[1] // 2),
    save=_save,
    backward=lambda ctx, dy: _simple_gate_backward(dy, *ctx.saved_tensors),
)
_depthwise_gate_backward = operator(
    'depthwise_gate_backward(Tensor dy, Tensor x, Tensor weight, Tensor bias) -> (Tensor, Tensor, Tensor)',
    fake=_fake_backward,
    flops=_flops_backward,
)
_depthwise_gate = operator(
    'depthwise_gate(Tensor x, Tensor weight, Tensor bias) -> Tensor',
    fake=lambda x, weight, bias: empty_map(x, x.shape[1] // 2),
    save=_save,
    backward=lambda ctx, dy: _depthwise_gate_backward(dy, *ctx.saved_tensors),
    flops=_flops,
)
_depthwise_gelu_backward = operator(
    'depthwise_gelu_backward(Tensor dy, Tensor x, Tensor weight, Tensor bias) -> (Tensor, Tensor, Tensor)',
    fake=_fake_backward,
    flops=_flops_backward,
)
_depthwise_gelu = operator(
    'depthwise_gelu(Tensor x, Tensor weight, Tensor bias) -> Tensor',
    fake=lambda x, weight, bias: empty_map(x),
    save=_save,
    backward=lambda ctx, dy: _depthwise_gelu_backward(dy, *ctx.saved_tensors),
    flops=_flops,
)
