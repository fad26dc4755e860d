"""The Fourier Kernel Estimator: a predicted transfer function for every channel of a feature map."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.column import Column, call
from deeprftv2_plugin.layers.level import Level, Merge
from deeprftv2_plugin.layers.norm import LayerNorm2d
from deeprftv2_plugin.layers.pointwise import Pointwise
from deeprftv2_plugin.layers.scan_mixer import SelectiveScanMixer
from deeprftv2_plugin.ops.fourier import half_spectrum, spectral_filter
from deeprftv2_plugin.ops.precision import at_least_float32
from deeprftv2_plugin.ops.windows import merge_windows, smooth_windows, split_windows

PIXELS_AT_ONCE = 2**16
"""Pixels of the windows that are processed at the same time on a CPU in evaluation, so that maps fit into the cache."""


class Estimate(NamedTuple):
    """The results of a Fourier Kernel Estimator."""

    feature: Tensor
    """The feature after the convolution, of the input's shape."""
    image: Tensor | None
    """The restored image, computed as the blurry one plus a residual; None if no blurry image was given."""
    states: list[Tensor]
    """The states of the kernel column, for the estimator of the next stage. The last one determines the kernels."""


class FourierKernelEstimator(nn.Module):
    """Predict a transfer function for each channel of a feature and multiply the channel's spectrum by it.

    With two pointwise projections a and b of the feature d, the kernel column R and the Fourier transform F,

        otf = R(F a),        feature = conv1x1([F^-1(otf * F b), d]),        image = conv3x3(feature) + blurry,

    A convolution with a kernel of the size of the map costs one multiplication per frequency. All steps from the first
    projection to the inverse transform are float32 under any autocast. The convolution is circular.

    Args:
        channels: Channels of the feature.
        width: Channels of the kernel column; `channels` by default.
        image_channels: Channels of the blurry image and of the restored one.
        depths: Scan blocks in each of the four levels of the kernel column.
        has_previous: Whether `forward` gets the states of the previous stage's estimator.
        norm: Whether to normalize the output of the column before the projection to transfer functions.
        window: Height and width of the kernels. Larger maps are split into windows, each with its own kernels, which
            are adjacent in training and overlap in evaluation. None for kernels of the size of the map.
        overlap: Overlap of windows in evaluation, in pixels.
        smoothing: In evaluation, average the kernels of each window with those of its neighbors.
        reversible: Recompute the activations inside the estimator in the backward pass.

    References:
        DeepRFTv2: Kernel-level Learning for Image Deblurring, arXiv 2511.21132: P = Conv(F^-1(R(r) * r) + d).

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.layers import FourierKernelEstimator
        >>> estimator = FourierKernelEstimator(channels=16)
        >>> feature, blurry = torch.rand(1, 16, 32, 32), torch.rand(1, 3, 32, 32)
        >>> estimate = estimator(feature, blurry)
        >>> estimate.feature.shape, estimate.image.shape
        (torch.Size([1, 16, 32, 32]), torch.Size([1, 3, 32, 32]))
    """

    def __init__(
        self,
        channels: int,
        width: int | None = None,
        image_channels: int = 3,
        depths: Sequence[int] = (1, 1, 1, 1),
        has_previous: bool = False,
        norm: bool = True,
        window: tuple[int, int] | None = None,
        overlap: tuple[int, int] = (0, 0),
        reversible: bool = True,
        smoothing: bool = False,
    ):
        super().__init__()
        width = width or channels
        self.window, self.overlap, self.smoothing = window, overlap, smoothing
        levels = [
            Level(
                Merge(
                    Spectrum(channels, width) if index == 0 else None,
                    join=(2 * width, width) if has_previous and index < len(depths) - 1 else None,
                ),
                nn.Sequential(*(SelectiveScanMixer(width) for _ in range(depth))),
            )
            for index, depth in enumerate(depths)
        ]
        self.column = Column(
            levels, [width] * len(depths), [has_previous] * len(depths), coupled=True, reversible=reversible
        )
        self.norm = LayerNorm2d(width) if norm else nn.Identity()
        self.to_otf = Pointwise(width, 2 * channels)
        self.feature_proj = Pointwise(channels, channels, bias=False)
        self.fuse = Pointwise(2 * channels, channels, bias=False)
        self.to_image = nn.Conv2d(channels, image_channels, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor | None = None, states: Sequence[Tensor] | None = None) -> Estimate:
        """Estimate the kernels and apply them.

        Args:
            x: Feature of shape (N, channels, h, w).
            image: Blurry image of shape (N, image_channels, h, w) in [0, 1]; None to compute the feature only.
            states: The states of the previous stage's estimator, if any.
        """
        previous = [None] * len(self.column.levels) if states is None else states
        pieces, join = self._cut(x)
        found = [self._states(*each) for each in self._batches(len(x), pieces, *previous)]
        states = [_whole(level) for level in zip(*found, strict=True)]
        states[-1] = self._smooth(states[-1], x.shape[-2:])
        inputs = (pieces, self._convolved(pieces, image), states[-1])
        parts = [
            call(self._convolve, *each, recompute=self.column.reversible) for each in self._batches(len(x), *inputs)
        ]
        feature = join(_whole(parts))
        return Estimate(feature, None if image is None else self.restore(feature, image), states)

    def restore(self, feature: Tensor, image: Tensor) -> Tensor:
        """Return the restored image (N, image_channels, h, w) from a feature of this estimator and the blurry image."""
        return self.to_image(feature) + image

    def transfer(self, kernel_state: Tensor) -> Tensor:
        """Return the transfer functions for the last state of the kernel column.

        Args:
            kernel_state: Map of shape (N, width, h, w // 2 + 1); with windows, N counts windows.

        Returns:
            Map of shape (N, 2 * channels, h, w // 2 + 1): the real parts of all channels, then the imaginary parts.
        """
        return self.to_otf(self.norm(kernel_state))

    def _batches(self, images, pieces, *others):
        """Return the maps of all windows in groups that are processed at the same time."""
        inputs = (pieces, *others)
        differentiates_or_traces = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if differentiates_or_traces or pieces.device.type != 'cpu' or len(pieces) == images:
            return [inputs]
        count = max(1, PIXELS_AT_ONCE // pieces[0, 0].numel())
        return [
            [each if each is None else each[i : i + count] for each in inputs] for i in range(0, len(pieces), count)
        ]

    def _convolved(self, pieces, image):
        """Return the maps that the kernels are applied to, for all windows."""
        return pieces

    def _states(self, x, *previous):
        """Return the states of the kernel column for maps that are not larger than the window."""
        with torch.autocast(x.device.type, enabled=False):
            return self.column(at_least_float32(x), previous)

    def _smooth(self, kernel_state, size):
        """Return the kernel state for a map of `size` after the average over windows, if any."""
        if self.training or not self.smoothing or not self._has_windows(size):
            return kernel_state
        return smooth_windows(kernel_state, self.window, size, self.overlap)

    def _convolve(self, x, convolved, kernel_state):
        """Return the feature (N, channels, h, w) of maps that are not larger than the window."""
        with torch.autocast(x.device.type, enabled=False):
            filtered = spectral_filter(self.feature_proj(at_least_float32(convolved)), self.transfer(kernel_state))
        return self.fuse(torch.cat([filtered, x], 1))

    def _cut(self, x):
        """Split a map that is larger than the window. Return the windows and a function that merges them."""
        size = x.shape[-2:]
        if not self._has_windows(size):
            return x, lambda pieces: pieces
        overlap = (0, 0) if self.training else self.overlap
        return split_windows(x, self.window, overlap), partial(
            merge_windows, window=self.window, size=size, overlap=overlap
        )

    def _has_windows(self, size):
        return self.window is not None and (size[0] > self.window[0] or size[1] > self.window[1])


def _whole(parts):
    """Concatenate batches, without a copy if there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Spectrum(nn.Module):
    """Project a feature, transform it, and mix real and imaginary parts.

    Shape:
        (N, channels, h, w) to (N, width, h, w // 2 + 1).
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.project = Pointwise(channels, width, bias=False)
        self.mix = Pointwise(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(half_spectrum(self.project(x)))
