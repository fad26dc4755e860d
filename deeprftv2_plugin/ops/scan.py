"""The selective scan: a linear recurrence whose coefficients depend on the input."""
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.precision import at_least_float32


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """Run a diagonal state-space model with input-dependent steps along a sequence.

    With ``step = softplus(delta + delta_bias)`` every channel d carries N states,

        h[l] = exp(step[l] * A) * h[l - 1] + step[l] * B[l] * u[l],        h[-1] = 0
        y[l] = sum over n of C[l] * h[l] + D * u[l].

    The sequence is cut into about sqrt(L) chunks that advance side by side, so that Python takes about 2 sqrt(L) steps
    forward and 3 sqrt(L) backward. The backward pass keeps only the state at the start of every chunk and computes the
    others again.

    Args:
        u: Input of shape (batch, channels, L).
        delta: Step sizes before the bias and the softplus, of u's shape.
        A: Decay rates of shape (channels, N), negative.
        B: Input weights of shape (batch, N, L), shared by all channels.
        C: Output weights of shape (batch, N, L), shared by all channels.
        D: Weight of the direct path, of shape (channels,).
        delta_bias: Bias of the step sizes, of shape (channels,).

    Returns:
        y of u's shape, computed and returned in float32 (float64 for float64 inputs) whatever the autocast.

    References:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, Algorithm 2.
    """
    if u.ndim != 3 or delta.shape != u.shape:
        raise ValueError(f'u and delta must both be (batch, channels, length), found {tuple(u.shape)} '
                         f'and {tuple(delta.shape)}')
    if B.shape != (u.shape[0], A.shape[1], u.shape[2]) or C.shape != B.shape:
        raise ValueError(f'B and C must be (batch, states, length) = {(u.shape[0], A.shape[1], u.shape[2])}, found '
                         f'{tuple(B.shape)} and {tuple(C.shape)}')
    with torch.autocast(u.device.type, enabled=False):
        return _SelectiveScan.apply(*map(at_least_float32, (u, delta, A, B, C, D, delta_bias)))


class _SelectiveScan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, delta_bias):
        chunks = _Chunks(u.shape[-1])
        step = chunks.split(F.softplus(delta + delta_bias[:, None]))
        x, b, c = step * chunks.split(u), chunks.split(B), chunks.split(C)

        # Every chunk runs as if it started from zero; what it starts from in truth is added afterwards.
        state = x.new_zeros(*x.shape[1:], A.shape[1])
        y = torch.empty_like(x)
        for t in range(chunks.length):
            state = torch.mul(step[t, ..., None], A).exp_().mul_(state).addcmul_(x[t, ..., None], b[t, ..., None, :])
            torch.matmul(state, c[t, ..., None], out=y[t, ..., None])
        elapsed = step.cumsum(0)
        starts = _carry((elapsed[-1, ..., None] * A).exp_(), state)
        for rows in _slices(chunks.length):
            reach = (elapsed[rows, ..., None] * A).exp_().mul_(starts)
            y[rows] += torch.matmul(reach, c[rows, ..., None]).squeeze(-1)

        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, starts)
        return chunks.join(y).addcmul_(u, D[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        u, delta, A, B, C, D, delta_bias, starts = ctx.saved_tensors
        with torch.autocast(u.device.type, enabled=False):
            return _backward(dy, u, delta, A, B, C, D, delta_bias, starts)


def _backward(dy, u, delta, A, B, C, D, delta_bias, starts):
    """Gradients of the scan; `adjoint` is the gradient of the loss by the state h[l]."""
    chunks = _Chunks(u.shape[-1])
    step = chunks.split(F.softplus(delta + delta_bias[:, None]))
    x, b, c, g = step * chunks.split(u), chunks.split(B), chunks.split(C), chunks.split(dy)

    # What the later chunks want of the state at the end of each chunk.
    elapsed = step.cumsum(0)
    wanted = torch.zeros_like(starts)
    for rows in _slices(chunks.length):
        reach = (elapsed[rows, ..., None] * A).exp_()
        wanted += reach.mul_(g[rows, ..., None]).mul_(c[rows, ..., None, :]).sum(0)
    adjoint = _carry((elapsed[-1, ..., None] * A).exp_(), wanted, backwards=True)
    del elapsed, reach, wanted

    # kept[t] = exp(step[t] A) h[t - 1]: the part of the state that was there before position t.
    kept = x.new_empty(*x.shape, A.shape[1])
    state = starts
    for t in range(chunks.length):
        torch.mul(step[t, ..., None], A, out=kept[t]).exp_().mul_(state)
        state = torch.addcmul(kept[t], x[t, ..., None], b[t, ..., None, :])
    dC = torch.matmul(g[..., None, :], kept).squeeze(-2).addcmul_((g * x).sum(-1, keepdim=True), b)

    dx, dB = torch.empty_like(x), torch.empty_like(b)
    for t in reversed(range(chunks.length)):
        adjoint.addcmul_(g[t, ..., None], c[t, ..., None, :])
        torch.matmul(adjoint, b[t, ..., None], out=dx[t, ..., None])
        torch.matmul(x[t, ..., None, :], adjoint, out=dB[t, ..., None, :])
        kept[t].mul_(adjoint)
        adjoint.mul_(torch.mul(step[t, ..., None], A).exp_())

    dA = torch.einsum('tbkd,tbkdn->dn', step, kept)
    dstep = chunks.join(torch.einsum('dn,tbkdn->tbkd', A, kept))
    del kept
    dx = chunks.join(dx)
    dstep.addcmul_(u, dx)
    ddelta = dstep.mul_(torch.sigmoid(delta + delta_bias[:, None]))
    du = dx.mul_(F.softplus(delta + delta_bias[:, None])).addcmul_(dy, D[:, None])
    dD = torch.einsum('bdl,bdl->d', dy, u)
    return du, ddelta, dA, chunks.join(dB), chunks.join(dC), dD, ddelta.sum((0, 2))


class _Chunks:
    """A sequence of `total` positions as `count` chunks of `length`, both about sqrt(total)."""

    def __init__(self, total):
        self.total = total
        self.length = math.isqrt(max(total - 1, 0)) + 1
        self.count = -(-total // self.length)

    def split(self, x):
        """(batch, rows, total) to (length, batch, count, rows); the end is filled with zeros."""
        x = F.pad(x, (0, self.length * self.count - self.total))
        return x.unflatten(-1, (self.count, self.length)).permute(3, 0, 2, 1).contiguous()

    def join(self, x):
        """The inverse of `split`."""
        return x.permute(1, 3, 2, 0).flatten(2)[..., :self.total].contiguous()


def _carry(decay, ends, backwards=False):
    """Chain chunks (axis 1): what enters each one, given what each makes of nothing and how much of its entry survives."""
    entries = torch.zeros_like(ends)
    order = range(ends.shape[1])
    if backwards:
        order = order[::-1]
    for here, following in zip(order[:-1], order[1:], strict=True):
        torch.addcmul(ends[:, here], decay[:, here], entries[:, here], out=entries[:, following])
    return entries


def _slices(length, parts=4):
    """Quarters of a range: all states of one quarter fit into twice the memory of the sequence (N = 8)."""
    size = -(-length // parts)
    return [slice(start, start + size) for start in range(0, length, size)]
