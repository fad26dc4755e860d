"""Select an implementation of the costly operators.

A backend is a module of this package. It has

    why_not() -> str | None     the reason why it cannot be used on this machine, as the end of a sentence, or None
    takes(x: Tensor) -> bool    whether it supports x's device and dtype

and functions without autograd, named after the operators that `deeprftv2_plugin.ops` registers. Feature maps are in
channels_last. The backend `pytorch` is the reference: it has every operator for every device and dtype.
"""

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from deeprftv2_plugin.utils.errors import SlowdownWarning, UserError, nearest

NAMES = ('triton', 'native', 'pytorch')
"""The backends in order of preference."""

VARIABLE = 'DEEPRFTV2_BACKEND'
"""The environment variable that forces a backend. `pytorch` computes the operators that this backend lacks."""


def choose(operator: str, x: Tensor) -> Callable:
    """Return the implementation of an operator for a tensor, from the first backend that has it and takes x.

    Raises:
        UserError: The forced backend is unknown, or cannot be used on this machine.
    """
    for backend in usable(os.environ.get(VARIABLE)):
        if hasattr(backend, operator) and backend.takes(x):
            return getattr(backend, operator)
    raise AssertionError(f'the backend pytorch lacks {operator}')


def fuses(*tensors: Tensor) -> bool:
    """Return whether a branch of a block runs as one operator: in float32 on a CPU with the native backend."""
    plain = all(t.device.type == 'cpu' and t.dtype == torch.float32 for t in tensors)
    return plain and not torch.is_autocast_enabled('cpu') and _native()


@torch.compiler.assume_constant_result
def _native():
    return any(_name(backend) == 'native' for backend in usable(os.environ.get(VARIABLE)))


@cache
def usable(forced: str | None = None) -> tuple[ModuleType, ...]:
    """Return the backends that `choose` searches. Warn once if plain PyTorch is the only one.

    Raises:
        UserError: The forced backend is unknown, or cannot be used on this machine.
    """
    if not forced:
        found = tuple(backend for backend in map(load, NAMES) if backend.why_not() is None)
        if len(found) == 1:
            reasons = '; '.join(f'not {name}: {load(name).why_not()}' for name in NAMES[:-1])
            warnings.warn(f'all operators run slowly in plain PyTorch: {reasons}', SlowdownWarning, stacklevel=2)
        return found
    if forced not in NAMES:
        raise UserError(f'{VARIABLE}: there is no backend {forced!r}. {nearest(forced, NAMES)}')
    if reason := load(forced).why_not():
        raise UserError(f'{VARIABLE}: the backend {forced} cannot be used here: {reason}')
    return tuple(dict.fromkeys((load(forced), load('pytorch'))))


def describe() -> str:
    """Return a line with the usable backends in order of preference, and the reasons against the others."""
    forced = os.environ.get(VARIABLE)
    chosen = ', '.join(_name(backend) for backend in usable(forced))
    if forced:
        return f'{chosen} (forced by {VARIABLE})'
    missing = ((name, load(name).why_not()) for name in NAMES)
    return '; '.join([chosen, *(f'not {name}: {reason}' for name, reason in missing if reason)])


def load(name: str) -> ModuleType:
    """Import a backend by its name."""
    return import_module(f'{__name__}.{name}')


def _name(backend):
    return backend.__name__.rpartition('.')[2]
