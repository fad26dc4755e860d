"""Triton kernels of the 3x3 depthwise convolution followed by a gate or a GELU."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from deeprftv2_plugin.ops.backends.triton_kernels.maps import channels_last, gelu, gelu_slope, new_map, power_of_two

# Maximum number of elements, channels and columns of a patch of the map that a program computes at a time. Of the nine
# reads of an element, all but the first then hit the cache.
PATCH = 2048
CHANNELS = 64
WIDTH = 8

# Number of vertically adjacent patches over which a program sums the gradients of the weights before it writes them.
PATCHES = 4


def depthwise_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the convolution of x (N, 2 C, H, W) with one half of the channels times the other: (N, C, H, W)."""
    return _convolve(x, weight, bias, x.shape[1] // 2, gate=True)


def depthwise_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the GELU of the convolution of x (N, C, H, W), of the same shape."""
    return _convolve(x, weight, bias, x.shape[1], gate=False)


def depthwise_gate_backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, weight and bias."""
    return _gradients(dy, x, weight, bias, gate=True)


def depthwise_gelu_backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, weight and bias."""
    return _gradients(dy, x, weight, bias, gate=False)


def _convolve(x, weight, bias, channels, gate):
    x = channels_last(x)
    y = new_map(x, channels, x.dtype)
    plan = _Plan.of(y)
    plan.launch(_forward, plan.patches, x, _taps(weight), bias.contiguous(), y, GATE=gate)
    return y


def _gradients(dy, x, weight, bias, gate):
    """Recompute the convolution for the gradient with respect to its result, from which the others follow."""
    dy, x, taps = channels_last(dy), channels_last(x), _taps(weight)
    dz, dx = (new_map(x, x.shape[1], x.dtype) for _ in range(2))
    plan = _Plan.of(dy)
    plan.launch(_by_convolution, plan.patches, x, taps, bias.contiguous(), dy, dz, GATE=gate)
    plan = _Plan.of(x)
    strips = triton.cdiv(plan.patches, PATCHES)
    partial = torch.empty(x.shape[0] * strips * plan.columns, 10, x.shape[1], dtype=torch.float32, device=x.device)
    plan.launch(_by_input, strips, dz, x, taps, dx, partial, plan.patches, PATCHES=PATCHES)
    dweight = partial[:, :9].sum(0).t().contiguous().view(weight.shape)
    return dx, dweight.to(weight.dtype), partial[:, 9].sum(0).to(bias.dtype)


def _taps(weight):
    """Return the kernels as (9, channels), so that lanes read adjacent addresses."""
    return weight.flatten(1).t().contiguous()


class _Plan(NamedTuple):
    """How a map is cut into patches."""

    images: int
    channels: int
    height: int
    width: int
    block_h: int
    block_w: int
    block_c: int

    @classmethod
    def of(cls, x):
        images, channels, height, width = x.shape
        block_c = power_of_two(channels, CHANNELS)
        block_w = power_of_two(width, WIDTH)
        return cls(images, channels, height, width, power_of_two(height, PATCH // block_c // block_w), block_w, block_c)

    @property
    def patches(self):
        """The number of patches in a column."""
        return triton.cdiv(self.height, self.block_h)

    @property
    def columns(self):
        """The number of patches in a row."""
        return triton.cdiv(self.width, self.block_w)

    def launch(self, kernel, rows, *arguments, **constants):
        """Run a program for each of `rows` rows of patches, for every column and block of channels."""
        grid = (self.images * rows * self.columns, triton.cdiv(self.channels, self.block_c))
        kernel[grid](
            *arguments,
            self.channels,
            self.height,
            self.width,
            rows,
            self.columns,
            BLOCK_H=self.block_h,
            BLOCK_W=self.block_w,
            BLOCK_C=self.block_c,
            num_warps=4,
            **constants,
        )


@triton.jit
def _place(rows, columns, BLOCK_C: tl.constexpr):
    """Return the image, the row and the column of patches, and the channels of a program."""
    program = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return program // columns // rows, program // columns % rows, program % columns, c


@triton.jit
def _pixels(patch, column, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """Return the rows and columns of the pixels of a patch."""
    p = tl.arange(0, BLOCK_H * BLOCK_W)
    return patch * BLOCK_H + p // BLOCK_W, column * BLOCK_W + p % BLOCK_W


@triton.jit
def _load(x, image, row, column, c, last, channels, height, width):
    """Return pixels of a map as float32, and zeros outside of it and for channels from `last` on."""
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    # Offsets have 64 bits because large maps have more than 2^31 elements.
    pixel = (image.to(tl.int64) * height + row) * width + column
    at = pixel[:, None] * channels + c[None, :]
    return tl.load(x + at, mask=inside[:, None] & (c < last)[None, :], other=0.0).to(tl.float32)


@triton.jit
def _store(x, value, image, row, column, c, last, channels, height, width):
    pixel = (image.to(tl.int64) * height + row) * width + column
    inside = ((row < height) & (column < width))[:, None] & (c < last)[None, :]
    tl.store(x + pixel[:, None] * channels + c[None, :], value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _convolved(x, weight, bias, image, row, column, c, last, channels, height, width):
    """Return the convolution for some pixels and for the channels c below `last`."""
    shift = tl.load(bias + c, mask=c < last, other=0.0).to(tl.float32)
    total = tl.zeros((row.shape[0], c.shape[0]), tl.float32) + shift[None, :]
    for i in tl.range(3):  # not unrolled, since reading all rows at once takes too many registers
        for j in tl.static_range(3):
            tap = tl.load(weight + (3 * i + j) * channels + c, mask=c < last, other=0.0).to(tl.float32)
            value = _load(x, image, row + (i - 1), column + (j - 1), c, last, channels, height, width)
            total += value * tap[None, :]
    return total


@triton.jit
def _convolved_halves(x, weight, bias, image, row, column, c, channels, height, width):
    """Return the convolution for some pixels, for the channels c and for the same channels of the second half."""
    both = 2 * channels
    first = _convolved(x, weight, bias, image, row, column, c, channels, both, height, width)
    second = _convolved(x, weight, bias, image, row, column, channels + c, both, both, height, width)
    return first, second


@triton.jit(do_not_specialize=['height', 'width', 'rows', 'columns'])
def _forward(
    x, weight, bias, y, channels, height, width, rows, columns, GATE: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    image, patch, patch_column, c = _place(rows, columns, BLOCK_C)
    row, column = _pixels(patch, patch_column, BLOCK_H, BLOCK_W)
    if GATE:
        first, second = _convolved_halves(x, weight, bias, image, row, column, c, channels, height, width)
        result = first * second
    else:
        result = gelu(_convolved(x, weight, bias, image, row, column, c, channels, channels, height, width))
    _store(y, result, image, row, column, c, channels, channels, height, width)


@triton.jit(do_not_specialize=['height', 'width', 'rows', 'columns'])
def _by_convolution(
    x, weight, bias, dy, dz, channels, height, width, rows, columns, GATE: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Write the gradient with respect to the result of the convolution."""
    image, patch, patch_column, c = _place(rows, columns, BLOCK_C)
    row, column = _pixels(patch, patch_column, BLOCK_H, BLOCK_W)
    g = _load(dy, image, row, column, c, channels, channels, height, width)
    if GATE:
        both = 2 * channels
        first, second = _convolved_halves(x, weight, bias, image, row, column, c, channels, height, width)
        _store(dz, g * second, image, row, column, c, channels, both, height, width)
        _store(dz, g * first, image, row, column, channels + c, both, both, height, width)
    else:
        z = _convolved(x, weight, bias, image, row, column, c, channels, channels, height, width)
        _store(dz, g * gelu_slope(z), image, row, column, c, channels, channels, height, width)


@triton.jit(do_not_specialize=['patches', 'height', 'width', 'rows', 'columns'])
def _by_input(
    dz, x, weight, dx, partial, patches, channels, height, width, rows, columns, PATCHES: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Write the gradient with respect to x, and the program's partial sums of those of the weights and the bias.

    The weight at the top left connects a pixel of x with the result below and to the right of it, and so on.
    """
    image, strip, patch_column, c = _place(rows, columns, BLOCK_C)
    sums = tl.zeros((16, BLOCK_C), tl.float32)
    index = tl.arange(0, 16)[:, None]
    patch = strip * PATCHES
    end = tl.minimum(patch + PATCHES, patches)
    while patch < end:
        row, column = _pixels(patch, patch_column, BLOCK_H, BLOCK_W)
        pixels = _load(x, image, row, column, c, channels, channels, height, width)
        total = tl.zeros((BLOCK_H * BLOCK_W, BLOCK_C), tl.float32)
        for i in tl.range(3):
            for j in tl.static_range(3):
                tap = tl.load(weight + (3 * i + j) * channels + c, mask=c < channels, other=0.0).to(tl.float32)
                g = _load(dz, image, row + (1 - i), column + (1 - j), c, channels, channels, height, width)
                total += g * tap[None, :]
                sums += tl.where(index == 3 * i + j, tl.sum(g * pixels, 0)[None, :], 0.0)
        # not named g: Triton 3.2 crashes on a name that is assigned in a loop and again after it
        center = _load(dz, image, row, column, c, channels, channels, height, width)
        sums += tl.where(index == 9, tl.sum(center, 0)[None, :], 0.0)
        _store(dx, total, image, row, column, c, channels, channels, height, width)
        patch += 1
    at = (tl.program_id(0).to(tl.int64) * 10 + index) * channels + c[None, :]
    tl.store(partial + at, sums, mask=(index < 10) & (c < channels)[None, :])
