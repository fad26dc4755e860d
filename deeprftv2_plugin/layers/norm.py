"""Normalization over channels."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.normalization import layer_norm


class LayerNorm2d(nn.Module):
    """Layer normalization of each pixel over its channels, for maps of shape (N, C, H, W).

    Args:
        channels: Number of channels C.
        eps: Added to the biased variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, self.eps)
