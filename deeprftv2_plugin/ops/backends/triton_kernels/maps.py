"""Functions for all kernels on feature maps. Maps are channels_last: one row of channels per pixel."""

import torch
import triton
import triton.language as tl
from torch import Tensor

SQRT_HALF = tl.constexpr(0.7071067811865476)
INVERSE_SQRT_TAU = tl.constexpr(0.3989422804014327)


def channels_last(x: Tensor) -> Tensor:
    """Return x in channels_last memory format; x itself if it already has that format."""
    return x.contiguous(memory_format=torch.channels_last)


def new_map(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialized channels_last map of x's batch, height and width."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)


def pixels_of(x: Tensor) -> int:
    """Return the number of pixels of all maps in the batch."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def power_of_two(size: int, most: int) -> int:
    """Return the smallest power of two that is not less than `size`, but at most `most`."""
    return min(most, triton.next_power_of_2(size))


@triton.jit
def gelu(x):
    return x * 0.5 * (1 + tl.erf(x * SQRT_HALF))


@triton.jit
def gelu_slope(x):
    return 0.5 * (1 + tl.erf(x * SQRT_HALF)) + x * INVERSE_SQRT_TAU * tl.exp(-0.5 * x * x)
