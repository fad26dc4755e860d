"""Layer normalisation over channels in Triton, alone and gated."""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.backends.triton_kernels.maps import (
    gelu,
    gelu_slope,
    launching,
    memory_format,
    new_map,
    pixels_of,
    power_of_two,
    result_type,
    view,
    with_pixel_stride,
)

# The backward pass runs so many programs at most, each over several tiles: every one writes sums of its own.
PROGRAMS = 1024


def layer_norm(x, gate, weight, bias, eps):
    """`layer_norm` of `deeprftv2_plugin.ops.normalisation`, times the GELU of `gate` unless that is None."""
    dtype = result_type(x)
    with launching(x):
        return _LayerNorm.apply(x, gate, weight, bias, eps, dtype)


class _LayerNorm(torch.autograd.Function):
    """A program holds all channels of a few pixels in registers, so that every map is read once in either pass."""

    @staticmethod
    def forward(ctx, x, gate, weight, bias, eps, dtype):
        format = memory_format(x)
        x = with_pixel_stride(x, format)
        gate = None if gate is None else with_pixel_stride(gate, format)
        y = new_map(x, x.shape[1], dtype)
        tiles, tile, constants = _plan(x, gate)
        _forward[(tiles,)](
            view(x),
            view(x if gate is None else gate),
            weight.contiguous(),
            bias.contiguous(),
            view(y),
            eps,
            tile,
            **constants,
        )
        ctx.save_for_backward(x, gate, weight, bias)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, gate, weight, bias = ctx.saved_tensors
        with launching(x):
            dy = with_pixel_stride(dy, memory_format(x))
            dx = new_map(x, x.shape[1], x.dtype)
            dgate = None if gate is None else new_map(x, x.shape[1], gate.dtype)
            tiles, tile, constants = _plan(x, gate)
            programs = min(tiles, PROGRAMS)
            partial = torch.empty(2, programs, x.shape[1], dtype=torch.float32, device=x.device)
            maps = (view(x), view(x if gate is None else gate), view(dy), view(dx), view(dx if gate is None else dgate))
            _backward[(programs,)](
                *maps, weight.contiguous(), bias.contiguous(), partial, ctx.eps, tile, tiles, programs, **constants
            )
            dweight, dbias = partial.sum(1).unbind()
            return dx, dgate, dweight.to(weight.dtype), dbias.to(bias.dtype), None, None


def _plan(x, gate):
    """The number of tiles, what kernels know of a tile, and the constants."""
    images, channels, height, width = x.shape
    block_c = triton.next_power_of_2(channels)
    # Where pixels are neighbours in memory, 8 of them in float32 make one sector of 32 bytes.
    least = 1 if x.stride(1) == 1 else 8
    block_p = power_of_two(height * width, 1, max(least, min(128, 4096 // block_c)))
    tiles_of_image = triton.cdiv(height * width, block_p)
    constants = {
        'GATED': gate is not None,
        'BLOCK_C': block_c,
        'BLOCK_P': block_p,
        'num_warps': max(1, min(32, block_c * block_p // 512)),  # 16 values a lane: several maps fit into registers
    }
    return images * tiles_of_image, (channels, height * width, tiles_of_image), constants


@triton.jit
def _normalised(x, inside, channels, eps):
    """Every pixel less its mean, over its standard deviation, and the inverse of that."""
    mean = tl.sum(x, 0) / channels
    centred = tl.where(inside, x - mean[None, :], 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 0) / channels + eps)
    return centred * scale[None, :], scale


@triton.jit
def _forward(x, gate, weight, bias, y, eps, sizes, GATED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    channels, pixels, tiles_of_image = sizes
    tile = tl.program_id(0)
    c = tl.arange(0, BLOCK_C)
    p = (tile % tiles_of_image) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = (c < channels)[:, None] & (p < pixels)[None, :]
    values = tl.load(pixels_of(x, tile // tiles_of_image, c, p), mask=inside, other=0.0).to(tl.float32)
    result, _ = _normalised(values, inside, channels, eps)
    result *= tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)[:, None]
    result += tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)[:, None]
    if GATED:
        result *= gelu(tl.load(pixels_of(gate, tile // tiles_of_image, c, p), mask=inside, other=0.0).to(tl.float32))
    tl.store(pixels_of(y, tile // tiles_of_image, c, p), result.to(y[0].dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    x,
    gate,
    dy,
    dx,
    dgate,
    weight,
    bias,
    partial,
    eps,
    sizes,
    tiles,
    programs,
    GATED: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    channels, pixels, tiles_of_image = sizes
    c = tl.arange(0, BLOCK_C)
    gain = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)[:, None]
    shift = tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)[:, None]
    dweight = tl.zeros((BLOCK_C,), tl.float32)
    dbias = tl.zeros((BLOCK_C,), tl.float32)
    tile = tl.program_id(0)
    while tile < tiles:
        image = tile // tiles_of_image
        p = (tile % tiles_of_image) * BLOCK_P + tl.arange(0, BLOCK_P)
        inside = (c < channels)[:, None] & (p < pixels)[None, :]
        values = tl.load(pixels_of(x, image, c, p), mask=inside, other=0.0).to(tl.float32)
        g = tl.load(pixels_of(dy, image, c, p), mask=inside, other=0.0).to(tl.float32)
        normalised, scale = _normalised(values, inside, channels, eps)
        if GATED:
            opening = tl.load(pixels_of(gate, image, c, p), mask=inside, other=0.0).to(tl.float32)
            by_gate = g * (normalised * gain + shift) * gelu_slope(opening)
            tl.store(pixels_of(dgate, image, c, p), by_gate.to(dgate[0].dtype.element_ty), mask=inside)
            g *= gelu(opening)
        dweight += tl.sum(g * normalised, 1)
        dbias += tl.sum(g, 1)
        g *= gain
        mean = tl.sum(g, 0) / channels
        slope = tl.sum(g * normalised, 0) / channels
        result = (g - mean[None, :] - normalised * slope[None, :]) * scale[None, :]
        tl.store(pixels_of(dx, image, c, p), result.to(dx[0].dtype.element_ty), mask=inside)
        tile += programs
    partial += tl.program_id(0) * channels
    tl.store(partial + c, dweight, mask=c < channels)
    tl.store(partial + programs * channels + c, dbias, mask=c < channels)
