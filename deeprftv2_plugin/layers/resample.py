"""Changes of resolution by a factor of two, both learned and without bias."""

from torch import nn

from deeprftv2_plugin.layers.pointwise import Pointwise


def downsample(in_channels: int, out_channels: int) -> nn.Module:
    """Halve height and width: a convolution of 2x2 with stride 2."""
    return nn.Conv2d(in_channels, out_channels, 2, stride=2, bias=False)


def upsample(in_channels: int, out_channels: int) -> nn.Module:
    """Double height and width: a convolution of 1x1 to four times the channels, shuffled into pixels."""
    return nn.Sequential(Pointwise(in_channels, 4 * out_channels, bias=False), nn.PixelShuffle(2))
