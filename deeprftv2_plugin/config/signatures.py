"""Derive options from the keyword arguments of a class or function."""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from deeprftv2_plugin.config.kinds import REQUIRED, Option, kind_of

TRANSPARENT = ('basicsr', 'deeprftv2_plugin')
"""Packages that do not pass on `**kwargs`, so that an unknown argument is an error."""
BOUNDED = (*TRANSPARENT, 'torch')
"""Packages to whose classes `schema.BOUNDS` applies."""


class Arguments(NamedTuple):
    """Keyword arguments of a callable."""

    options: dict[str, Option]
    open: bool
    """Whether the callable also takes `**kwargs`, which may be passed to any other function."""

    @property
    def known(self) -> set[str]:
        """The names of all arguments."""
        return set(self.options)

    @property
    def required(self) -> set[str]:
        """The names of the arguments without a default."""
        return {name for name, option in self.options.items() if option.required}


def arguments(target: Callable, given: Iterable[str] = (), bounds: Mapping[str, Any] | None = None) -> Arguments:
    """Return the keyword arguments of a class or function.

    If a constructor takes `**kwargs`, the arguments of the parent class are included.

    Args:
        target: Class or function.
        given: Arguments that are not options.
        bounds: Types that are narrower than the annotations, by argument. They do not apply to classes of other
            packages.
    """
    package = target.__module__.partition('.')[0]
    bounds = bounds if bounds and package in BOUNDED else {}
    chain = [target]
    if inspect.isclass(target):
        chain = [vars(cls)['__init__'] for cls in target.__mro__ if '__init__' in vars(cls)]
    options: dict[str, Option] = {}
    for depth, function in enumerate(chain):
        if function is object.__init__:
            break
        parameters = list(inspect.signature(function).parameters.values())[inspect.isclass(target) :]
        hints = _hints(function)
        for each in parameters:
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY) and each.name not in options:
                options[each.name] = _option(each, hints.get(each.name, each.empty), bounds, depth == 0)
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    first = inspect.signature(chain[0]).parameters.values()
    swallows = any(each.kind is each.VAR_KEYWORD for each in first)
    opened = swallows and package not in TRANSPARENT
    return Arguments({name: option for name, option in options.items() if name not in given}, opened)


def _option(parameter, hint, bounds, required):
    kind = bounds.get(parameter.name, kind_of(parameter, hint))
    default = parameter.default
    if default is parameter.empty:
        default = REQUIRED if required else None
    return Option(kind, default=default)


def _hints(function) -> dict[str, Any]:
    """Return the resolved annotations, empty if one of them cannot be resolved."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
