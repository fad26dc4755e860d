"""What the kernels on maps have in common: memory formats, strides, types, and the GELU."""

from contextlib import contextmanager

import torch
import triton
import triton.language as tl

SQRT_HALF = tl.constexpr(0.7071067811865476)
INVERSE_SQRT_TAU = tl.constexpr(0.3989422804014327)


@contextmanager
def launching(x):
    """Kernels go to the current device, so make that the one of x; and what is computed around them is not cast."""
    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        yield


def result_type(x):
    """The type of autocast where that is on for x's device, else the type of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def memory_format(x):
    """The format of a map or of a part of its channels."""
    channels_last = x.stride(1) == 1 and x.shape[1] > 1 and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format


def new_map(x, channels, dtype):
    """An empty map of x's size and memory format."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format(x))


def with_pixel_stride(x, format):
    """x itself where it has that format and its rows follow each other without gaps, else a copy."""
    height, width = x.shape[2:]
    gapless = height == 1 or width == 1 or x.stride(2) == width * x.stride(3)
    if gapless and (memory_format(x) == format or 0 in x.stride()):
        return x
    return x.contiguous(memory_format=format)


def view(x):
    """A map from `with_pixel_stride` as kernels take it: with the strides of batch, channels and pixels."""
    return x, x.stride(0), x.stride(1), x.stride(2) if x.shape[3] == 1 else x.stride(3)


def power_of_two(size, least, most):
    return max(least, min(most, triton.next_power_of_2(size)))


@triton.jit
def pixels_of(view, image, c, p):
    """Pointers to channels c (rows) at pixels p, of 64 bits: large maps have more than 2^31 elements."""
    x, stride_image, stride_c, stride_p = view
    return (
        x + image.to(tl.int64) * stride_image + c.to(tl.int64)[:, None] * stride_c + p.to(tl.int64)[None, :] * stride_p
    )


@triton.jit
def gelu(x):
    return x * 0.5 * (1 + tl.erf(x * SQRT_HALF))


@triton.jit
def gelu_slope(x):
    return 0.5 * (1 + tl.erf(x * SQRT_HALF)) + x * INVERSE_SQRT_TAU * tl.exp(-0.5 * x * x)
