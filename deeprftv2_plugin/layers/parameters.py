"""Parameters of modules that compute a whole branch with one operator."""

from typing import overload

import torch
from torch import Tensor, nn


def norm_parameters(channels: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias of a normalization, initialized to ones and zeros."""
    return nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))


def linear_parameters(in_features: int, out_features: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias, initialized as in `nn.Linear`."""
    weight, bias = nn.Linear(in_features, out_features).parameters()
    return weight, bias


@overload
def scaled(weight: Tensor, bias: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]: ...
@overload
def scaled(weight: Tensor, bias: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor | None]: ...
def scaled(weight: Tensor, bias: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scale the rows of a weight matrix and its bias, which is cheaper than scaling the result of the layer.

    Args:
        weight: Matrix of shape (out_features, in_features).
        bias: Bias of shape (out_features,), or None.
        scale: Factors with `out_features` elements, or None for no scaling.
    """
    if scale is None:
        return weight, bias
    scale = scale.flatten()
    return weight * scale[:, None], None if bias is None else bias * scale
