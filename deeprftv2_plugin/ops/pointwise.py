"""Convolutions of 1x1 as matrix products."""

import torch.nn.functional as F
from torch import Tensor


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map the channels of every pixel.

    Args:
        x: Map of shape (N, C, H, W); layouts other than channels_last are copied to it.
        weight: Matrix of shape (K, C).
        bias: Of shape (K,).

    Returns:
        Map of shape (N, K, H, W) in channels_last.
    """
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
