"""The product of two halves of the channels in Triton."""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.backends.triton_kernels.maps import (
    launching,
    memory_format,
    new_map,
    pixels_of,
    power_of_two,
    view,
    with_pixel_stride,
)


def simple_gate(x):
    """See `deeprftv2_plugin.ops.gates`."""
    with launching(x):
        return _SimpleGate.apply(x)


class _SimpleGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = with_pixel_stride(x, memory_format(x))
        y = new_map(x, x.shape[1] // 2, x.dtype)
        _launch(_forward, y, view(x), view(y))
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        with launching(x):
            dy, dx = with_pixel_stride(dy, memory_format(x)), new_map(x, x.shape[1], x.dtype)
            _launch(_backward, dy, view(x), view(dy), view(dx))
        return dx


def _launch(kernel, y, *views):
    images, channels, height, width = y.shape
    # Lanes run along what is contiguous in memory.
    most_c = 64 if y.stride(1) == 1 else 8
    block_c = power_of_two(channels, 1, most_c)
    block_p = power_of_two(height * width, 1, 2048 // block_c)
    tiles_of_image = triton.cdiv(height * width, block_p)
    grid = (images * tiles_of_image, triton.cdiv(channels, block_c))
    kernel[grid](*views, (channels, height * width, tiles_of_image), BLOCK_C=block_c, BLOCK_P=block_p)


@triton.jit
def _tile(sizes, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    """The image, channels and pixels of a program, and which of these there are."""
    channels, pixels, tiles_of_image = sizes
    image, tile = tl.program_id(0) // tiles_of_image, tl.program_id(0) % tiles_of_image
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    p = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    return image, c, p, (c < channels)[:, None] & (p < pixels)[None, :]


@triton.jit
def _forward(x, y, sizes, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    image, c, p, inside = _tile(sizes, BLOCK_C, BLOCK_P)
    first = tl.load(pixels_of(x, image, c, p), mask=inside).to(tl.float32)
    second = tl.load(pixels_of(x, image, c + sizes[0], p), mask=inside).to(tl.float32)
    tl.store(pixels_of(y, image, c, p), (first * second).to(y[0].dtype.element_ty), mask=inside)


@triton.jit
def _backward(x, dy, dx, sizes, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    image, c, p, inside = _tile(sizes, BLOCK_C, BLOCK_P)
    first = tl.load(pixels_of(x, image, c, p), mask=inside).to(tl.float32)
    second = tl.load(pixels_of(x, image, c + sizes[0], p), mask=inside).to(tl.float32)
    g = tl.load(pixels_of(dy, image, c, p), mask=inside).to(tl.float32)
    tl.store(pixels_of(dx, image, c, p), (g * second).to(dx[0].dtype.element_ty), mask=inside)
    tl.store(pixels_of(dx, image, c + sizes[0], p), (g * first).to(dx[0].dtype.element_ty), mask=inside)
