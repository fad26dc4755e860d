"""Convolutions of 1x1 as matrix products."""

import torch.nn.functional as F
from torch import Tensor, nn


class Pointwise(nn.Conv2d):
    """A convolution of 1x1 for maps in channels_last, whose result may be scaled at no cost.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bias: Add a learned bias to every channel.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, H, W) in channels_last; other layouts are copied to it first.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Map the channels of x; `scale`, of shape (1, out_channels, 1, 1), multiplies the result."""
        weight, bias = self.weight, self.bias
        if scale is not None:  # of a few weights instead of a whole map
            weight = weight * scale.transpose(0, 1)
            bias = None if bias is None else bias * scale.flatten()
        return pointwise(x, weight, bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`Pointwise` with weights (out_channels, in_channels, 1, 1) and a bias (out_channels,) that are given."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
