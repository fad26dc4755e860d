"""Blocks without activation functions, with and without a selective scan."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.parameters import linear_parameters, norm_parameters, scaled
from deeprftv2_plugin.layers.pointwise import Pointwise
from deeprftv2_plugin.layers.scan_mixer import SelectiveScanMixer
from deeprftv2_plugin.ops.branches import gated_convolution, gated_feed_forward
from deeprftv2_plugin.ops.pooling import local_mean

EPS = 1e-6


class _NormedExpansion(nn.Module):
    """Parameters of the normalization and the expansion at the start of both branches of a block."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_weight, self.norm_bias = norm_parameters(channels)
        self.expand_weight, self.expand_bias = linear_parameters(channels, 2 * channels)

    @property
    def norm(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the normalization."""
        return self.norm_weight, self.norm_bias

    @property
    def expand(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the expansion."""
        return self.expand_weight, self.expand_bias


class GatedConvolution(_NormedExpansion):
    """Normalization, expansion to twice the channels, depthwise convolution, and the product of the two halves.

    The module owns the parameters of the whole branch, which `ops.branches.gated_convolution` computes.

    Shape:
        (N, channels, H, W) to the same.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.weight, self.bias = nn.Conv2d(2 * channels, 2 * channels, 3, groups=2 * channels).parameters()

    def forward(self, x: Tensor) -> Tensor:
        return gated_convolution(x, self.norm, self.expand, (self.weight, self.bias), EPS)


class GatedFeedForward(_NormedExpansion):
    """A residual two-layer network on each pixel, with a product of the two halves of the channels in between.

    The module owns the parameters of the whole branch, which `ops.branches.gated_feed_forward` computes. `scale`, of
    shape (1, channels, 1, 1), is initialized to zero, which makes the module the identity.

    Shape:
        (N, channels, H, W) to the same.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.project_weight, self.project_bias = linear_parameters(channels, channels)
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        projection = scaled(self.project_weight, self.project_bias, self.scale)
        return gated_feed_forward(x, self.norm, self.expand, projection, EPS)


class NAFBlock(nn.Module):
    """A residual gated convolution with channel attention, then a gated feed-forward network.

    Args:
        channels: Channels of input and output.
        pool_window: Height and width of the mean in the channel attention; None for the whole map.

    Shape:
        (N, channels, H, W) to the same.

    References:
        Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, equations 4 to 6; Chu et al., "Improving Image
        Restoration by Revisiting Global Information Aggregation", ECCV 2022 (the local mean).
    """

    def __init__(self, channels: int, pool_window: tuple[int, int] | None = None):
        super().__init__()
        self.pool_window = pool_window
        self.convolution = GatedConvolution(channels)
        self.attention = Pointwise(channels, channels)
        self.project = Pointwise(channels, channels)
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.feed_forward = GatedFeedForward(channels)

    def attend(self, x: Tensor, scale: Tensor) -> Tensor:
        """Multiply the channels by their attention, project them, and multiply by a scale (1, channels, 1, 1)."""
        mean = x.mean((2, 3), keepdim=True) if self.pool_window is None else local_mean(x, self.pool_window)
        return self.project(x * self.attention(mean), scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.feed_forward(x + self.attend(self.convolution(x), self.scale))


class NAFScanBlock(NAFBlock):
    """A NAFBlock with a selective scan in parallel to the attention, which mixes pixels globally.

    Args:
        channels: Channels of input and output.
        pool_window: As in NAFBlock.
        scan_window: Height and width of windows that are scanned separately; None for one scan over the map.
    """

    def __init__(
        self, channels: int, pool_window: tuple[int, int] | None = None, scan_window: tuple[int, int] | None = None
    ):
        super().__init__(channels, pool_window)
        self.scan = SelectiveScanMixer(channels, scan_window)
        self.local_weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.scan_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scan_gain = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gated = self.convolution(x)
        y = x + self.attend(gated, self.scale * self.local_weight)
        y = self.scan(gated, y, self.scale * self.scan_weight * (self.scan_gain + 1))
        return self.feed_forward(y)
