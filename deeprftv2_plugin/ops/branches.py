"""Whole branches of the network's blocks.

With the native backend in float32, each branch is one operator, which reads and writes a feature map once, stores only
its inputs for the backward pass, and recomputes the rest. Otherwise, a branch is composed of other operators.
"""

import math
from collections.abc import Callable

from torch import Tensor

from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.ops.gates import depthwise_gate, depthwise_gelu, simple_gate
from deeprftv2_plugin.ops.library import empty_like_all, empty_map, operator
from deeprftv2_plugin.ops.normalization import gated_layer_norm, layer_norm
from deeprftv2_plugin.ops.pointwise import pointwise

Affine = tuple[Tensor, Tensor]
"""A weight and a bias, such as those of a linear layer."""


def gated_feed_forward(x: Tensor, norm: Affine, expand: Affine, project: Affine, eps: float) -> Tensor:
    """Add the result of a gated two-layer network of the normalized channels to every pixel.

    Args:
        x: Map of shape (N, C, H, W).
        norm: Weight and bias of the normalization, each of shape (C,).
        expand: Matrix of shape (2 K, C), and bias of shape (2 K,).
        project: Matrix of shape (C, K), and bias of shape (C,).
        eps: Added to the variance.

    Returns:
        x + project(gate(expand(norm(x)))) in channels_last.

    References:
        Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, section 3.2 and equation 5.
    """
    parameters = *norm, *expand, *project
    branch = _gated_feed_forward if backends.fuses(x, *parameters) else _composed_gated_feed_forward
    return branch(x, *parameters, eps)


def gated_convolution(x: Tensor, norm: Affine, expand: Affine, depthwise: Affine, eps: float) -> Tensor:
    """Normalize, expand the channels, convolve each with its own kernel, and multiply the two halves.

    Args:
        x: As in `gated_feed_forward`.
        norm: As in `gated_feed_forward`.
        expand: As in `gated_feed_forward`.
        depthwise: Kernels of shape (2 K, 1, 3, 3), and bias of shape (2 K,). The border is padded with zeros.
        eps: Added to the variance.

    Returns:
        Map of shape (N, K, H, W) in channels_last.
    """
    parameters = *norm, *expand, *depthwise
    branch = _gated_convolution if backends.fuses(x, *parameters) else _composed_gated_convolution
    return branch(x, *parameters, eps)


def gelu_convolution(x: Tensor, norm: Affine, expand_weight: Tensor, depthwise: Affine, eps: float) -> Tensor:
    """Compute `gated_convolution` with a GELU instead of the gate, and without a bias of the expansion.

    The matrix has shape (K, C), the kernels have shape (K, 1, 3, 3), and the result has K channels.
    """
    parameters = *norm, expand_weight, *depthwise
    branch = _gelu_convolution if backends.fuses(x, *parameters) else _composed_gelu_convolution
    return branch(x, *parameters, eps)


def normed_gate_projection(
    y: Tensor,
    x: Tensor,
    norm: Affine,
    gate_weight: Tensor,
    out_norm: Affine,
    out_weight: Tensor,
    residual: Tensor,
    eps: float,
    out_eps: float,
) -> Tensor:
    """Normalize y, multiply it with a gate computed from x, project it, and add a residual.

    Args:
        y: Map of shape (N, K, H, W), such as the result of a scan.
        x: Map of shape (N, C, H, W) from which the gate is computed: gelu(gate_weight norm(x)).
        norm: Weight and bias of the normalization of x, each of shape (C,).
        gate_weight: Matrix of shape (K, C).
        out_norm: Weight and bias of the normalization of y, each of shape (K,).
        out_weight: Matrix of shape (C, K).
        residual: Map of shape (N, C, H, W).
        eps: Added to the variance of x.
        out_eps: Added to the variance of y.

    Returns:
        residual + out_weight (norm(y) * gate), of shape (N, C, H, W) in channels_last.
    """
    parameters = *norm, gate_weight, *out_norm, out_weight
    fuses = backends.fuses(y, x, residual, *parameters)
    branch = _normed_gate_projection if fuses else _composed_normed_gate_projection
    return branch(y, x, *parameters, residual, eps, out_eps)


def _composed_gated_feed_forward(
    x, norm_weight, norm_bias, expand_weight, expand_bias, project_weight, project_bias, eps
):
    expanded = pointwise(layer_norm(x, norm_weight, norm_bias, eps), expand_weight, expand_bias)
    return x + pointwise(simple_gate(expanded), project_weight, project_bias)


def _composed_gated_convolution(x, norm_weight, norm_bias, expand_weight, expand_bias, weight, bias, eps):
    expanded = pointwise(layer_norm(x, norm_weight, norm_bias, eps), expand_weight, expand_bias)
    return depthwise_gate(expanded, weight, bias)


def _composed_gelu_convolution(x, norm_weight, norm_bias, expand_weight, weight, bias, eps):
    return depthwise_gelu(pointwise(layer_norm(x, norm_weight, norm_bias, eps), expand_weight), weight, bias)


def _composed_normed_gate_projection(
    y, x, norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight, residual, eps, out_eps
):
    gate = pointwise(layer_norm(x, norm_weight, norm_bias, eps), gate_weight)
    return residual + pointwise(gated_layer_norm(y, gate, out_norm_weight, out_norm_bias, out_eps), out_weight)


def _save(ctx, inputs, output):
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _fake_gradients(dy, x, *parameters):
    *parameters, _ = parameters
    return empty_map(x), *empty_like_all(*parameters)


def _feed_forward_flops(x, norm_weight, norm_bias, expand_weight, expand_bias, project_weight, *_):
    return 2 * _pixels(x) * (math.prod(expand_weight) + math.prod(project_weight))


def _convolution_flops(x, norm_weight, norm_bias, expand_weight, *kernels):
    weight = next(shape for shape in kernels if len(shape) == 4)
    return 2 * _pixels(x) * (math.prod(expand_weight) + math.prod(weight))


def _projection_flops(y, x, norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight, *_):
    return 2 * _pixels(x) * (math.prod(gate_weight) + math.prod(out_weight))


def _pixels(x):
    return x[0] * x[2] * x[3]


def _backward_flops(flops):
    """Count each product once for the gradient of either factor, and the recomputed forward pass."""
    return lambda dy, *inputs: 3 * flops(*inputs)


def _branch(name: str, parameters: str, fake: Callable, flops: Callable[..., int], reference: Callable) -> Callable:
    """Register a branch of the map x, and its backward pass, which returns the gradients of x and all parameters."""
    tensors = [f'Tensor {each}' for each in ('x', *parameters.split())]
    arguments, results = ', '.join([*tensors, 'float eps']), ', '.join(['Tensor'] * len(tensors))
    backward = operator(
        f'{name}_backward(Tensor dy, {arguments}) -> ({results})', fake=_fake_gradients, flops=_backward_flops(flops)
    )
    return operator(
        f'{name}({arguments}) -> Tensor',
        fake=fake,
        save=_save,
        backward=lambda ctx, dy: (*backward(dy, *ctx.saved_tensors, ctx.eps), None),
        flops=flops,
        reference=reference,
    )


_gated_feed_forward = _branch(
    'gated_feed_forward',
    'norm_weight norm_bias expand_weight expand_bias project_weight project_bias',
    lambda x, *_: empty_map(x),
    _feed_forward_flops,
    _composed_gated_feed_forward,
)
_gated_convolution = _branch(
    'gated_convolution',
    'norm_weight norm_bias expand_weight expand_bias weight bias',
    lambda x, norm_weight, norm_bias, expand_weight, *_: empty_map(x, len(expand_weight) // 2),
    _convolution_flops,
    _composed_gated_convolution,
)
_gelu_convolution = _branch(
    'gelu_convolution',
    'norm_weight norm_bias expand_weight weight bias',
    lambda x, norm_weight, norm_bias, expand_weight, *_: empty_map(x, len(expand_weight)),
    _convolution_flops,
    _composed_gelu_convolution,
)


def _save_projection(ctx, inputs, output):
    *tensors, _, ctx.eps, ctx.out_eps = inputs
    ctx.save_for_backward(*tensors)


def _projection_backward(ctx, dz):
    gradients = _normed_gate_projection_backward(dz, *ctx.saved_tensors, ctx.eps, ctx.out_eps)
    return *gradients, dz, None, None


_normed_gate_projection_backward = operator(
    'normed_gate_projection_backward(Tensor dz, Tensor y, Tensor x, Tensor norm_weight, Tensor norm_bias,'
    ' Tensor gate_weight, Tensor out_norm_weight, Tensor out_norm_bias, Tensor out_weight, float eps, float out_eps)'
    ' -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    fake=lambda dz, y, x, *rest: (empty_map(y), empty_map(x), *empty_like_all(*rest[:-2])),
    flops=_backward_flops(_projection_flops),
)
_normed_gate_projection = operator(
    'normed_gate_projection(Tensor y, Tensor x, Tensor norm_weight, Tensor norm_bias, Tensor gate_weight,'
    ' Tensor out_norm_weight, Tensor out_norm_bias, Tensor out_weight, Tensor residual, float eps, float out_eps)'
    ' -> Tensor',
    fake=lambda y, x, *_: empty_map(x),
    save=_save_projection,
    backward=_projection_backward,
    flops=_projection_flops,
    reference=_composed_normed_gate_projection,
)
