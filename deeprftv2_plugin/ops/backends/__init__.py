"""Which implementation of the costly operations runs where.

A backend is a module of this package. It has

    why_not() -> str | None     why it cannot be used on this machine, as the end of a sentence; None where it can
    takes(x: Tensor) -> bool    whether it computes on x's device and in x's type

and any of the operations that `deeprftv2_plugin.ops` offers, under the same names, with the same arguments and for the
same numbers. The backend `pytorch` has all of them, everywhere.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from deeprftv2_plugin.errors import UserError, nearest

NAMES = ('mamba_ssm', 'triton', 'native', 'pytorch')
"""The backends in the order of preference."""

VARIABLE = 'DEEPRFTV2_BACKEND'
"""The environment variable that forces one of them; what that one lacks is left to `pytorch`."""


def choose(operation: str, x: Tensor) -> Callable:
    """The implementation of an operation for a tensor: of the first backend that has it and takes x.

    Raises:
        UserError: The forced backend is unknown, or cannot be used on this machine.
    """
    return _find(operation, x)


def _first(operation, x):
    for backend in usable(os.environ.get(VARIABLE)):
        if hasattr(backend, operation) and backend.takes(x):
            return getattr(backend, operation)
    raise AssertionError(f'the backend pytorch lacks {operation}')


_find = _first


def hide_from_compiler() -> None:
    """Let torch.compile call the operations as they are: its graphs end before each and begin anew behind it."""
    global _find
    hidden = cache(torch.compiler.disable)  # imports the compiler, which takes seconds; so not before it is wanted
    _find = torch.compiler.disable(lambda operation, x: hidden(_first(operation, x)))


@cache
def usable(forced: str | None = None) -> tuple[ModuleType, ...]:
    """The backends that `choose` looks through."""
    if not forced:
        return tuple(backend for backend in map(_load, NAMES) if backend.why_not() is None)
    if forced not in NAMES:
        raise UserError(f'{VARIABLE}: there is no backend {forced!r}. {nearest(forced, NAMES)}')
    if reason := _load(forced).why_not():
        raise UserError(f'{VARIABLE}: the backend {forced} cannot be used here: {reason}')
    return tuple(dict.fromkeys((_load(forced), _load('pytorch'))))


def describe() -> str:
    """The usable backends in the order of preference and why the others are not, on one line."""
    forced = os.environ.get(VARIABLE)
    chosen = ', '.join(_name(backend) for backend in usable(forced))
    if forced:
        return f'{chosen} (forced by {VARIABLE})'
    missing = ((name, _load(name).why_not()) for name in NAMES)
    return '; '.join([chosen, *(f'not {name}: {reason}' for name, reason in missing if reason)])


def _load(name):
    return import_module(f'{__name__}.{name}')


def _name(backend):
    return backend.__name__.rpartition('.')[2]
