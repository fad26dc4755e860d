"""Columns: chains of levels tied to the column before them by reversible shortcuts."""

from collections.abc import Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.utils.checkpoint import get_device_states, set_device_states

from deeprftv2_plugin.ops.precision import at_least_float32


class Column(nn.Module):
    """A chain of levels in which every level adds the state that it left in the column before.

    With the levels' functions F and a factor alpha for every channel,

        state[i] = alpha[i] * previous[i] + F[i](state[i - 1], side[i]),        state[-1] = x,

    so that previous[i] = (state[i] - F[i](state[i - 1], side[i])) / alpha[i] can be had back from the new states. A
    reversible column keeps nothing of what happens inside its levels: its backward pass computes each level once more
    and recovers the previous states on the way. Where there is no previous state, alpha does not exist and the level's
    output is its state.

    Args:
        levels: Modules called as `level(x, side)`.
        channels: Channels of each level's output.
        previous: For each level whether a previous state will be given.
        coupled: The side input of a level is the previous state of the level above it (None for the last level),
            instead of being given to `forward`.
        reversible: Recompute in the backward pass instead of keeping activations. Has no influence on the numbers of
            the forward pass.

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
        self, x: Tensor, previous: Sequence[Tensor | None], sides: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Compute the new states.

        Args:
            x: Input of the first level.
            previous: For each level its state in the column before, or None.
            sides: For each level its side input; None where the levels take none, or where the column is coupled.

        Returns:
            The states of all levels, at least float32 whatever the autocast.
        """
        count = len(self.levels)
        alphas = [keep_from_zero(self.alphas[str(i)]) if str(i) in self.alphas else None for i in range(count)]
        if [a is None for a in alphas] != [p is None for p in previous]:
            raise ValueError(
                f'this column expects previous states at the levels {sorted(self.alphas)}, found '
                f'{[i for i, p in enumerate(previous) if p is not None]}'
            )
        sides = [None] * count if sides is None else list(sides)
        # DataParallel's replicas do not tell their parameters, which a reversible column must know
        if self.reversible and torch.is_grad_enabled() and not getattr(self, '_is_replica', False):
            parameters = [p for level in self.levels for p in level.parameters()]
            return list(_ReversibleColumn.apply(self.levels, self.coupled, x, *previous, *sides, *alphas, *parameters))
        return _run(self.levels, self.coupled, x, list(previous), sides, alphas)


def keep_from_zero(alpha: Tensor, least: float = 1e-3) -> Tensor:
    """Keep the magnitude of alpha at `least` or more, so that it can be divided by; gradients pass unchanged."""
    with torch.no_grad():
        kept = torch.where(alpha < 0, -1.0, 1.0) * alpha.abs().clamp(min=least)
    return alpha + (kept - alpha).detach()


def _run(levels, coupled, x, previous, sides, alphas, before_level=lambda: None):
    """The recurrence of a column."""
    if coupled:
        sides = [*previous[1:], None]
    states = []
    for level, old, side, alpha in zip(levels, previous, sides, alphas, strict=True):
        before_level()
        x = at_least_float32(level(x, side))
        if old is not None:
            x = alpha * old + x
        states.append(x)
    return states


class _ReversibleColumn(torch.autograd.Function):
    """`_run` with a backward pass that recomputes; the parameters are inputs like any other."""

    @staticmethod
    def forward(ctx, levels, coupled, x, *tensors):
        count = len(levels)
        previous, sides, alphas = (list(tensors[start : start + count]) for start in (0, count, 2 * count))
        ctx.ambient = _Ambient(x.device.type)
        ctx.random_states = []
        with ctx.ambient.autocast(cache_enabled=False):  # a cast made here, without gradients, must not be used again
            states = _run(
                levels,
                coupled,
                x,
                previous,
                sides,
                alphas,
                before_level=lambda: ctx.random_states.append(_RandomState(x)),
            )
        ctx.levels, ctx.coupled, ctx.live = levels, coupled, [p is not None for p in previous]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *sides, *alphas, *tensors[3 * count :], *states)
        return tuple(states)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        levels, count, live = ctx.levels, len(ctx.levels), ctx.live
        x, *saved = ctx.saved_tensors
        sides, alphas, parameters = saved[:count], saved[count : 2 * count], saved[2 * count : -count]
        states = [x, *saved[-count:]]  # states[i] goes into level i, states[i + 1] comes out of it
        grads = list(grads)
        grad_old, grad_side, grad_alpha, grad_parameters = [None] * count, [None] * count, [None] * count, []
        old, grad_below = None, None
        for i in reversed(range(count)):
            side = old if ctx.coupled else sides[i]
            names = [name for name, _ in levels[i].named_parameters()]
            chunk, parameters = parameters[len(parameters) - len(names) :], parameters[: len(parameters) - len(names)]
            inputs = [
                None if t is None else t.detach().requires_grad_(t.is_floating_point())
                for t in (states[i], side, *chunk)
            ]
            with ctx.random_states[i].restored(), torch.enable_grad(), ctx.ambient.autocast():
                out = functional_call(levels[i], dict(zip(names, inputs[2:], strict=True)), tuple(inputs[:2]))
                out = at_least_float32(out)
            grad = _sum(grads[i], grad_below)
            if grad is None:  # nothing behind this level reaches the loss
                old = (states[i + 1] - out.detach()) / alphas[i] if live[i] else None
                grad_parameters[:0] = [None] * len(names)
                continue
            wanted = [t for t in inputs if t is not None]
            found = iter(torch.autograd.grad(out, wanted, grad, allow_unused=True))
            grad_below, side_grad, *level_grads = [None if t is None else next(found) for t in inputs]
            grad_parameters[:0] = level_grads
            if ctx.coupled and i + 1 < count and live[i + 1]:
                grad_old[i + 1] = _sum(grad_old[i + 1], side_grad)
            else:
                grad_side[i] = side_grad
            old = None
            if live[i]:
                old = (states[i + 1] - out.detach()) / alphas[i]
                grad_old[i] = alphas[i] * grad
                grad_alpha[i] = (old * grad).sum_to_size(alphas[i].shape)
        return None, None, grad_below, *grad_old, *grad_side, *grad_alpha, *grad_parameters


def _sum(a, b):
    return b if a is None else a if b is None else a + b


class _Ambient:
    """The autocast that was on when it was made."""

    def __init__(self, device_type):
        self.options = {
            'device_type': device_type,
            'enabled': torch.is_autocast_enabled(device_type),
            'dtype': torch.get_autocast_dtype(device_type),
        }
        self.cache_enabled = torch.is_autocast_cache_enabled()

    def autocast(self, cache_enabled=None):
        return torch.autocast(
            **self.options, cache_enabled=self.cache_enabled if cache_enabled is None else cache_enabled
        )


class _RandomState:
    """The random number generators of the CPU and of a tensor's device as they were when it was made."""

    def __init__(self, x):
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(x)

    @contextmanager
    def restored(self):
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            yield
