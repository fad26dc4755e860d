"""The backend in plain PyTorch: every device, every type, the reference for the others."""

import math

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.precision import at_least_float32


def why_not():
    return None


def takes(x):
    return True


def layer_norm(x, weight, bias, eps):
    y = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps)
    return y.permute(0, 3, 1, 2)


def gated_layer_norm(x, gate, weight, bias, eps):
    return layer_norm(x, weight, bias, eps) * F.gelu(gate)


def simple_gate(x):
    first, second = x.chunk(2, dim=1)
    return first * second


def depthwise_gate(x, weight, bias):
    return simple_gate(depthwise(x, weight, bias))


def depthwise_gelu(x, weight, bias):
    return F.gelu(depthwise(x, weight, bias))


def depthwise(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])


def selective_scan(u, delta, A, B, C, D, delta_bias):
    """The sequence is cut into about sqrt(L) chunks that advance side by side, so that Python takes about 2 sqrt(L)
    steps forward and 3 sqrt(L) backward. The backward pass keeps only six states of every chunk and computes the others
    again."""
    with torch.autocast(u.device.type, enabled=False):
        return _SelectiveScan.apply(*map(at_least_float32, (u, delta, A, B, C, D, delta_bias)))


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias):
        chunks = _Chunks(u.shape[-1])
        step = chunks.split(F.softplus(delta + delta_bias[:, None]))
        x, b, c, A_t = step * chunks.split(u), chunks.split(B), chunks.split(C), A.t().contiguous()

        # Every chunk runs as if it started from zero; what it starts from in truth is added afterwards.
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

        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, *entries)
        return chunks.join(y).addcmul_(u, D[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        u, delta, A, B, C, D, delta_bias, *entries = ctx.saved_tensors
        with torch.autocast(u.device.type, enabled=False):
            dx, dstep, dA, dB, dC = _backward(delta + delta_bias[:, None], u, A.t().contiguous(), B, C, dy, entries)
            raw = delta + delta_bias[:, None]
            ddelta = dstep.addcmul_(u, dx).mul_(torch.sigmoid(raw))
            du = dx.mul_(F.softplus(raw)).addcmul_(dy, D[:, None])
            return du, ddelta, dA.t(), dB, dC, torch.einsum('bdl,bdl->d', dy, u), ddelta.sum((0, 2))


def _backward(raw, u, A, B, C, dy, entries):
    """Gradients by x = step * u, by the step inside the decay, and by A, B and C.

    `entries` are the states before every part of every chunk; `adjoint[l]` is the gradient by the state h[l].
    """
    chunks = _Chunks(u.shape[-1])
    step, b, c, g = chunks.split(F.softplus(raw)), chunks.split(B), chunks.split(C), chunks.split(dy)
    del raw
    x = step * chunks.split(u)

    # What the later chunks want of the state at the end of each chunk.
    elapsed, wanted = step.cumsum(0), torch.zeros_like(entries[0])
    for rows in chunks.parts:
        reach = _decay(elapsed[rows], A)
        wanted += reach.mul_(g[rows, ..., None, :]).mul_(c[rows, ..., None]).sum(0)
    wanted = _carry(_decay(elapsed[-1], A), wanted, backwards=True)
    del elapsed, reach

    # Part by part the gradients take the place of what is no longer needed: by x that of g, by B and C that of b and c.
    dstep, dA = torch.empty_like(step), torch.zeros_like(A)
    for rows, entry in zip(reversed(chunks.parts), reversed(entries), strict=True):
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
    """exp(step * A) for all states, (..., N, channels) for steps (..., channels)."""
    return (step[..., None, :] * A).exp_()


def _sum_states(states, weights):
    """The sum over the N states, each by its weight: (..., channels) of (..., N, channels) and (..., N)."""
    return torch.matmul(weights[..., None, :], states).squeeze(-2)


def _run(state, decays, inputs):
    """The recurrence in place: after `state`, every input becomes decay * (what is before it) + input."""
    for decay, out in zip(decays, inputs, strict=True):
        state = out.addcmul_(decay, state)


class _Chunks:
    """A sequence of `total` positions as `count` chunks of `length`, both about sqrt(total).

    Work goes by the six `parts` of all chunks: the states of one take little more memory than the sequence (8 states).
    """

    def __init__(self, total):
        self.total = total
        self.length = math.isqrt(max(total - 1, 0)) + 1
        self.count = -(-total // self.length)
        size = -(-self.length // 6)
        self.parts = [slice(start, start + size) for start in range(0, self.length, size)]

    def split(self, x):
        """A copy of (batch, rows, total) as (length, batch, count, rows); the end is filled with zeros."""
        x = F.pad(x, (0, self.length * self.count - self.total))
        return x.unflatten(-1, (self.count, self.length)).permute(3, 0, 2, 1).contiguous()

    def join(self, x):
        """The inverse of `split`."""
        return x.permute(1, 3, 2, 0).flatten(2)[..., : self.total].contiguous()


def _carry(decay, ends, backwards=False):
    """Chain chunks (axis 1): what enters each, given what each makes of nothing and how much of its entry survives."""
    entries = torch.zeros_like(ends)
    chain = list(zip(decay.unbind(1), ends.unbind(1), entries.unbind(1), strict=True))
    if backwards:
        chain.reverse()
    for (factor, end, entry), (_, _, following) in zip(chain[:-1], chain[1:], strict=True):
        torch.addcmul(end, factor, entry, out=following)
    return entries
