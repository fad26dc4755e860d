"""Layer normalisation of every pixel of a map over its channels."""

from torch import Tensor

from deeprftv2_plugin.ops.backends import choose


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise every pixel over its channels.

    Args:
        x: Map of shape (N, C, H, W).
        weight: Factor of every channel, of shape (C,).
        bias: Added to every channel, of shape (C,).
        eps: Added to the biased variance.

    Returns:
        Map of x's shape. Means and variances are at least float32.

    Raises:
        ValueError: Shapes that do not fit.
    """
    _need_fitting(x, weight, bias)
    return choose('layer_norm', x)(x, weight, bias, eps)


def gated_layer_norm(x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`layer_norm` of x times the GELU of `gate`, a map of x's shape."""
    _need_fitting(x, weight, bias)
    if gate.shape != x.shape:
        raise ValueError(f'x and its gate must have one shape, found {tuple(x.shape)} and {tuple(gate.shape)}')
    return choose('gated_layer_norm', x)(x, gate, weight, bias, eps)


def _need_fitting(x, weight, bias):
    if x.ndim != 4 or weight.shape != x.shape[1:2] or bias.shape != weight.shape:
        raise ValueError(
            f'a map (N, C, H, W) takes a weight and a bias (C,), found {tuple(x.shape)}, {tuple(weight.shape)} and '
            f'{tuple(bias.shape)}'
        )
