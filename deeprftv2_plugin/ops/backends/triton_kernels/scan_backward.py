"""The Triton kernel of the selective scan's backward pass.

A program iterates over one segment from its end to its start and updates the gradient with respect to the state. It
also needs the states, which depend on earlier positions: it recomputes those of two positions at a time from the state
before the chunk, which the forward pass has kept.
"""

import triton
import triton.language as tl

from deeprftv2_plugin.ops.backends.triton_kernels.scan_forward import (
    advance,
    begin,
    load_states,
    moved,
    retreat,
    step_size,
    store_states,
    store_two,
    two_rows,
)

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _walk(state, t, u, delta, B, shift, rate, d, n, channels, length, N: tl.constexpr):
    """Return the state after positions t and t + 1."""
    u0, u1 = two_rows(u, t, d, channels, length)
    raw0, raw1 = two_rows(delta, t, d, channels, length)
    b0, b1 = two_rows(B, t, n, N, length)
    step0, step1 = step_size(raw0 + shift, t, length), step_size(raw1 + shift, t + 1, length)
    state = advance(state, step0, step0 * u0, b0, rate)
    return advance(state, step1, step1 * u1, b1, rate)


@triton.jit
def _derive(before, after, adjoint, step, x, g, b, c, rate):
    """Return the gradients of one position.

    The arguments are the states before and after it, and the gradient with respect to the latter without the part from
    y. The results are the gradients with respect to the state before, the exponent of the decay (one per state),
    x = step * u, the step inside the decay, b, and c.
    """
    by_after = adjoint + g[None, :] * c[:, None]
    by_before = retreat(adjoint, step, g, c, rate)
    # Not computed as `after - x * b`, which is dominated by rounding errors if states decay strongly.
    by_exponent = by_before * before
    by_x = tl.sum(by_after * b[:, None], 0)
    by_step = tl.sum(by_exponent * rate, 0) * LN_2
    by_b = tl.sum(by_after * x[None, :], 1)
    by_c = tl.sum(after * g[None, :], 1)
    return by_before, by_exponent, by_x, by_step, by_b, by_c


@triton.jit(do_not_specialize=['batches', 'length', 'segments', 'size'])
def gradients(
    u, delta, B, C, dy, A, D, delta_bias, entries, wanted, du, ddelta, dB, dC, dA, dD, dbias, batches, length,
    channels: tl.constexpr, segments, size, N: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    CHUNK: tl.constexpr
):  # fmt: skip
    """Write all gradients: dB and dC summed over the program's channels, dA, dD and dbias over its segment.

    `wanted` is the gradient with respect to the state after every segment that comes from the segments after it.
    """
    batch, segment, n, d, rate, shift = begin(A, delta_bias, segments, channels, N, BLOCK_N, BLOCK_D)
    direct = tl.load(D + d, mask=d < channels, other=0.0)
    u, delta = moved(u, delta, batch * length * channels)
    du, ddelta = moved(du, ddelta, batch * length * channels)
    dy += batch * length * channels
    B, C = moved(B, C, batch * length * N)
    dB, dC = moved(dB, dC, (tl.program_id(1) * batches + batch) * length * N)
    chunks = (length + CHUNK - 1) // CHUNK
    index = batch * segments + segment
    adjoint = load_states(wanted, index, n, d, channels, N)
    sum_A = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    sum_D = tl.zeros((BLOCK_D,), tl.float32)
    sum_bias = tl.zeros((BLOCK_D,), tl.float32)

    start = segment * size
    t = start + (tl.minimum(size, length - start) - 1) // 4 * 4
    while t >= start:
        # The state before four positions is recomputed once from the start of the chunk.
        state = load_states(entries, batch * chunks + t // CHUNK, n, d, channels, N)
        s = t // CHUNK * CHUNK
        while s < t:
            state = _walk(state, s, u, delta, B, shift, rate, d, n, channels, length, N)
            s += 2
        s = t + 2
        while s >= t:
            before = state
            if s > t:
                before = _walk(state, t, u, delta, B, shift, rate, d, n, channels, length, N)
            u0, u1 = two_rows(u, s, d, channels, length)
            g0, g1 = two_rows(dy, s, d, channels, length)
            raw0, raw1 = two_rows(delta, s, d, channels, length)
            b0, b1 = two_rows(B, s, n, N, length)
            c0, c1 = two_rows(C, s, n, N, length)
            raw0 += shift
            raw1 += shift
            step0, step1 = step_size(raw0, s, length), step_size(raw1, s + 1, length)
            x0, x1 = step0 * u0, step1 * u1
            between = advance(before, step0, x0, b0, rate)
            after = advance(between, step1, x1, b1, rate)
            adjoint, by_exponent1, by_x1, by_step1, db1, dc1 = _derive(
                between, after, adjoint, step1, x1, g1, b1, c1, rate
            )
            adjoint, by_exponent0, by_x0, by_step0, db0, dc0 = _derive(
                before, between, adjoint, step0, x0, g0, b0, c0, rate
            )
            draw0 = (by_step0 + by_x0 * u0) * tl.sigmoid(raw0)
            draw1 = (by_step1 + by_x1 * u1) * tl.sigmoid(raw1)
            store_two(du, s, by_x0 * step0 + g0 * direct, by_x1 * step1 + g1 * direct, d, channels, length)
            store_two(ddelta, s, draw0, draw1, d, channels, length)
            store_two(dB, s, db0, db1, n, N, length)
            store_two(dC, s, dc0, dc1, n, N, length)
            sum_A += by_exponent0 * step0[None, :] + by_exponent1 * step1[None, :]
            sum_D += g0 * u0 + g1 * u1
            sum_bias += draw0 + draw1
            s -= 2
        t -= 4
    store_states(dA, sum_A, index, n, d, channels, N)
    tl.store(dD + index * channels + d, sum_D, mask=d < channels)
    tl.store(dbias + index * channels + d, sum_bias, mask=d < channels)
