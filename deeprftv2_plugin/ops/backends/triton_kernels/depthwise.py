"""The depthwise convolution of 3x3 with a gate or a GELU behind it in Triton."""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.backends.triton_kernels.maps import (
    gelu,
    gelu_slope,
    launching,
    new_map,
    power_of_two,
    result_type,
)

# A program walks down a strip of so many rows with three of them in registers: three reads a pixel instead of nine.
ROWS = 32


def depthwise(x, weight, bias, gate):
    """`depthwise_gate` or, without gate, `depthwise_gelu` of `deeprftv2_plugin.ops.gates`."""
    dtype = result_type(x)
    with launching(x):
        return _Depthwise.apply(x, weight, bias, gate, dtype)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, gate, dtype):
        y = new_map(x, x.shape[1] // 2 if gate else x.shape[1], dtype)
        plan = _Plan(x, y.shape[1])
        # Without a gradient to come y stands in for it.
        plan.launch(_convolve, *map(_view, (x, y, y)), *_rounded(weight, bias, dtype), GATE=gate, BACKWARD=False)
        ctx.save_for_backward(x, weight, bias)
        ctx.gate = gate
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        """The gradient by the result of the convolution, which is computed again, then those by its arguments."""
        x, weight, bias = ctx.saved_tensors
        with launching(x):
            kernel, shift = _rounded(weight, bias, dy.dtype)
            dz, dx = new_map(x, x.shape[1], dy.dtype), new_map(x, x.shape[1], x.dtype)
            plan = _Plan(x, dy.shape[1])
            plan.launch(_convolve, *map(_view, (x, dy, dz)), kernel, shift, GATE=ctx.gate, BACKWARD=True)
            plan = _Plan(x, x.shape[1])
            partial = torch.empty(plan.programs, 10, x.shape[1], dtype=torch.float32, device=x.device)
            plan.launch(_transposed, *map(_view, (dz, x, dx)), kernel, partial)
            sums = partial.sum(0)
            return dx, sums[:9].t().reshape(weight.shape).to(weight.dtype), sums[9].to(bias.dtype), None, None


def _view(x):
    """A map as kernels take it: with its strides."""
    return x, *x.stride()


def _rounded(weight, bias, dtype):
    return weight.to(dtype).contiguous(), bias.to(dtype).contiguous()


class _Plan:
    """How a map of so many channels is cut into strips."""

    def __init__(self, x, channels):
        images, _, height, width = x.shape
        # Lanes run along what is contiguous in memory.
        if x.stride(1) == 1:
            self.block_c = power_of_two(channels, 1, 64)
            self.block_w = power_of_two(width, 1, 512 // self.block_c)
        else:
            self.block_w = power_of_two(width, 1, 128)
            self.block_c = power_of_two(channels, 1, 512 // self.block_w)
        strips, columns = triton.cdiv(height, ROWS), triton.cdiv(width, self.block_w)
        self.programs = images * strips * columns
        self.groups = triton.cdiv(channels, self.block_c)
        self.sizes = (channels, height, width, strips, columns)

    def launch(self, kernel, *arguments, **constants):
        kernel[(self.programs, self.groups)](
            *arguments, self.sizes, ROWS=ROWS, BLOCK_C=self.block_c, BLOCK_W=self.block_w, num_warps=4, **constants
        )


@triton.jit
def _strip(sizes, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_W: tl.constexpr):
    """The image, channels, first row and columns of a program."""
    channels, height, width, strips, columns = sizes
    program = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    column = program % columns * BLOCK_W + tl.arange(0, BLOCK_W)
    return program // columns // strips, c, program // columns % strips * ROWS, column


@triton.jit
def _at(view, image, c, row, column):
    """Pointers to a part of a row for several channels, of 64 bits: large maps have more than 2^31 elements."""
    x, stride_image, stride_c, stride_row, stride_column = view
    base = x + image.to(tl.int64) * stride_image + row.to(tl.int64) * stride_row
    return base + c.to(tl.int64)[:, None] * stride_c + column.to(tl.int64)[None, :] * stride_column


@triton.jit
def _row(view, image, c, row, column, sizes, last, TYPE: tl.constexpr):
    """Left neighbours, pixels and right neighbours of a part of a row, rounded to TYPE; zeros outside of the map."""
    height, width = sizes[1], sizes[2]
    inside = (c < last)[:, None] & (row >= 0) & (row < height)
    left = tl.load(
        _at(view, image, c, row, column - 1), mask=inside & ((column > 0) & (column <= width))[None, :], other=0.0
    )
    middle = tl.load(_at(view, image, c, row, column), mask=inside & (column < width)[None, :], other=0.0)
    right = tl.load(_at(view, image, c, row, column + 1), mask=inside & (column < width - 1)[None, :], other=0.0)
    return left.to(TYPE).to(tl.float32), middle.to(TYPE).to(tl.float32), right.to(TYPE).to(tl.float32)


@triton.jit
def _taps(weight, c, last):
    """The nine weights of every channel, row by row."""
    taps = ()
    for k in tl.static_range(9):
        taps = taps + (tl.load(weight + c * 9 + k, mask=c < last, other=0.0).to(tl.float32)[:, None],)
    return taps


@triton.jit
def _weighted(above, here, below, taps):
    total = above[0] * taps[0] + above[1] * taps[1] + above[2] * taps[2]
    total += here[0] * taps[3] + here[1] * taps[4] + here[2] * taps[5]
    return total + below[0] * taps[6] + below[1] * taps[7] + below[2] * taps[8]


@triton.jit
def _convolve(
    x,
    y,
    dz,
    weight,
    bias,
    sizes,
    GATE: tl.constexpr,
    BACKWARD: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Forward it writes the result y; backward it reads the gradient by y there, and writes that by the convolution."""
    TYPE: tl.constexpr = y[0].dtype.element_ty
    image, c, row, column = _strip(sizes, ROWS, BLOCK_C, BLOCK_W)
    channels, height, width = sizes[0], sizes[1], sizes[2]
    # Without a gate the second half is the first, and the compiler drops it.
    second, last = (c + channels, 2 * channels) if GATE else (c, channels)
    # Channels behind the end of a half are computed, but not stored.
    end = tl.minimum(row + ROWS, height)
    taps1, taps2 = _taps(weight, c, last), _taps(weight, second, last)
    shift1 = tl.load(bias + c, mask=c < last, other=0.0).to(tl.float32)[:, None]
    shift2 = tl.load(bias + second, mask=second < last, other=0.0).to(tl.float32)[:, None]
    above1 = _row(x, image, c, row - 1, column, sizes, last, TYPE)
    above2 = _row(x, image, second, row - 1, column, sizes, last, TYPE)
    here1 = _row(x, image, c, row, column, sizes, last, TYPE)
    here2 = _row(x, image, second, row, column, sizes, last, TYPE)
    inside = (c < channels)[:, None] & (column < width)[None, :]
    while row < end:
        below1 = _row(x, image, c, row + 1, column, sizes, last, TYPE)
        below2 = _row(x, image, second, row + 1, column, sizes, last, TYPE)
        z1 = _weighted(above1, here1, below1, taps1) + shift1
        z2 = _weighted(above2, here2, below2, taps2) + shift2
        if BACKWARD:
            g = tl.load(_at(y, image, c, row, column), mask=inside, other=0.0).to(tl.float32)
            if GATE:
                tl.store(_at(dz, image, c, row, column), (g * z2).to(TYPE), mask=inside)
                tl.store(_at(dz, image, second, row, column), (g * z1).to(TYPE), mask=inside)
            else:
                tl.store(_at(dz, image, c, row, column), (g * gelu_slope(z1)).to(TYPE), mask=inside)
        else:
            result = z1 * z2 if GATE else gelu(z1)
            tl.store(_at(y, image, c, row, column), result.to(TYPE), mask=inside)
        above1, here1 = here1, below1
        above2, here2 = here2, below2
        row += 1


@triton.jit
def _transposed(
    dz,
    x,
    dx,
    weight,
    partial,
    sizes,
    ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """The gradient by x, and the program's part of those by the weights and the bias."""
    TYPE: tl.constexpr = dz[0].dtype.element_ty
    image, c, row, column = _strip(sizes, ROWS, BLOCK_C, BLOCK_W)
    channels, height, width = sizes[0], sizes[1], sizes[2]
    end = tl.minimum(row + ROWS, height)
    taps = _taps(weight, c, channels)
    mirrored = (taps[8], taps[7], taps[6], taps[5], taps[4], taps[3], taps[2], taps[1], taps[0])
    above = _row(dz, image, c, row - 1, column, sizes, channels, TYPE)
    here = _row(dz, image, c, row, column, sizes, channels, TYPE)
    inside = (c < channels)[:, None] & (column < width)[None, :]
    sums = ()
    for _k in tl.static_range(10):
        sums = sums + (tl.zeros((BLOCK_C, BLOCK_W), tl.float32),)
    while row < end:
        below = _row(dz, image, c, row + 1, column, sizes, channels, TYPE)
        result = _weighted(above, here, below, mirrored)
        tl.store(_at(dx, image, c, row, column), result.to(dx[0].dtype.element_ty), mask=inside)
        pixel = tl.load(_at(x, image, c, row, column), mask=inside, other=0.0).to(TYPE).to(tl.float32)
        # The weight at the top left joins a pixel with the result below right of it, and so on.
        new = ()
        for k in tl.static_range(3):
            new = new + (sums[k] + pixel * below[2 - k],)
        for k in tl.static_range(3):
            new = new + (sums[3 + k] + pixel * here[2 - k],)
        for k in tl.static_range(3):
            new = new + (sums[6 + k] + pixel * above[2 - k],)
        sums = new + (sums[9] + tl.where(inside, here[1], 0.0),)
        above, here = here, below
        row += 1
    for k in tl.static_range(10):
        at = (tl.program_id(0).to(tl.int64) * 10 + k) * channels + c
        tl.store(partial + at, tl.sum(sums[k], 1), mask=c < channels)
