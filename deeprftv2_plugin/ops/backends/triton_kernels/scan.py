"""The selective scan in Triton."""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.backends.triton_kernels.maps import launching, power_of_two

LOG2_E = tl.constexpr(1.4426950408889634)

# A tile is one segment of the sequence times a few channels, one per warp, so that a lane reads four neighbours of a
# row with one access and a scan stays within its warp. The segment is all the sequence that a program sees: programs
# run side by side along the sequence, so that the GPU is full also where batch and channels are few.
SEGMENT = 128
CHANNELS = 4

# Every program sums the gradients by B and C of its channels in registers and writes them once, without atomics. With
# this many programs the GPU is full; where there are more segments than that, a program takes all channels of one.
# With 8 states these sums so take at most 16 MiB more than the gradients by B and C themselves.
PROGRAMS = 2048

# So many segments at once carry their states on.
CARRIED = 1024


def selective_scan(u, delta, A, B, C, D, delta_bias, segment=SEGMENT):
    """See `deeprftv2_plugin.ops.scan`; `segment` is the most that one program takes of the sequence, a power of two.

    As in Gu and Dao, "Mamba", 2023, states are never written out, but blocks run in parallel along the sequence too, in
    three steps: what every segment makes of nothing; from that the state before every segment; every segment from its
    state. After a segment exp(A * sum of its steps) is left of a state, so the first step needs no scan per state. The
    backward pass keeps the states before the segments (N / 128 of the input) and does the same in reverse.
    """
    with launching(u):
        return _SelectiveScan.apply(u, delta, A, B, C, D, delta_bias, segment)


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias, segment):
        ctx.types = tuple(t.dtype for t in (A, D, delta_bias))
        u, delta, B, C = map(_with_unit_stride, (u, delta, B, C))
        A, D, delta_bias = (t.float().contiguous() for t in (A, D, delta_bias))
        plan = ctx.plan = _Plan(u, A, segment)
        entries, sums = plan.new_states(), plan.new_sums()
        if plan.segments > 1:
            plan.carry(u, delta, B, A, delta_bias, sums, entries, reverse=False)
        y = torch.empty(u.shape, dtype=torch.float32, device=u.device)
        plan.launch(_forward, *map(_view, (u, delta, B, C, y)), A, D, delta_bias, entries)
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, entries, sums)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        u, delta, A, B, C, D, delta_bias, entries, sums = ctx.saved_tensors
        plan, dy = ctx.plan, _with_unit_stride(dy)
        with launching(u):
            wanted = plan.new_states()
            if plan.segments > 1:
                plan.carry(dy, delta, C, A, delta_bias, sums, wanted, reverse=True)
            du, ddelta = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (u, delta))
            of_channels, of_positions = plan.new_states(more=2), plan.new_partial_sums()
            views = map(_view, (u, delta, B, C, dy, du, ddelta))
            plan.launch(_backward, *views, A, D, delta_bias, entries, wanted, of_channels, of_positions)
            dB, dC = of_positions[0] if plan.groups == 1 else of_positions.sum(0)
            sums = of_channels.sum((0, 2)).split((plan.states, 1, 1), dim=1)
            dA, dD, dbias = (t.to(dtype) for t, dtype in zip(sums, ctx.types, strict=True))
            return du, ddelta, dA, dB.to(B.dtype), dC.to(C.dtype), dD[:, 0], dbias[:, 0], None


def _with_unit_stride(x):
    return x if x.stride(-1) == 1 else x.contiguous()


def _view(x):
    """A tensor as kernels take it: with its strides from batch to batch and from row to row."""
    return x, x.stride(0), x.stride(1)


class _Plan:
    """How a scan is cut: into segments, and into groups of channels that one program takes."""

    def __init__(self, u, A, segment):
        self.batch, self.channels, self.length = u.shape
        self.states, self.options = A.shape[1], {'dtype': torch.float32, 'device': u.device}
        self.block = max(power_of_two(self.length, 1, segment), triton.next_power_of_2(self.states + 2))
        self.segments = triton.cdiv(self.length, self.block)
        tiles = triton.cdiv(self.channels, CHANNELS)
        tiles_of_program = triton.cdiv(tiles, triton.cdiv(PROGRAMS, self.batch * self.segments))
        self.groups = triton.cdiv(tiles, tiles_of_program)
        self.group = tiles_of_program * CHANNELS

    def new_states(self, more=0):
        """A number for every state, and more, of every segment of every channel; zero."""
        return torch.zeros(self.batch, self.channels, self.segments, self.states + more, **self.options)

    def new_sums(self):
        """A number for every segment of every channel."""
        return torch.empty(self.batch, self.channels, self.segments, **self.options)

    def new_partial_sums(self):
        """The gradients by B and by C of every group of channels."""
        return torch.empty(self.groups, 2, self.batch, self.states, self.length, **self.options)

    def launch(self, kernel, *arguments, **constants):
        kernel[(self.batch * self.segments, self.groups)](
            *arguments,
            (self.batch, self.channels, self.length, self.segments, self.group),
            N=self.states,
            BLOCK_D=CHANNELS,
            BLOCK_L=self.block,
            num_warps=4,
            **constants,
        )

    def carry(self, x, delta, weights, A, delta_bias, sums, out, reverse):
        """Find the states before the segments or, in reverse, the gradients by the states after them."""
        ends = torch.empty_like(out)
        self.launch(_segment_ends, *map(_view, (x, delta, weights)), A, delta_bias, ends, sums, REVERSE=reverse)
        block = power_of_two(self.segments, 1, CARRIED)
        grid = (self.batch * self.channels * self.states,)
        _carry[grid](ends, sums, A, out, self.channels, self.segments, self.states, REVERSE=reverse, BLOCK=block)


@triton.jit
def _then(decay1, state1, decay2, state2):
    """Two steps of the recurrence as one."""
    return decay1 * decay2, state1 * decay2 + state2


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), accurate in relative terms everywhere, and exp(-|x|).

    With s = e / (2 + e), log(1 + e) = 2 artanh(s), by its series up to s^13: e is at most 1, hence s at most 1/3. The
    logarithm itself would lose the digits of a small e.
    """
    e = tl.exp(-tl.abs(x))
    s = e / (2 + e)
    q = s * s
    series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13))))))
    return tl.maximum(x, 0.0) + 2 * s * series, e


@triton.jit
def _tile(view, batch, d, t):
    """Pointers to a tile, of 64 bits: a tensor may have more than 2^31 elements."""
    x, stride_batch, stride_row = view
    return x + batch.to(tl.int64) * stride_batch + d.to(tl.int64)[:, None] * stride_row + t[None, :]


@triton.jit
def _shared_row(view, batch, n, d, t, inside):
    """Row n of B or C for every channel: read by each warp, from the cache, rather than passed on between warps."""
    return tl.load(_tile(view, batch, d * 0 + n, t), mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _total(x):
    """The sum over the segment, at all positions of a tile: from there a warp stores it without waiting for others."""
    return tl.broadcast_to(tl.sum(x, 1)[:, None], x.shape)


@triton.jit
def _segment_ends(
    x,
    delta,
    weights,
    A,
    delta_bias,
    ends,
    sums,
    sizes,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_L: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """What is left of the inputs of a segment at its end, and the sum of its steps; in reverse, of dy at its start."""
    batches, channels, length, segments, group = sizes
    batch, segment = tl.program_id(0) // segments, tl.program_id(0) % segments
    t = segment * BLOCK_L + tl.arange(0, BLOCK_L)
    position = tl.arange(0, BLOCK_L)[None, :]
    start = tl.program_id(1) * group
    end_of_group = tl.minimum(start + group, channels)
    while start < end_of_group:
        d = start + tl.arange(0, BLOCK_D)
        of_channel = d < channels
        inside = of_channel[:, None] & (t < length)[None, :]
        shift = tl.load(delta_bias + d, mask=of_channel, other=0.0)
        raw = tl.load(_tile(delta, batch, d, t), mask=inside, other=0.0).to(tl.float32) + shift[:, None]
        value = tl.load(_tile(x, batch, d, t), mask=inside, other=0.0).to(tl.float32)
        step, e = _softplus(raw)
        step = tl.where(inside, step, 0.0)
        of_segment = (batch.to(tl.int64) * channels + d) * segments + segment
        if REVERSE:
            between = tl.cumsum(step, 1)
        else:
            between = tl.cumsum(step, 1, reverse=True) - step
            value *= step
            tl.store(
                sums + of_segment[:, None] + 0 * position, _total(step), mask=of_channel[:, None] & (position == 0)
            )
        found = tl.zeros((BLOCK_D, BLOCK_L), tl.float32)
        for n in tl.static_range(N):
            rate = tl.load(A + d * N + n, mask=of_channel, other=0.0) * LOG2_E
            end = value * _shared_row(weights, batch, n, d, t, inside) * tl.exp2(between * rate[:, None])
            found = tl.where(position == n, _total(end), found)
        tl.store(ends + of_segment[:, None] * N + position, found, mask=of_channel[:, None] & (position < N))
        start += BLOCK_D


@triton.jit
def _carry(ends, sums, A, out, channels, segments, states, REVERSE: tl.constexpr, BLOCK: tl.constexpr):
    """The recurrence over segments for one state of one channel; what leaves a segment is stored for the following."""
    row = tl.program_id(0)
    rate = tl.load(A + row % (channels * states)) * LOG2_E
    sums += (row // states).to(tl.int64) * segments
    ends += (row // states).to(tl.int64) * segments * states + row % states
    out += (row // states).to(tl.int64) * segments * states + row % states
    start, state = 0, 0.0
    while start < segments:
        index = start + tl.arange(0, BLOCK)
        inside = index < segments
        segment = segments - 1 - index if REVERSE else index
        following = segment - 1 if REVERSE else segment + 1
        decay = tl.exp2(rate * tl.load(sums + segment, mask=inside, other=0.0))
        reach, after = tl.associative_scan((decay, tl.load(ends + segment * states, mask=inside, other=0.0)), 0, _then)
        after += reach * state
        tl.store(out + following * states, after, mask=index < segments - 1)
        state = tl.sum(tl.where(index == start + BLOCK - 1, after, 0.0), 0)
        start += BLOCK


@triton.jit
def _forward(
    u,
    delta,
    B,
    C,
    y,
    A,
    D,
    delta_bias,
    entries,
    sizes,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    batches, channels, length, segments, group = sizes
    batch, segment = tl.program_id(0) // segments, tl.program_id(0) % segments
    t = segment * BLOCK_L + tl.arange(0, BLOCK_L)
    start = tl.program_id(1) * group
    end_of_group = tl.minimum(start + group, channels)
    while start < end_of_group:
        d = start + tl.arange(0, BLOCK_D)
        of_channel = d < channels
        inside = of_channel[:, None] & (t < length)[None, :]
        states = ((batch.to(tl.int64) * channels + d) * segments + segment) * N
        shift = tl.load(delta_bias + d, mask=of_channel, other=0.0)
        raw = tl.load(_tile(delta, batch, d, t), mask=inside, other=0.0).to(tl.float32) + shift[:, None]
        value = tl.load(_tile(u, batch, d, t), mask=inside, other=0.0).to(tl.float32)
        step, e = _softplus(raw)
        result = value * tl.load(D + d, mask=of_channel, other=0.0)[:, None]
        value *= step
        for n in tl.static_range(N):
            rate = tl.load(A + d * N + n, mask=of_channel, other=0.0) * LOG2_E
            entry = tl.load(entries + states + n, mask=of_channel, other=0.0)
            arriving = value * _shared_row(B, batch, n, d, t, inside)
            reach, state = tl.associative_scan((tl.exp2(step * rate[:, None]), arriving), 1, _then)
            result += (state + reach * entry[:, None]) * _shared_row(C, batch, n, d, t, inside)
        tl.store(_tile(y, batch, d, t), result, mask=inside)
        start += BLOCK_D


@triton.jit
def _backward(
    u,
    delta,
    B,
    C,
    dy,
    du,
    ddelta,
    A,
    D,
    delta_bias,
    entries,
    wanted,
    of_channels,
    of_positions,
    sizes,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """States and gradients by them, from which all others follow.

    The gradient by a state decays by the step after it. Its recurrence runs on a mirrored segment, and only its result
    is mirrored back: a scan with `reverse` would mirror all that goes in and out, by five exchanges a value.
    """
    batches, channels, length, segments, group = sizes
    batch, segment = tl.program_id(0) // segments, tl.program_id(0) % segments
    position = tl.arange(0, BLOCK_L)
    t = segment * BLOCK_L + position
    mirror = tl.broadcast_to((BLOCK_L - 1 - position)[None, :], (BLOCK_D, BLOCK_L))
    previous = tl.broadcast_to(((position - 1) & (BLOCK_L - 1))[None, :], (BLOCK_D, BLOCK_L))
    start = tl.program_id(1) * group
    end_of_group = tl.minimum(start + group, channels)
    dB, dC = (), ()
    for _n in tl.static_range(N):
        dB = dB + (tl.zeros((BLOCK_D, BLOCK_L), tl.float32),)
        dC = dC + (tl.zeros((BLOCK_D, BLOCK_L), tl.float32),)
    while start < end_of_group:
        d = start + tl.arange(0, BLOCK_D)
        of_channel = d < channels
        inside = of_channel[:, None] & (t < length)[None, :]
        has_next = of_channel[:, None] & ((position < BLOCK_L - 1) & (t < length - 1))[None, :]
        of_segment = (batch.to(tl.int64) * channels + d) * segments + segment
        shift = tl.load(delta_bias + d, mask=of_channel, other=0.0)[:, None]
        direct = tl.load(D + d, mask=of_channel, other=0.0)[:, None]
        raw = tl.load(_tile(delta, batch, d, t), mask=inside, other=0.0).to(tl.float32) + shift
        value = tl.load(_tile(u, batch, d, t), mask=inside, other=0.0).to(tl.float32)
        g = tl.load(_tile(dy, batch, d, t), mask=inside, other=0.0).to(tl.float32)
        step, e = _softplus(raw)
        raw_next = tl.load(_tile(delta, batch, d, t + 1), mask=has_next, other=0.0).to(tl.float32) + shift
        next_step, next_e = _softplus(raw_next)
        next_step = tl.gather(tl.where(has_next, next_step, 0.0), mirror, 1)

        x = step * value
        dx = tl.zeros((BLOCK_D, BLOCK_L), tl.float32)
        dstep = tl.zeros((BLOCK_D, BLOCK_L), tl.float32)
        found = tl.zeros((BLOCK_D, BLOCK_L), tl.float32)
        new_dB, new_dC = (), ()
        for n in tl.static_range(N):
            decay_rate = tl.load(A + d * N + n, mask=of_channel, other=0.0)[:, None]
            entry = tl.load(entries + of_segment * N + n, mask=of_channel, other=0.0)[:, None]
            later = tl.load(wanted + of_segment * N + n, mask=of_channel, other=0.0)[:, None]
            b = _shared_row(B, batch, n, d, t, inside)
            decay = tl.exp2(step * (decay_rate * LOG2_E))
            reach, state = tl.associative_scan((decay, x * b), 1, _then)
            state += reach * entry
            asked = tl.gather(g * _shared_row(C, batch, n, d, t, inside), mirror, 1)
            reach, adjoint = tl.associative_scan((tl.exp2(next_step * (decay_rate * LOG2_E)), asked), 1, _then)
            adjoint = tl.gather(adjoint + reach * later, mirror, 1)
            new_dB = new_dB + (dB[n] + adjoint * x,)
            new_dC = new_dC + (dC[n] + state * g,)
            dx += adjoint * b
            # Not state - x * b, which is all rounding where states decay strongly.
            before = tl.where(position[None, :] == 0, entry, tl.gather(state, previous, 1))
            by_exponent = adjoint * decay * before
            dstep += by_exponent * decay_rate
            found = tl.where(position[None, :] == n, _total(by_exponent * step), found)
        dB, dC = new_dB, new_dC

        draw = (dstep + dx * value) * tl.where(raw >= 0, 1.0, e) / (1 + e)
        draw = tl.where(inside, draw, 0.0)
        tl.store(_tile(du, batch, d, t), (dx * step + g * direct).to(du[0].dtype.element_ty), mask=inside)
        tl.store(_tile(ddelta, batch, d, t), draw.to(ddelta[0].dtype.element_ty), mask=inside)
        found = tl.where(position[None, :] == N, _total(g * value), found)
        found = tl.where(position[None, :] == N + 1, _total(draw), found)
        of_states = of_channels + of_segment[:, None] * (N + 2) + position[None, :]
        tl.store(of_states, found, mask=of_channel[:, None] & (position < N + 2)[None, :])
        start += BLOCK_D

    row = (tl.program_id(1).to(tl.int64) * 2 * batches + batch) * N
    for n in tl.static_range(N):
        tl.store(of_positions + (row + n) * length + t, tl.sum(dB[n], 0), mask=t < length)
        tl.store(of_positions + (row + batches * N + n) * length + t, tl.sum(dC[n], 0), mask=t < length)
