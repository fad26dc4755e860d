"""Triton kernels of the layer normalization of every pixel over its channels, with and without a gate."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from deeprftv2_plugin.ops.backends.triton_kernels.maps import (
    channels_last,
    gelu,
    gelu_slope,
    new_map,
    pixels_of,
    power_of_two,
)

# Number of elements that one program holds at a time, unless a single pixel has more channels.
TILE = 4096

# Maximum number of programs of a backward pass. Each processes several tiles and writes one partial sum per channel.
PROGRAMS = 1024


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Return x (N, C, H, W), normalized over the channels of every pixel, in `dtype`."""
    return _normalize(x, None, weight, bias, eps, dtype)


def gated_layer_norm(x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Return `layer_norm(x)` times the GELU of `gate`."""
    return _normalize(x, gate, weight, bias, eps, dtype)


def layer_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, weight and bias."""
    dx, _, dweight, dbias = _gradients(dy, x, None, weight, weight, eps)
    return dx, dweight, dbias


def gated_layer_norm_backward(
    dy: Tensor, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, gate, weight and bias."""
    return _gradients(dy, x, gate, weight, bias, eps)


def _normalize(x, gate, weight, bias, eps, dtype):
    x = channels_last(x)
    y = new_map(x, x.shape[1], dtype)
    tiles, constants = _tiling(x)
    # Without a gate, x takes the place of this argument, which the kernel then does not read.
    opening = x if gate is None else channels_last(gate)
    _forward[(tiles,)](
        x,
        opening,
        weight.contiguous(),
        bias.contiguous(),
        y,
        eps,
        pixels_of(x),
        x.shape[1],
        GATED=gate is not None,
        **constants,
    )
    return y


def _gradients(dy, x, gate, weight, bias, eps):
    dy, x = channels_last(dy), channels_last(x)
    dx = new_map(x, x.shape[1], x.dtype)
    opening, dgate = x, dx
    if gate is not None:
        opening = channels_last(gate)
        dgate = new_map(x, x.shape[1], gate.dtype)
    tiles, constants = _tiling(x)
    programs = min(tiles, PROGRAMS)
    partial = torch.empty(2, programs, x.shape[1], dtype=torch.float32, device=x.device)
    _backward[(programs,)](
        x,
        opening,
        dy,
        dx,
        dgate,
        weight.contiguous(),
        bias.contiguous(),
        partial,
        eps,
        pixels_of(x),
        x.shape[1],
        tiles,
        programs,
        GATED=gate is not None,
        **constants,
    )
    dweight, dbias = (sums.sum(0).to(weight.dtype) for sums in partial)
    return dx, dgate, dweight, dbias


def _tiling(x):
    """Return the number of tiles of a map and the constants of the kernels."""
    block_c = triton.next_power_of_2(x.shape[1])
    block_p = power_of_two(pixels_of(x), max(1, TILE // block_c))
    # 16 values per lane, so that the values of several maps fit in registers
    warps = max(1, min(32, block_c * block_p // 512))
    return triton.cdiv(pixels_of(x), block_p), {'BLOCK_P': block_p, 'BLOCK_C': block_c, 'num_warps': warps}


@triton.jit
def _normalized(x, inside, channels, eps):
    """Return every pixel minus its mean divided by its standard deviation, and the inverse of the latter."""
    mean = tl.sum(x, 1) / channels
    centered = tl.where(inside, x - mean[:, None], 0.0)
    scale = 1 / tl.sqrt(tl.sum(centered * centered, 1) / channels + eps)
    return centered * scale[:, None], scale


@triton.jit(do_not_specialize=['pixels'])
def _forward(
    x, gate, weight, bias, y, eps, pixels, channels, GATED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):
    p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    c = tl.arange(0, BLOCK_C)
    at, inside = p * channels + c[None, :], (p < pixels) & (c < channels)[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    result, _ = _normalized(values, inside, channels, eps)
    result *= tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)[None, :]
    result += tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)[None, :]
    if GATED:
        result *= gelu(tl.load(gate + at, mask=inside, other=0.0).to(tl.float32))
    tl.store(y + at, result.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=['pixels', 'tiles', 'programs'])
def _backward(
    x, gate, dy, dx, dgate, weight, bias, partial, eps, pixels, channels, tiles, programs, GATED: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    c = tl.arange(0, BLOCK_C)
    gain = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)[None, :]
    dweight = tl.zeros((BLOCK_C,), tl.float32)
    dbias = tl.zeros((BLOCK_C,), tl.float32)
    tile = tl.program_id(0)
    while tile < tiles:
        p = tile.to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
        at, inside = p * channels + c[None, :], (p < pixels) & (c < channels)[None, :]
        values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
        normalized, scale = _normalized(values, inside, channels, eps)
        if GATED:
            opening = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
            by_gate = g * (normalized * gain + shift) * gelu_slope(opening)
            tl.store(dgate + at, by_gate.to(dgate.dtype.element_ty), mask=inside)
            g *= gelu(opening)
        dweight += tl.sum(g * normalized, 0)
        dbias += tl.sum(g, 0)
        g *= gain
        mean = tl.sum(g, 1) / channels
        slope = tl.sum(g * normalized, 1) / channels
        result = (g - mean[:, None] - normalized * slope[:, None]) * scale[:, None]
        tl.store(dx + at, result.to(dx.dtype.element_ty), mask=inside)
        tile += programs
    partial += tl.program_id(0) * channels
    tl.store(partial + c, dweight, mask=c < channels)
    tl.store(partial + programs * channels + c, dbias, mask=c < channels)
