"""Check values of options against Python type annotations, and describe these annotations in words."""

import functools
import inspect
import math
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Union, cast, get_args, get_origin

from deeprftv2_plugin.utils.names import LONGEST, is_path_component

REQUIRED = object()
"""Marks an option without a default."""


@dataclass(frozen=True)
class Option:
    """One key of an option file."""

    kind: Any
    """An annotation such as `int`, `str | None`, `tuple[int, int]` or `Annotated[int, Range(1)]`."""
    help: str = ''
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default is REQUIRED

    def accepts(self, value: object) -> bool:
        """Return whether the option accepts a value. `~` (None) is accepted if it is the default."""
        return (value is None and self.default is None) or matches(value, self.kind)

    def expected(self) -> str:
        """Return a description of the values that the option accepts."""
        return describe(self.kind)


class Range(NamedTuple):
    """Bounds of a number, for `Annotated`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether a number is within the bounds."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.most is None and self.below is None:
            return f'>= {self.least}' if self.above is None else f'> {self.above}'
        low = f'[{self.least}' if self.above is None else f'({self.above}'
        return f'in {low}, {self.most}]' if self.below is None else f'in {low}, {self.below})'


class Whole:
    """Require a number without a fraction, for `Annotated`."""

    def holds(self, value: float) -> bool:
        """Return whether a number has no fraction."""
        return float(value).is_integer()

    def __str__(self) -> str:
        return 'without a fraction'


class PathComponent:
    """Require text that can be a component of a path, for `Annotated`."""

    def holds(self, value: str) -> bool:
        """Return whether text can be a component of a path."""
        return is_path_component(value)

    def __str__(self) -> str:
        return f'that can name a folder: printable, without / and \\, not . or .., at most {LONGEST} bytes'


Name = Annotated[str, PathComponent()]
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(above=0)]
BelowOne = Annotated[float, Range(0, below=1)]
Crop = Count | tuple[Count, Count]
Settings = dict[str, Any]
"""`type` and the arguments of a class."""


def matches(value: object, kind: Any) -> bool:
    """Return whether a value of an option file matches an annotation.

    A list matches a tuple, and an integer matches a float. Infinity and NaN do not match.
    """
    kind = plain(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        return matches(value, parts[0]) and all(bounds.holds(value) for bounds in parts[1:])
    if origin in (Union, types.UnionType):
        return any(matches(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in parts)
    if kind is types.NoneType:
        return value is None
    if kind is float:
        return type(value) in (int, float) and math.isfinite(cast(float, value))
    if kind in (bool, int, str):
        return type(value) is kind
    if is_list(kind):
        return isinstance(value, list | tuple) and _items_match(value, origin, parts)
    return isinstance(value, Mapping) and (len(parts) < 2 or all(matches(item, parts[1]) for item in value.values()))


def describe(kind: Any, plural: bool = False) -> str:
    """Describe an annotation in words, such as 'an integer >= 1'."""
    kind = plain(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return 'anything'
    if origin is Annotated:
        return ' '.join([describe(parts[0], plural), *map(str, parts[1:])])
    if origin in (Union, types.UnionType):
        return ' or '.join(dict.fromkeys(describe(part, plural) for part in parts))
    if origin is Literal:
        words = [str(part).lower() if isinstance(part, bool) else str(part) for part in parts]
        return ' or '.join(', '.join(words).rsplit(', ', 1))
    if is_list(kind):
        return ('lists' if plural else 'a list') + _items_described(origin, parts)
    names = {
        bool: ('true or false', 'true or false'),
        int: ('an integer', 'integers'),
        float: ('a number', 'numbers'),
        str: ('text', 'texts'),
        types.NoneType: ('~', '~'),
    }
    return names.get(kind, ('a section of keys', 'sections of keys'))[plural]


def plain(kind: Any) -> Any:
    """Return the part of an annotation that an option file can express; `Any` if there is none.

    Arguments of networks and optimizers may also be tensors, modules or functions, which YAML cannot hold.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return kind
    if origin in (Union, types.UnionType):
        left = [part for part in map(plain, parts) if part is not Any]
        return functools.reduce(operator.or_, left) if left and left != [types.NoneType] else Any
    if kind is None:
        return types.NoneType
    known = (bool, int, float, str, types.NoneType, dict)
    if origin is Literal or kind in known or is_list(kind) or is_mapping(kind):
        return kind
    return Any


def is_list(kind: Any) -> bool:
    """Return whether an annotation is a list or tuple."""
    return (get_origin(kind) or kind) in (list, tuple, Sequence, typing.Sequence)


def is_mapping(kind: Any) -> bool:
    """Return whether an annotation is a section of keys."""
    return (get_origin(kind) or kind) in (dict, Mapping, typing.Mapping)


def kind_of(parameter: inspect.Parameter, hint: Any) -> Any:
    """Return the type of an argument according to its annotation, or to its default if it has no annotation.

    Args:
        parameter: The argument.
        hint: Its resolved annotation; `inspect.Parameter.empty` if it has none.
    """
    default = parameter.default
    if hint is not parameter.empty:
        return hint | None if default is None else hint
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return float | Sequence[float]  # for example BasicSR's img_size, one number or (height, width)
    if isinstance(default, str):
        return str | None
    return Sequence if isinstance(default, list | tuple) else Any


def _items_match(values, origin, parts):
    if origin is tuple and parts[-1] is not ...:
        return len(values) == len(parts) and all(map(matches, values, parts))
    return all(matches(value, parts[0]) for value in values) if parts else True


def _items_described(origin, parts):
    if not parts:
        return ''
    if origin is not tuple or parts[-1] is ...:
        return f' of {describe(parts[0], plural=True)}' if plain(parts[0]) is not Any else ''
    if len({describe(part) for part in parts}) == 1:
        return f' of {len(parts)} {describe(parts[0], plural=True)}'
    return f' [{", ".join(map(describe, parts))}]'
