"""The selective scan: a linear recurrence whose coefficients depend on the input."""

from torch import Tensor

from deeprftv2_plugin.ops.backends import choose


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """Run a diagonal state-space model with input-dependent steps along a sequence.

    With ``step = softplus(delta + delta_bias)`` every channel d carries N states,

        h[l] = exp(step[l] * A) * h[l - 1] + step[l] * B[l] * u[l],        h[-1] = 0
        y[l] = sum over n of C[l] * h[l] + D * u[l].

    States are never kept for the whole sequence: the backward pass computes them again, piece by piece.

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
        raise ValueError(
            f'u and delta must both be (batch, channels, length), found {tuple(u.shape)} and {tuple(delta.shape)}'
        )
    if B.shape != (u.shape[0], A.shape[1], u.shape[2]) or C.shape != B.shape:
        raise ValueError(
            f'B and C must be (batch, states, length) = {(u.shape[0], A.shape[1], u.shape[2])}, found '
            f'{tuple(B.shape)} and {tuple(C.shape)}'
        )
    if A.shape != (u.shape[1], B.shape[1]) or D.shape != A.shape[:1] or delta_bias.shape != D.shape:
        raise ValueError(
            f'A must be (channels, states) = {(u.shape[1], B.shape[1])}, D and delta_bias (channels,), found '
            f'{tuple(A.shape)}, {tuple(D.shape)} and {tuple(delta_bias.shape)}'
        )
    return choose('selective_scan', u)(u, delta, A, B, C, D, delta_bias)
