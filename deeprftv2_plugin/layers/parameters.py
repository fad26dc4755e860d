"""Parameters of modules that compute a whole branch in one operator."""

import torch
from torch import Tensor, nn


def norm_parameters(channels: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias of a normalization that begins without them."""
    return nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))


def linear_parameters(in_features: int, out_features: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias as `nn.Linear` draws them."""
    linear = nn.Linear(in_features, out_features)
    return linear.weight, linear.bias


def scaled(weight: Tensor, bias: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scale a matrix and its bias: a few weights instead of a whole map."""
    if scale is None:
        return weight, bias
    scale = scale.flatten()
    return weight * scale[:, None], None if bias is None else bias * scale
