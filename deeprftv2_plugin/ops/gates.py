"""Products of channels with channels, alone and after a depthwise convolution."""

from torch import Tensor

from deeprftv2_plugin.ops.backends import choose


def simple_gate(x: Tensor) -> Tensor:
    """The product of the first and the second half of the channels: (N, 2 C, H, W) to (N, C, H, W).

    Raises:
        ValueError: The number of channels is odd.
    """
    _need_halves(x)
    return choose('simple_gate', x)(x)


def depthwise_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`simple_gate` after a depthwise convolution of 3x3 with a border of zeros.

    Args:
        x: Map of shape (N, 2 C, H, W).
        weight: Kernels of shape (2 C, 1, 3, 3).
        bias: Of shape (2 C,).

    Returns:
        Map of shape (N, C, H, W).

    Raises:
        ValueError: The number of channels is odd, or weight and bias do not fit it.
    """
    _need_halves(x)
    _need_kernels(x, weight, bias)
    return choose('depthwise_gate', x)(x, weight, bias)


def depthwise_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU after a depthwise convolution of 3x3 with a border of zeros: (N, C, H, W) to the same.

    Raises:
        ValueError: Weight and bias do not fit the channels.
    """
    _need_kernels(x, weight, bias)
    return choose('depthwise_gelu', x)(x, weight, bias)


def _need_halves(x):
    if x.ndim != 4 or x.shape[1] % 2:
        raise ValueError(f'a gate takes maps (N, 2 C, H, W) with an even number of channels, found {tuple(x.shape)}')


def _need_kernels(x, weight, bias):
    if weight.shape != (x.shape[1], 1, 3, 3) or bias.shape != weight.shape[:1]:
        raise ValueError(
            f'kernels for {x.shape[1]} channels are ({x.shape[1]}, 1, 3, 3) with a bias ({x.shape[1]},), found '
            f'{tuple(weight.shape)} and {tuple(bias.shape)}'
        )
