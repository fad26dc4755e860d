"""Learned changes of resolution by a factor of two, without bias."""

from torch import nn

from deeprftv2_plugin.layers.pointwise import Pointwise


def downsample(in_channels: int, out_channels: int) -> nn.Module:
    """Return a 2x2 convolution with stride 2, which halves height and width."""
    return nn.Conv2d(in_channels, out_channels, 2, stride=2, bias=False)


def upsample(in_channels: int, out_channels: int) -> nn.Module:
    """Return a 1x1 convolution followed by a pixel shuffle, which doubles height and width."""
    return nn.Sequential(Pointwise(in_channels, 4 * out_channels, bias=False), nn.PixelShuffle(2))
