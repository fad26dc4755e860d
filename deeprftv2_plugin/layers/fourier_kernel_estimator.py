"""The Fourier Kernel Estimator: a transfer function for every feature channel, and the feature it is applied to."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deeprftv2_plugin.layers.level import Level
from deeprftv2_plugin.layers.norm import LayerNorm2d
from deeprftv2_plugin.layers.pointwise import Pointwise, pointwise
from deeprftv2_plugin.layers.reversible import Column
from deeprftv2_plugin.layers.scan_mixer import ScanBlock
from deeprftv2_plugin.ops.precision import at_least_float32
from deeprftv2_plugin.ops.tiles import TileGrid, merge_tiles, split_tiles
from deeprftv2_plugin.ops.windows import merge_windows, split_windows


class Estimate(NamedTuple):
    """What a Fourier Kernel Estimator makes of a feature map."""

    feature: Tensor
    """The feature after the convolution, of the input's shape."""
    image: Tensor
    """The picture made of it: a residual on the blurry one."""
    states: list[Tensor]
    """The states of the kernel column, for the estimator of the next stage."""
    otf: Tensor
    """Complex transfer functions of shape (N, channels, h, w // 2 + 1); with windows, N counts windows."""


class FourierKernelEstimator(nn.Module):
    """Predict a transfer function for every channel of a feature and multiply it with the channel's spectrum.

    With two pointwise projections a and b of the feature d, the kernel column R and the Fourier transform F,

        otf = R(F a),        feature = conv1x1([F^-1(otf * F b), d]),        image = conv3x3(feature) + blurry,

    so that a convolution with a kernel as large as the map costs one multiplication a frequency. Transforms, the column
    and the product are float32 whatever the autocast. The convolution is circular.

    Args:
        channels: Channels of the feature.
        width: Channels of the kernel column; `channels` by default.
        image_channels: Channels of the blurry picture and of the restored one.
        depths: Scan blocks in each of the four levels of the kernel column.
        follows: There is an estimator of an earlier stage, whose states will be given.
        norm: Normalise the column's output before it becomes a transfer function.
        window: Height and width of the kernels' reach: larger maps are cut into windows with kernels of their own, side
            by side in training and overlapping in evaluation. None for one kernel over the whole map.
        overlap: Pixels by which windows overlap in evaluation.
        reversible: Recompute the activations of the kernel column, and of what follows it, in the backward pass.

    References:
        DeepRFTv2, arXiv 2511.21132: P = Conv(F^-1(R(r) * r) + d), its kernel-level learning.
    """

    def __init__(
        self,
        channels: int,
        width: int | None = None,
        image_channels: int = 3,
        depths: Sequence[int] = (1, 1, 1, 1),
        follows: bool = False,
        norm: bool = True,
        window: tuple[int, int] | None = None,
        overlap: tuple[int, int] = (0, 0),
        reversible: bool = True,
    ):
        super().__init__()
        width = width or channels
        self.window, self.overlap = window, overlap
        self.kernel_proj = Pointwise(channels, width, bias=False)
        self.feature_proj = Pointwise(channels, channels, bias=False)
        self.intro = Pointwise(2 * width, width, bias=False)
        levels = [
            Level(
                nn.Sequential(*(ScanBlock(width) for _ in range(depth))),
                width,
                merges=follows and index < len(depths) - 1,
            )
            for index, depth in enumerate(depths)
        ]
        self.column = Column(
            levels, [width] * len(depths), [follows] * len(depths), coupled=True, reversible=reversible
        )
        self.norm = LayerNorm2d(width) if norm else nn.Identity()
        self.to_otf = Pointwise(width, 2 * channels)
        self.fuse = Pointwise(2 * channels, channels, bias=False)
        self.to_image = nn.Conv2d(channels, image_channels, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor, states: Sequence[Tensor] | None = None) -> Estimate:
        """Estimate and apply.

        Args:
            x: Feature of shape (N, channels, h, w).
            image: Blurry picture of shape (N, image_channels, h, w), in [0, 1].
            states: The states of the estimator before, where this one follows another.
        """
        projected = pointwise(x, torch.cat([self.kernel_proj.weight, self.feature_proj.weight]))
        pieces, put_together = self._cut(projected)
        kernel_feature, feature = pieces.split([self.kernel_proj.out_channels, self.feature_proj.out_channels], 1)
        size = feature.shape[-2:]
        spectrum = torch.fft.rfft2(at_least_float32(kernel_feature))
        previous = [None] * len(self.column.levels) if states is None else states
        states = self.column(self.intro(torch.cat([spectrum.real, spectrum.imag], 1)), previous)

        def convolve(kernel_state, feature, x):
            otf = torch.complex(*at_least_float32(self.to_otf(self.norm(kernel_state))).chunk(2, 1))
            convolved = put_together(torch.fft.irfft2(torch.fft.rfft2(at_least_float32(feature)) * otf, s=size))
            return self.fuse(torch.cat([convolved, x], 1)), otf

        if self.column.reversible and torch.is_grad_enabled():
            feature, otf = checkpoint(convolve, states[-1], feature, x, use_reentrant=False, preserve_rng_state=False)
        else:
            feature, otf = convolve(states[-1], feature, x)
        return Estimate(feature, self.to_image(feature) + image, states, otf)

    def _cut(self, x):
        """Cut a map that is larger than the window; return the pieces and what joins results of their size."""
        height, width = x.shape[-2:]
        if self.window is None or (height <= self.window[0] and width <= self.window[1]):
            return x, lambda pieces: pieces
        if self.training or not any(self.overlap):
            return (split_windows(x, self.window), lambda pieces: merge_windows(pieces, self.window, (height, width)))
        grid = TileGrid((height, width), self.window, self.overlap)
        return split_tiles(x, grid), lambda pieces: merge_tiles(pieces, grid)
