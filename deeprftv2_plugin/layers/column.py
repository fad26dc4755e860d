"""Columns: chains of levels with shortcuts from the previous column."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from deeprftv2_plugin.ops.precision import at_least_float32


class Column(nn.Module):
    """A chain of levels in which every level adds its scaled state in the previous column.

    With the levels' functions F and a factor alpha for every channel,

        state[i] = alpha[i] * previous[i] + F[i](state[i - 1], *sides[i]),        state[-1] = x.

    In the paper, the backward pass of a reversible column recovers previous[i] from the new states by dividing by
    alpha, and only the states of the last column are stored. This column stores its states, which the shortcuts need in
    any case, and recomputes the activations inside each level from them. There is no division, so gradients are exact
    for any alpha.

    A level without a previous state has no alpha, and its output is its state.

    Args:
        levels: Modules called as `level(x, *sides)`. Dropout is their only permitted source of randomness.
        channels: Channels of each level's output.
        previous: For each level, whether `forward` gets a previous state.
        coupled: Whether the side input of a level is the previous state of the next level, if any, not an argument of
            `forward`.
        reversible: Recompute the activations inside levels in the backward pass instead of storing them. This does not
            change the results.

    References:
        Cai et al., "Reversible Column Networks", ICLR 2023, equations 2 and 3.
    """

    def __init__(
        self,
        levels: Sequence[nn.Module],
        channels: Sequence[int],
        previous: Sequence[bool],
        coupled: bool = False,
        reversible: bool = True,
    ):
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.alphas = nn.ParameterDict(
            {
                str(i): torch.full((1, c, 1, 1), 0.5)
                for i, (c, live) in enumerate(zip(channels, previous, strict=True))
                if live
            }
        )
        self.coupled = coupled
        self.reversible = reversible

    def forward(
        self, x: Tensor, previous: Sequence[Tensor | None], sides: Sequence[Sequence[Tensor]] | None = None
    ) -> list[Tensor]:
        """Compute the new states.

        Args:
            x: Input of the first level.
            previous: For each level its state in the column before, or None.
            sides: For each level its side inputs; None if the levels take none or the column is coupled.

        Returns:
            The states of all levels, at least float32 under any autocast.

        Raises:
            ValueError: A previous state is missing, or given to a level without alpha.
        """
        count = len(self.levels)
        given = [i for i, old in enumerate(previous) if old is not None]
        if given != [i for i in range(count) if str(i) in self.alphas]:
            raise ValueError(f'expected previous states at the levels {sorted(self.alphas)}, found them at {given}')
        if self.coupled:
            sides = [() if old is None else (old,) for old in (*previous[1:], None)]
        states = []
        for i, (level, old, side) in enumerate(zip(self.levels, previous, sides or [()] * count, strict=True)):
            x = at_least_float32(call(level, x, *side, recompute=self.reversible))
            if old is not None:
                x = torch.addcmul(x, keep_from_zero(self.alphas[str(i)]), old)
            states.append(x)
        return states


def call(function: Callable[..., Tensor], *args: Tensor, recompute: bool) -> Tensor:
    """Call a function, optionally without storing its activations for the backward pass.

    Args:
        function: Maps the arguments to a tensor. A module may contain dropout; a plain function must be deterministic.
        args: Its arguments, from which the backward pass recomputes it.
        recompute: Recompute instead of storing. Has no effect without gradients.
    """
    if not (recompute and torch.is_grad_enabled()):
        return function(*args)
    random = isinstance(function, nn.Module) and any(isinstance(each, _DropoutNd) for each in function.modules())
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=random)


def keep_from_zero(alpha: Tensor, least: float = 1e-3) -> Tensor:
    """Return alpha with a magnitude of at least `least`. Gradients pass through unchanged."""
    with torch.no_grad():
        kept = torch.where(alpha < 0, -1.0, 1.0) * alpha.abs().clamp(min=least)
    return alpha + (kept - alpha).detach()
