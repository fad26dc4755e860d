"""A map mixed by one selective scan in raster order."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deeprftv2_plugin.layers.norm import LayerNorm2d
from deeprftv2_plugin.layers.pointwise import Pointwise, pointwise
from deeprftv2_plugin.ops.gates import depthwise_gelu
from deeprftv2_plugin.ops.normalisation import gated_layer_norm
from deeprftv2_plugin.ops.scan import selective_scan
from deeprftv2_plugin.ops.windows import merge_windows, split_windows


class SelectiveScanMixer(nn.Module):
    """Gated selective scan over the pixels of a map, row by row, with a short convolution over its coefficients.

    Args:
        channels: Channels of input and output. Inside there are twice as many, and 8 states for each of those.
        window: Height and width of windows that are scanned each by itself where the map is larger; None for one scan.

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
        self.in_proj = Pointwise(channels, 2 * inner, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.coefficient_proj = nn.Linear(inner, sum(self.split_sizes), bias=False)
        self.coefficient_conv = nn.Conv1d(
            sum(self.split_sizes), sum(self.split_sizes), 7, padding=3, groups=sum(self.split_sizes)
        )
        self.step_proj = nn.Linear(rank, inner)
        self.log_decay = nn.Parameter(torch.log(torch.arange(1.0, self.states + 1)).repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.norm = LayerNorm2d(inner, eps=1e-5)
        self.out_proj = Pointwise(inner, channels, bias=False)
        self._init_steps(rank)

    @torch.no_grad()
    def _init_steps(self, rank):
        """Start with step sizes spread evenly in the logarithm between 0.001 and 0.1 (Mamba, section 3.6)."""
        nn.init.uniform_(self.step_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.empty_like(self.step_proj.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp_().clamp_(min=1e-4)
        self.step_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Mix the pixels of x; the result is multiplied by `scale`, (1, channels, 1, 1), where it is given."""
        # as two products: halves of one result would be copied before most of what follows
        x, gate = (pointwise(x, weight) for weight in self.in_proj.weight.chunk(2))
        x = depthwise_gelu(x, self.depthwise.weight, self.depthwise.bias)
        height, width = x.shape[-2:]
        if self.window is None or (height <= self.window[0] and width <= self.window[1]):
            y = self._scan(x)
        else:
            y = merge_windows(self._scan(split_windows(x, self.window)), self.window, (height, width))
        y = gated_layer_norm(y, gate, self.norm.weight, self.norm.bias, self.norm.eps)
        return self.out_proj(y, scale)

    def _scan(self, x):
        rows = x.flatten(2).transpose(1, 2)  # (N, pixels, channels), as channels_last has it in memory
        step, B, C = self._convolve(F.linear(rows, self.coefficient_proj.weight)).split(self.split_sizes, dim=2)
        y = selective_scan(
            rows.transpose(1, 2),
            F.linear(step, self.step_proj.weight).transpose(1, 2),
            -torch.exp(self.log_decay),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.skip,
            self.step_proj.bias,
        )
        return y.unflatten(2, x.shape[-2:])

    def _convolve(self, coefficients):
        """`coefficient_conv` of (N, pixels, coefficients) as a convolution of maps, which keeps their layout."""
        conv = self.coefficient_conv
        column = coefficients.transpose(1, 2)[..., None]
        out = F.conv2d(column, conv.weight[..., None], conv.bias, padding=(*conv.padding, 0), groups=conv.groups)
        return out.squeeze(3).transpose(1, 2)


class ScanBlock(nn.Module):
    """A residual selective scan behind a normalisation: x + scan(norm(x)), for maps (N, channels, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.mixer = SelectiveScanMixer(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))
