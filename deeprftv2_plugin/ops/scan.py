"""The selective scan: a linear recurrence whose coefficients depend on the input."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.ops.library import operator
from deeprftv2_plugin.ops.precision import at_least_float32

CHUNK = 16
"""Number of positions that the decomposition combines by doubling before it continues with whole chunks."""
FLOPS = 9
"""Number of operations per position, channel and state, as counted in papers on Mamba."""


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """Run a diagonal state-space model with input-dependent steps along a sequence.

    With ``step = softplus(delta + delta_bias)`` every channel d carries N states,

        h[l] = exp(step[l] * A) * h[l - 1] + step[l] * B[l] * u[l],        h[-1] = 0
        y[l] = sum over n of C[l] * h[l] + D * u[l].

    States are not stored for the whole sequence. The backward pass recomputes them in pieces.

    Args:
        u: Input of shape (batch, L, channels): the pixels of a map in channels_last.
        delta: Step sizes before the bias and the softplus, of u's shape.
        A: Decay rates of shape (channels, N), negative.
        B: Input weights of shape (batch, L, N), shared by all channels.
        C: Output weights of shape (batch, L, N), shared by all channels.
        D: Weight of the direct path, of shape (channels,).
        delta_bias: Bias of the step sizes, of shape (channels,).

    Returns:
        y of u's shape, computed and returned in float32 (float64 for float64 inputs) under any autocast.

    Raises:
        ValueError: The shapes do not match.

    References:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, Algorithm 2.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin import ops
        >>> u, delta = torch.rand(2, 1, 64, 12)  # one sequence of 64 positions with 12 channels
        >>> A, (B, C) = -torch.rand(12, 8), torch.rand(2, 1, 64, 8)  # 8 states
        >>> ops.selective_scan(u, delta, A, B, C, D=torch.ones(12), delta_bias=torch.zeros(12)).shape
        torch.Size([1, 64, 12])
    """
    if u.ndim != 3 or delta.shape != u.shape:
        raise ValueError(
            f'u and delta must both be (batch, length, channels), found {tuple(u.shape)} and {tuple(delta.shape)}'
        )
    if B.shape != (*u.shape[:2], A.shape[1]) or C.shape != B.shape:
        raise ValueError(
            f'B and C must be (batch, length, states) = {(*u.shape[:2], A.shape[1])}, found '
            f'{tuple(B.shape)} and {tuple(C.shape)}'
        )
    if A.shape != (u.shape[2], B.shape[2]) or D.shape != A.shape[:1] or delta_bias.shape != D.shape:
        raise ValueError(
            f'A must be (channels, states) = {(u.shape[2], B.shape[2])}, D and delta_bias (channels,), found '
            f'{tuple(A.shape)}, {tuple(D.shape)} and {tuple(delta_bias.shape)}'
        )
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (u, delta, A, B, C, D, delta_bias))
    return _selective_scan(u, delta, A, B, C, D, delta_bias, keep)[0]


def _reference(u, delta, A, B, C, D, delta_bias, keep):
    """Compute the scan without a loop over positions and without in-place operations, for exported programs."""
    u, delta, A, B, C, D, delta_bias = map(at_least_float32, (u, delta, A, B, C, D, delta_bias))
    step = F.softplus(delta + delta_bias)[..., None]
    states = _scan_chunks(torch.exp(step * A), step * B[:, :, None] * u[..., None])
    y = (states * C[:, :, None]).sum(-1) + D * u
    return y, y.new_empty(0)


def _scan_chunks(decay, inputs):
    """Return the states (batch, L, ...) of h[l] = decay[l] * h[l - 1] + inputs[l], by doubling inside chunks."""
    length = inputs.shape[1]
    if length == 1:
        return inputs
    fill = (0, 0) * (inputs.ndim - 2) + (0, -length % CHUNK)
    decay, inputs = (
        F.pad(t, fill, value=value).unflatten(1, (-1, CHUNK)) for t, value in ((decay, 1.0), (inputs, 0.0))
    )
    reach = 1
    while reach < CHUNK:
        decay, inputs = decay * _delayed(decay, reach, 1.0), inputs + decay * _delayed(inputs, reach, 0.0)
        reach *= 2
    carried = _delayed(_scan_chunks(decay[:, :, -1], inputs[:, :, -1])[:, None], 1, 0.0)[:, 0]
    return (inputs + decay * carried[:, :, None]).flatten(1, 2)[:, :length]


def _delayed(x, by, value):
    """Shift x along axis 2, and fill the first positions with `value`."""
    return F.pad(x[:, :, :-by], (0, 0) * (x.ndim - 3) + (by, 0), value=value)


def _fake(u, delta, A, B, C, D, delta_bias, keep):
    y = torch.empty(u.shape, dtype=torch.promote_types(u.dtype, torch.float32), device=u.device)
    shape = (0,)
    if keep:
        batch, length, channels = u.shape
        shape = backends.choose('scan_entries_shape', u)(batch, length, channels, A.shape[1])
    return y, y.new_empty(shape)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:-1], output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, dy, _):
    if dy is None:
        return (None,) * 8
    return *_selective_scan_backward(dy, *ctx.saved_tensors), None


def _fake_backward(dy, u, delta, A, B, C, D, delta_bias, entries):
    return tuple(torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (u, delta, A, B, C, D, delta_bias))


def _flops(u, delta, A, *_):
    batch, length, channels = u
    return FLOPS * batch * length * channels * A[1]


_selective_scan = operator(
    'selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D, Tensor delta_bias, bool keep)'
    ' -> (Tensor, Tensor)',
    fake=_fake,
    save=_save,
    backward=_backward,
    flops=_flops,
    reference=_reference,
)
"""`keep` requests the second result, the states that the backward pass starts from."""
_selective_scan_backward = operator(
    'selective_scan_backward(Tensor dy, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D,'
    ' Tensor delta_bias, Tensor entries) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    fake=_fake_backward,
    flops=lambda dy, *inputs: 3 * _flops(*inputs),
)
