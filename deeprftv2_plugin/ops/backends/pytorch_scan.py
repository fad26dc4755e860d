"""The selective scan in plain PyTorch.

The sequence is cut into about sqrt(L) chunks that are processed in parallel, so that the loops in Python have about
2 sqrt(L) steps in the forward pass and 3 sqrt(L) in the backward pass. The backward pass stores six states of every
chunk and recomputes the others.
"""

import math

import torch
import torch.nn.functional as F

from deeprftv2_plugin.ops.precision import at_least_float32


def scan_entries_shape(batch, length, channels, states):
    chunks = _Chunks(length)
    return len(chunks.parts), batch, chunks.count, states, channels


def selective_scan(u, delta, A, B, C, D, delta_bias, keep):
    u, delta, A, B, C, D, delta_bias = map(at_least_float32, (u, delta, A, B, C, D, delta_bias))
    chunks = _Chunks(u.shape[1])
    step = chunks.split(F.softplus(delta + delta_bias))
    x, b, c, A_t = step * chunks.split(u), chunks.split(B), chunks.split(C), A.t().contiguous()

    # Every chunk runs as if it started from zero. The contribution of its true initial state is added afterwards.
    y, entries = torch.empty_like(x), []
    state = x.new_zeros(*b.shape[1:], x.shape[-1])
    for rows in chunks.parts:
        entries.append(state)
        states = x[rows, ..., None, :] * b[rows, ..., None]
        _run(state, _decay(step[rows], A_t).unbind(), states.unbind())
        y[rows] = _sum_states(states, c[rows])
        state = states[-1].clone()
    elapsed = step.cumsum(0)
    starts = _carry(_decay(elapsed[-1], A_t), state)
    for index, rows in enumerate(chunks.parts):
        reach = _decay(elapsed[rows], A_t).mul_(starts)
        y[rows] += _sum_states(reach, c[rows])
        if index + 1 < len(entries):
            entries[index + 1] += reach[-1]
    entries[0] = starts
    y = chunks.join(y).addcmul_(u, D)
    return y, torch.stack(entries) if keep else y.new_empty(0)


def selective_scan_backward(dy, u, delta, A, B, C, D, delta_bias, entries):
    types = [t.dtype for t in (u, delta, A, B, C, D, delta_bias)]
    dy, u, delta, A, B, C, D, delta_bias = map(at_least_float32, (dy, u, delta, A, B, C, D, delta_bias))
    raw = delta + delta_bias
    dx, dstep, dA, dB, dC = _backward(raw, u, A.t().contiguous(), B, C, dy, entries)
    ddelta = dstep.addcmul_(u, dx).mul_(torch.sigmoid(raw))
    du = dx.mul_(F.softplus(raw)).addcmul_(dy, D)
    gradients = du, ddelta, dA.t().contiguous(), dB, dC, (dy * u).sum((0, 1)), ddelta.sum((0, 1))
    return tuple(gradient.to(dtype) for gradient, dtype in zip(gradients, types, strict=True))


def _backward(raw, u, A, B, C, dy, entries):
    """Return the gradients with respect to x = step * u, the step inside the decay, A, B and C.

    `entries` are the states before every part of every chunk. `adjoint[l]` is the gradient with respect to h[l].
    """
    chunks = _Chunks(u.shape[1])
    step, b, c, g = chunks.split(F.softplus(raw)), chunks.split(B), chunks.split(C), chunks.split(dy)
    del raw
    x = step * chunks.split(u)

    # The gradient with respect to the state at the end of each chunk that comes from later chunks.
    elapsed, wanted = step.cumsum(0), torch.zeros_like(entries[0])
    for rows in chunks.parts:
        reach = _decay(elapsed[rows], A)
        wanted += reach.mul_(g[rows, ..., None, :]).mul_(c[rows, ..., None]).sum(0)
    wanted = _carry(_decay(elapsed[-1], A), wanted, backwards=True)
    del elapsed, reach

    # In each part, the gradients with respect to x, B and C overwrite g, b and c, which are no longer needed.
    dstep, dA = torch.empty_like(step), torch.zeros_like(A)
    for rows, entry in zip(reversed(chunks.parts), entries.flip(0), strict=True):
        decay = _decay(step[rows], A)
        states = x[rows, ..., None, :] * b[rows, ..., None]
        _run(entry, decay.unbind(), states.unbind())

        adjoint = g[rows, ..., None, :] * c[rows, ..., None]
        adjoint[-1] += wanted
        _run(adjoint[-1], reversed(decay[1:].unbind()), reversed(adjoint[:-1].unbind()))
        wanted = decay[0] * adjoint[0]
        c[rows] = torch.matmul(states, g[rows, ..., None]).squeeze(-1)
        g[rows] = _sum_states(adjoint, b[rows])
        b[rows] = torch.matmul(adjoint, x[rows, ..., None]).squeeze(-1)

        decay.mul_(adjoint)
        decay[0] *= entry
        decay[1:] *= states[:-1]
        del states, adjoint
        dstep[rows] = (decay * A).sum(-2)
        dA += decay.mul_(step[rows, ..., None, :]).sum((0, 1, 2))
    return (*map(chunks.join, (g, dstep)), dA, *map(chunks.join, (b, c)))


def _decay(step, A):
    """Return exp(step * A) for all states, (..., N, channels) for steps (..., channels)."""
    return (step[..., None, :] * A).exp_()


def _sum_states(states, weights):
    """Sum over the N states, each times its weight: (..., channels) of (..., N, channels) and (..., N)."""
    return torch.matmul(weights[..., None, :], states).squeeze(-2)


def _run(state, decays, inputs):
    """Run the recurrence in place: each input becomes decay * (the state before it) + input, starting from `state`."""
    for decay, out in zip(decays, inputs, strict=True):
        state = out.addcmul_(decay, state)


class _Chunks:
    """A split of `total` positions into `count` chunks of `length`, both about sqrt(total).

    One of six `parts` of all chunks is processed at a time. Its states take little more memory than the sequence.
    """

    def __init__(self, total):
        self.total = total
        self.length = math.isqrt(max(total - 1, 0)) + 1
        self.count = -(-total // self.length)
        size = -(-self.length // 6)
        self.parts = [slice(start, start + size) for start in range(0, self.length, size)]

    def split(self, x):
        """Return a copy of (batch, total, rows) as (length, batch, count, rows), filled with zeros at the end."""
        x = F.pad(x, (0, 0, 0, self.length * self.count - self.total))
        return x.unflatten(1, (self.count, self.length)).permute(2, 0, 1, 3).contiguous()

    def join(self, x):
        """Undo `split`."""
        return x.permute(1, 2, 0, 3).flatten(1, 2)[:, : self.total].contiguous()


def _carry(decay, ends, backwards=False):
    """Return the initial state of each chunk (axis 1).

    `ends` are the final states of the chunks if they started from zero. `decay` is the factor by which each chunk
    scales its initial state.
    """
    entries = torch.zeros_like(ends)
    chain = list(zip(decay.unbind(1), ends.unbind(1), entries.unbind(1), strict=True))
    if backwards:
        chain.reverse()
    for (factor, end, entry), (_, _, following) in zip(chain[:-1], chain[1:], strict=True):
        torch.addcmul(end, factor, entry, out=following)
    return entries
