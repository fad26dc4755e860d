"""Mix the pixels of a feature map with a selective scan in raster order."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeprftv2_plugin.layers.parameters import linear_parameters, norm_parameters, scaled
from deeprftv2_plugin.ops.branches import gelu_convolution, normed_gate_projection
from deeprftv2_plugin.ops.scan import selective_scan
from deeprftv2_plugin.ops.windows import merge_windows, split_windows

EPS, OUT_EPS = 1e-6, 1e-5
"""Added to the variances of the normalizations before and after the scan."""


class SelectiveScanMixer(nn.Module):
    """A residual selective scan over the pixels of a map, row by row.

        y = residual + project(norm(scan(gelu(conv(value)))) * gelu(gate)),     value, gate = expand(norm(x))

    The step sizes and the input and output weights of the scan are projections of its input, smoothed along the
    sequence by a short convolution. The module owns the parameters of its three operators.

    Args:
        channels: Channels of input and output. The scan has twice as many, with 8 states each.
        window: Height and width of windows into which larger maps are split for the scan; None for one scan.

    Shape:
        (N, channels, H, W) to the same.

    References:
        Gu and Dao, "Mamba", 2023 (the scan); Kong et al., "Efficient Visual State Space Model for Image Deblurring",
        CVPR 2025 (one scan whose direction changes from block to block).
    """

    states = 8
    expansion = 2

    def __init__(self, channels: int, window: tuple[int, int] | None = None):
        super().__init__()
        inner, rank = self.expansion * channels, math.ceil(channels / 16)
        self.split_sizes = (rank, self.states, self.states)
        self.window = window
        coefficients = sum(self.split_sizes)
        self.norm_weight, self.norm_bias = norm_parameters(channels)
        self.in_weight, _ = linear_parameters(channels, 2 * inner)
        self.conv_weight, self.conv_bias = nn.Conv2d(inner, inner, 3, groups=inner).parameters()
        self.coefficient_proj = nn.Linear(inner, coefficients, bias=False)
        self.coefficient_conv = SequenceConvolution(coefficients, 7)
        self.step_weight = nn.Parameter(torch.empty(inner, rank).uniform_(-(rank**-0.5), rank**-0.5))
        self.step_bias = nn.Parameter(_initial_steps(inner))
        self.log_decay = nn.Parameter(torch.log(torch.arange(1.0, self.states + 1)).repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out_norm_weight, self.out_norm_bias = norm_parameters(inner)
        self.out_weight, _ = linear_parameters(inner, channels)

    def forward(self, x: Tensor, residual: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        """Mix the pixels of x.

        Args:
            x: Map of shape (N, channels, H, W).
            residual: Added to the result, of x's shape; x itself by default.
            scale: Multiplies the result before the residual is added, of shape (1, channels, 1, 1).
        """
        norm = self.norm_weight, self.norm_bias
        value_weight, gate_weight = self.in_weight.chunk(2)
        value = gelu_convolution(x, norm, value_weight, (self.conv_weight, self.conv_bias), EPS)
        height, width = x.shape[-2:]
        if self.window is None or (height <= self.window[0] and width <= self.window[1]):
            y = self._scan(value)
        else:
            y = merge_windows(self._scan(split_windows(value, self.window)), self.window, (height, width))
        out_weight, _ = scaled(self.out_weight, None, scale)
        out_norm = self.out_norm_weight, self.out_norm_bias
        residual = x if residual is None else residual
        return normed_gate_projection(y, x, norm, gate_weight, out_norm, out_weight, residual, EPS, OUT_EPS)

    def _scan(self, x):
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, pixels, channels), the memory order of channels_last
        step, B, C = self.coefficient_conv(self.coefficient_proj(rows)).split(self.split_sizes, dim=2)
        delta = F.linear(step, self.step_weight)
        y = selective_scan(rows, delta, -torch.exp(self.log_decay), B, C, self.skip, self.step_bias)
        return y.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)


class SequenceConvolution(nn.Conv1d):
    """A convolution of each channel along a sequence (N, length, channels), which keeps this layout."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        row = x.transpose(1, 2)[:, :, None]  # a map of one row in channels_last; a map of one column is much slower
        out = F.conv2d(row, self.weight[:, :, None], self.bias, padding=(0, *self.padding), groups=self.groups)
        return out.squeeze(2).transpose(1, 2)


def _initial_steps(count):
    """Draw biases for step sizes that are log-uniform between 0.001 and 0.1 (Mamba, section 3.6)."""
    step = torch.empty(count).uniform_(math.log(1e-3), math.log(1e-1)).exp_().clamp_(min=1e-4)
    return step + torch.log(-torch.expm1(-step))  # the inverse of softplus
