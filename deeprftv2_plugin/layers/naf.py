"""Blocks without activation functions, with and without a selective scan."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.norm import LayerNorm2d
from deeprftv2_plugin.layers.pointwise import Pointwise
from deeprftv2_plugin.layers.scan_mixer import SelectiveScanMixer
from deeprftv2_plugin.ops.gates import depthwise_gate, simple_gate
from deeprftv2_plugin.ops.pooling import local_mean


class NAFBlock(nn.Module):
    """Gated convolutions and channel attention, then a gated pointwise network, each behind a residual.

    Args:
        channels: Channels of input and output.
        pool_window: Height and width over which the channel attention takes its mean; None for the whole map.

    Shape:
        (N, channels, H, W) to the same.

    References:
        Chen et al., "Simple Baselines for Image Restoration", ECCV 2022, equations 4 to 6; Chu et al., "Improving Image
        Restoration by Revisiting Global Information Aggregation", ECCV 2022 (the local mean).
    """

    def __init__(self, channels: int, pool_window: tuple[int, int] | None = None):
        super().__init__()
        self.pool_window = pool_window
        self.norm1 = LayerNorm2d(channels)
        self.conv1 = Pointwise(channels, 2 * channels)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = Pointwise(channels, channels)
        self.conv3 = Pointwise(channels, channels)
        self.norm2 = LayerNorm2d(channels)
        self.conv4 = Pointwise(channels, 2 * channels)
        self.conv5 = Pointwise(channels, channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def mix(self, x: Tensor, scale: Tensor) -> Tensor:
        """The mixing of pixels, times a scale (1, channels, 1, 1)."""
        mean = x.mean((2, 3), keepdim=True) if self.pool_window is None else local_mean(x, self.pool_window)
        return self.conv3(x * self.attention(mean), scale)

    def forward(self, x: Tensor) -> Tensor:
        gated = depthwise_gate(self.conv1(self.norm1(x)), self.conv2.weight, self.conv2.bias)
        y = x + self.mix(gated, self.beta)
        gated = simple_gate(self.conv4(self.norm2(y)))
        return y + self.conv5(gated, self.gamma)


class NAFScanBlock(NAFBlock):
    """A NAFBlock whose attention is joined by a selective scan: local and global mixing side by side.

    Args:
        channels: Channels of input and output.
        pool_window: As in NAFBlock.
        scan_window: Height and width of the windows that are scanned each by itself; None for one scan over the map.
    """

    def __init__(
        self, channels: int, pool_window: tuple[int, int] | None = None, scan_window: tuple[int, int] | None = None
    ):
        super().__init__(channels, pool_window)
        self.norm_scan = LayerNorm2d(channels)
        self.scan = SelectiveScanMixer(channels, scan_window)
        self.local_weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.scan_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scan_gain = nn.Parameter(torch.ones(1, channels, 1, 1))

    def mix(self, x: Tensor, scale: Tensor) -> Tensor:
        scanned = self.scan(self.norm_scan(x), scale * self.scan_weight * (self.scan_gain + 1))
        return super().mix(x, scale * self.local_weight) + scanned
