"""Layer normalization of every pixel of a feature map over its channels, with and without a gate."""

from torch import Tensor

from deeprftv2_plugin.ops.library import empty_like_all, empty_map, operator
from deeprftv2_plugin.ops.precision import result_type


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalize every pixel over its channels.

    Args:
        x: Map of shape (N, C, H, W).
        weight: Weight of every channel, of shape (C,).
        bias: Bias of every channel, of shape (C,).
        eps: Added to the biased variance.

    Returns:
        Map of x's shape in channels_last, of x's type or autocast's. Means and variances are at least float32.

    Raises:
        ValueError: The shapes do not match.
    """
    _check_shapes(x, weight, bias)
    return _layer_norm(x, weight, bias, eps, result_type(x))


def gated_layer_norm(x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return `layer_norm` of x times the GELU of a gate.

    Args:
        x: Map of shape (N, C, H, W).
        gate: Map of x's shape.
        weight: As in `layer_norm`.
        bias: As in `layer_norm`.
        eps: As in `layer_norm`.

    Returns:
        Map of x's shape in channels_last, of the gate's type or autocast's.

    Raises:
        ValueError: The shapes do not match.
    """
    _check_shapes(x, weight, bias)
    if gate.shape != x.shape:
        raise ValueError(f'x and its gate must have the same shape, found {tuple(x.shape)} and {tuple(gate.shape)}')
    return _gated_layer_norm(x, gate, weight, bias, eps, result_type(gate))


def _check_shapes(x, weight, bias):
    if x.ndim != 4 or weight.shape != x.shape[1:2] or bias.shape != weight.shape:
        raise ValueError(
            f'a map (N, C, H, W) takes a weight and a bias (C,), found {tuple(x.shape)}, {tuple(weight.shape)} and '
            f'{tuple(bias.shape)}'
        )


def _save(ctx, inputs, output):
    *tensors, ctx.eps, _ = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, dy):
    x, weight, _ = ctx.saved_tensors
    return *_layer_norm_backward(dy, x, weight, ctx.eps), None, None


def _gated_backward(ctx, dy):
    return *_gated_layer_norm_backward(dy, *ctx.saved_tensors, ctx.eps), None, None


_layer_norm = operator(
    'layer_norm(Tensor x, Tensor weight, Tensor bias, float eps, ScalarType dtype) -> Tensor',
    fake=lambda x, weight, bias, eps, dtype: empty_map(x, dtype=dtype),
    save=_save,
    backward=_backward,
)
_layer_norm_backward = operator(
    'layer_norm_backward(Tensor dy, Tensor x, Tensor weight, float eps) -> (Tensor, Tensor, Tensor)',
    fake=lambda dy, x, weight, eps: (empty_map(x), *empty_like_all(weight, weight)),
)
_gated_layer_norm = operator(
    'gated_layer_norm(Tensor x, Tensor gate, Tensor weight, Tensor bias, float eps, ScalarType dtype) -> Tensor',
    fake=lambda x, gate, weight, bias, eps, dtype: empty_map(x, dtype=dtype),
    save=_save,
    backward=_gated_backward,
)
_gated_layer_norm_backward = operator(
    'gated_layer_norm_backward(Tensor dy, Tensor x, Tensor gate, Tensor weight, Tensor bias, float eps)'
    ' -> (Tensor, Tensor, Tensor, Tensor)',
    fake=lambda dy, x, gate, weight, bias, eps: (empty_map(x), empty_map(gate), *empty_like_all(weight, bias)),
)
