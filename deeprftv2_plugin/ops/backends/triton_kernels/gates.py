"""Triton kernels of the product of both halves of the channels."""

import triton
import triton.language as tl
from torch import Tensor

from deeprftv2_plugin.ops.backends.triton_kernels.maps import channels_last, new_map, pixels_of, power_of_two

# Number of elements of the result that one program computes.
TILE = 2048


def simple_gate(x: Tensor) -> Tensor:
    """Return the product of both halves of the channels: (N, 2 C, H, W) to (N, C, H, W)."""
    x = channels_last(x)
    y = new_map(x, x.shape[1] // 2, x.dtype)
    _launch(_forward, y, x, y)
    return y


def simple_gate_backward(dy: Tensor, x: Tensor) -> Tensor:
    """Return the gradient with respect to x, of its shape and dtype."""
    dy, x = channels_last(dy), channels_last(x)
    dx = new_map(x, x.shape[1], x.dtype)
    _launch(_backward, dy, x, dy, dx)
    return dx


def _launch(kernel, y, *maps):
    channels, pixels = y.shape[1], pixels_of(y)
    block_c = power_of_two(channels, 64)
    block_p = power_of_two(pixels, TILE // block_c)
    grid = (triton.cdiv(pixels, block_p), triton.cdiv(channels, block_c))
    kernel[grid](*maps, pixels, channels, BLOCK_P=block_p, BLOCK_C=block_c)


@triton.jit
def _tile(pixels, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return the offsets of a program's tile in y and in the first half of x, and a mask.

    Offsets have 64 bits because large maps have more than 2^31 elements.
    """
    p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    return p * channels + c, p * (2 * channels) + c, (p < pixels) & (c < channels)


@triton.jit(do_not_specialize=['pixels'])
def _forward(x, y, pixels, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    at, at_first, inside = _tile(pixels, channels, BLOCK_P, BLOCK_C)
    first = tl.load(x + at_first, mask=inside).to(tl.float32)
    second = tl.load(x + channels + at_first, mask=inside).to(tl.float32)
    tl.store(y + at, (first * second).to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=['pixels'])
def _backward(x, dy, dx, pixels, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    at, at_first, inside = _tile(pixels, channels, BLOCK_P, BLOCK_C)
    first = tl.load(x + at_first, mask=inside).to(tl.float32)
    second = tl.load(x + channels + at_first, mask=inside).to(tl.float32)
    g = tl.load(dy + at, mask=inside).to(tl.float32)
    tl.store(dx + at_first, (g * second).to(dx.dtype.element_ty), mask=inside)
    tl.store(dx + channels + at_first, (g * first).to(dx.dtype.element_ty), mask=inside)
