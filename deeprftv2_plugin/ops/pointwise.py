"""1x1 convolutions as matrix products."""

import torch.nn.functional as F
from torch import Tensor


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer to the channels of every pixel.

    Args:
        x: Map of shape (N, C, H, W). It is copied if it is not in channels_last.
        weight: Matrix of shape (K, C).
        bias: Bias of shape (K,).

    Returns:
        Map of shape (N, K, H, W) in channels_last.
    """
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
