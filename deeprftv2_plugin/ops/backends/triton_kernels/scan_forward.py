"""Triton kernels of the selective scan: the states from segment to segment, and the output.

A program holds the states of a few channels in registers, as a matrix (states, channels), and iterates over one segment
of the sequence. It loads several positions before it computes the first one, so that it does not wait for memory at
every position.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_states(x, index, n, d, channels, N: tl.constexpr):
    """Return one of the matrices (states, channels) that x consists of."""
    inside = (n < N)[:, None] & (d < channels)[None, :]
    return tl.load(x + (index * N + n[:, None]) * channels + d[None, :], mask=inside, other=0.0)


@triton.jit
def begin(A, delta_bias, segments, channels, N: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """Return the sequence and the segment of a program, its states and channels, and their rates and biases."""
    n = tl.arange(0, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    rate = load_states(A, 0, n, d, channels, N) * LOG2_E
    shift = tl.load(delta_bias + d, mask=d < channels, other=0.0)
    return (tl.program_id(0) // segments).to(tl.int64), tl.program_id(0) % segments, n, d, rate, shift


@triton.jit
def moved(first, second, by):
    """Return two pointers, such as those of the inputs of a sequence, moved by a number of elements."""
    return first + by, second + by


@triton.jit
def store_states(x, value, index, n, d, channels, N: tl.constexpr):
    inside = (n < N)[:, None] & (d < channels)[None, :]
    tl.store(x + (index * N + n[:, None]) * channels + d[None, :], value, mask=inside)


@triton.jit
def exists(t, lanes, width, length):
    """Return the mask of the lanes of position t of a sequence, which is empty past its end."""
    return lanes < tl.where(t < length, width, 0)


@triton.jit
def two_rows(x, t, lanes, width, length):
    """Return positions t and t + 1 of a sequence as float32, with zeros past its end."""
    x += t.to(tl.int64) * width + lanes
    return (
        tl.load(x, mask=exists(t, lanes, width, length), other=0.0).to(tl.float32),
        tl.load(x + width, mask=exists(t + 1, lanes, width, length), other=0.0).to(tl.float32),
    )


@triton.jit
def _four_rows(x, t, lanes, width, length):
    x0, x1 = two_rows(x, t, lanes, width, length)
    x2, x3 = two_rows(x + 2 * width, t, lanes, width, length - 2)
    return x0, x1, x2, x3


@triton.jit
def store_two(x, t, first, second, lanes, width, length):
    """Store positions t and t + 1 of a sequence where they exist."""
    at = x + t.to(tl.int64) * width + lanes
    tl.store(at, first.to(x.dtype.element_ty), mask=exists(t, lanes, width, length))
    tl.store(at + width, second.to(x.dtype.element_ty), mask=exists(t + 1, lanes, width, length))


@triton.jit
def step_size(raw, t, length):
    """Return softplus(raw) with a small relative error. It is zero past the end of the sequence, which keeps states.

    With e = exp(-|x|) and s = e / (2 + e), log(1 + e) = 2 artanh(s), by its series up to s^13: e is at most 1, hence s
    at most 1/3. The logarithm itself would lose the digits of a small e.
    """
    e = tl.exp(-tl.abs(raw))
    s = e / (2 + e)
    q = s * s
    series = 1 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13))))))
    return tl.where(t < length, tl.maximum(raw, 0.0) + 2 * s * series, 0.0)


@triton.jit
def _four_steps(delta, shift, t, d, channels, length):
    raw0, raw1, raw2, raw3 = _four_rows(delta, t, d, channels, length)
    return (
        step_size(raw0 + shift, t, length),
        step_size(raw1 + shift, t + 1, length),
        step_size(raw2 + shift, t + 2, length),
        step_size(raw3 + shift, t + 3, length),
    )


@triton.jit
def advance(state, step, x, b, rate):
    """Return the state after a position from the state before it. Rates are in powers of two, and x is step * u."""
    return tl.exp2(step[None, :] * rate) * state + x[None, :] * b[:, None]


@triton.jit
def retreat(adjoint, step, g, c, rate):
    """Return the gradient with respect to the state before a position from that with respect to the state after it."""
    return tl.exp2(step[None, :] * rate) * (adjoint + g[None, :] * c[:, None])


@triton.jit(do_not_specialize=['length', 'segments', 'size'])
def segment_ends(
    x, delta, weights, A, delta_bias, ends, sums, length, channels: tl.constexpr, segments, size, N: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, REVERSE: tl.constexpr
):  # fmt: skip
    """Write the state at the end of every segment as if it started from zero, and the sum of its steps.

    In reverse, x is dy, the weights are C, and the result is the gradient with respect to the state before the segment,
    as if the sequence ended with it.
    """
    batch, segment, n, d, rate, shift = begin(A, delta_bias, segments, channels, N, BLOCK_N, BLOCK_D)
    x, delta = moved(x, delta, batch * length * channels)
    weights += batch * length * N
    state = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_D,), tl.float32)
    done = 0
    while done < size:
        t = segment * size + (size - 4 - done if REVERSE else done)
        x0, x1, x2, x3 = _four_rows(x, t, d, channels, length)
        step0, step1, step2, step3 = _four_steps(delta, shift, t, d, channels, length)
        weight0, weight1, weight2, weight3 = _four_rows(weights, t, n, N, length)
        if REVERSE:
            state = retreat(state, step3, x3, weight3, rate)
            state = retreat(state, step2, x2, weight2, rate)
            state = retreat(state, step1, x1, weight1, rate)
            state = retreat(state, step0, x0, weight0, rate)
        else:
            state = advance(state, step0, step0 * x0, weight0, rate)
            state = advance(state, step1, step1 * x1, weight1, rate)
            state = advance(state, step2, step2 * x2, weight2, rate)
            state = advance(state, step3, step3 * x3, weight3, rate)
        total += step0 + step1 + step2 + step3
        done += 4
    index = batch * segments + segment
    store_states(ends, state, index, n, d, channels, N)
    tl.store(sums + index * channels + d, total, mask=d < channels)


@triton.jit
def _combine(decay1, state1, decay2, state2):
    """Combine two steps of a recurrence into one."""
    return decay1 * decay2, state1 * decay2 + state2


@triton.jit(do_not_specialize=['segments'])
def carry(
    ends, sums, A, starts, channels: tl.constexpr, segments, N: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK: tl.constexpr, REVERSE: tl.constexpr
):  # fmt: skip
    """Run the recurrence over the segments: write the initial state of each, given the results of `segment_ends`.

    A segment scales the state before it by exp(A * sum of its steps).
    """
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    exists = column < N * channels
    d = column % channels
    rate = tl.load(A + column, mask=exists, other=0.0) * LOG2_E
    base = tl.program_id(0).to(tl.int64) * segments
    row = tl.arange(0, BLOCK_S)
    state = tl.zeros((BLOCK,), tl.float32)
    done = 0
    while done < segments:
        index = done + row
        # A row holds the result of the previous segment, so that the scan yields the initial state of its own segment.
        segment = segments - 1 - index if REVERSE else index
        previous = (base + (segment + 1 if REVERSE else segment - 1))[:, None]
        inside = ((index > 0) & (index < segments))[:, None] & exists[None, :]
        end = tl.load(ends + previous * (N * channels) + column[None, :], mask=inside, other=0.0)
        total = tl.load(sums + previous * channels + d[None, :], mask=inside, other=0.0)
        reach, entering = tl.associative_scan((tl.exp2(total * rate[None, :]), end), 0, _combine)
        entering += reach * state[None, :]
        at = starts + (base + segment)[:, None] * (N * channels) + column[None, :]
        tl.store(at, entering, mask=(index < segments)[:, None] & exists[None, :])
        state = tl.sum(tl.where(row[:, None] == BLOCK_S - 1, entering, 0.0), 0)
        done += BLOCK_S


@triton.jit(do_not_specialize=['length', 'segments', 'size'])
def outputs(
    u, delta, B, C, A, D, delta_bias, starts, y, entries, length, channels: tl.constexpr, segments, size,
    N: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, KEEP: tl.constexpr
):  # fmt: skip
    """Write y and, with KEEP, the state before every chunk."""
    batch, segment, n, d, rate, shift = begin(A, delta_bias, segments, channels, N, BLOCK_N, BLOCK_D)
    direct = tl.load(D + d, mask=d < channels, other=0.0)
    u, delta = moved(u, delta, batch * length * channels)
    y += batch * length * channels
    B, C = moved(B, C, batch * length * N)
    chunks = (length + CHUNK - 1) // CHUNK
    state = load_states(starts, batch * segments + segment, n, d, channels, N)
    t = segment * size
    end = tl.minimum(t + size, length)
    while t < end:
        if KEEP:  # noqa: SIM102 - evaluated at compile time, the other at run time
            if t % CHUNK == 0:
                store_states(entries, state, batch * chunks + t // CHUNK, n, d, channels, N)
        u0, u1, u2, u3 = _four_rows(u, t, d, channels, length)
        step0, step1, step2, step3 = _four_steps(delta, shift, t, d, channels, length)
        b0, b1, b2, b3 = _four_rows(B, t, n, N, length)
        c0, c1, c2, c3 = _four_rows(C, t, n, N, length)
        state = advance(state, step0, step0 * u0, b0, rate)
        y0 = tl.sum(state * c0[:, None], 0) + direct * u0
        state = advance(state, step1, step1 * u1, b1, rate)
        y1 = tl.sum(state * c1[:, None], 0) + direct * u1
        state = advance(state, step2, step2 * u2, b2, rate)
        y2 = tl.sum(state * c2[:, None], 0) + direct * u2
        state = advance(state, step3, step3 * u3, b3, rate)
        y3 = tl.sum(state * c3[:, None], 0) + direct * u3
        store_two(y, t, y0, y1, d, channels, length)
        store_two(y, t + 2, y2, y3, d, channels, length)
        t += 4
