"""A section of an option file, and error messages about it."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from typing import Any, NoReturn

from deeprftv2_plugin.config.kinds import Option
from deeprftv2_plugin.config.signatures import arguments
from deeprftv2_plugin.utils.errors import UserError, nearest, shortened

SUFFIX = '_basicsr'
"""Suffix that BasicSR appends to the names of its classes if another package has registered the plain name."""


def shown(value: object) -> str:
    """Format a value for a message, shortened if it is long."""
    return shortened(repr(value))


class Section:
    """A section of resolved options.

    Args:
        values: The keys and values of the section.
        file: The option file, for error messages.
        place: The keys of the section in the file.
        own: The same section without inherited keys.
        written: The same section with all numbers as text, as written in the file.
    """

    def __init__(
        self,
        values: dict[str, Any],
        file: str,
        place: tuple[str, ...] = (),
        own: Mapping | None = None,
        written: Mapping | None = None,
    ) -> None:
        self.values, self.file, self.place, self.own, self.written = values, file, place, own or {}, written or {}

    def text(self, problem: str, key: str = '') -> str:
        """Return the error message about a problem of the section or of one of its keys."""
        dotted = '.'.join((*self.place, key) if key else self.place)
        return f'{self.file}: {dotted} {problem}' if dotted else f'{self.file}: {problem}'

    def fail(self, problem: str, key: str = '') -> NoReturn:
        """Raise a UserError about the section or one of its keys."""
        raise UserError(self.text(problem, key))

    def child(self, key: str) -> 'Section':
        """Return the section under a key, empty if the key is absent or has no value."""
        values = self.values.get(key)
        if values is not None and not isinstance(values, dict):
            self.fail(f'is {shown(values)}, expected a section of keys', key)
        own, written = (each if isinstance(each := of.get(key), Mapping) else None for of in (self.own, self.written))
        return Section({} if values is None else values, self.file, (*self.place, key), own, written)

    def children(self) -> list['Section']:
        """Return the sections in this section."""
        return [self.child(key) for key, value in self.values.items() if isinstance(value, dict)]

    def items(self, key: str) -> list['Section']:
        """Return the sections in the list under a key."""
        values, written = (each if isinstance(each := of.get(key), list) else [] for of in (self.values, self.written))
        pairs = enumerate(zip_longest(values, written))
        place = (*self.place, key)
        return [
            Section(value, self.file, (*place, str(number)), written=text)
            for number, (value, text) in pairs
            if isinstance(value, dict)
        ]

    def demand(self, *keys: str) -> None:
        """Raise a UserError about the first missing key, if any."""
        for key in keys:
            if self.values.get(key) is None:
                self.fail('is missing', key)

    def check(self, options: Mapping[str, Option], further: Iterable[str] = (), open_to: str = '') -> None:
        """Check keys and values. If an option takes text, a number is replaced by its text in the file.

        Args:
            options: The allowed keys.
            further: Keys that are checked elsewhere.
            open_to: Name of a class that may read other keys, which then cause a warning instead of an error.
        """
        known = {*options, *further}
        for key, value in self.values.items():
            option = options.get(key)
            if key not in known:
                self._reject(key, known, open_to)
            elif option is not None and not (option.required and value is None) and not option.accepts(value):
                text = self.written.get(key)
                if text is None or not option.accepts(text):
                    self.fail(f'is {shown(value)}, expected {option.expected()}', key)
                self.values[key] = text
        self.demand(*(key for key, option in options.items() if option.required))

    def _reject(self, key: str, known: Iterable[str], open_to: str) -> None:
        text = f'is unknown. {nearest(key, known)}'
        if open_to:
            warnings.warn(self.text(f'{text} It has no effect unless {open_to} reads it.', key), stacklevel=2)
            return
        if self.own and key not in self.own:
            text += ' It is inherited: set _delete_: true in the section to drop inherited keys.'
        self.fail(text, key)

    def look_up(self, key: str, known: Mapping[str, Any]) -> Any:
        """Return the entry of `known` selected by the value of a key."""
        self.demand(key)
        name = self.values[key]
        if not isinstance(name, str) or name not in known:
            self.fail(f'is {shown(name)}, which is unknown. {nearest(name, known)}', key)
        return known[name]

    def registered(self, registry: Iterable[tuple[str, Callable]], key: str = 'type') -> Callable:
        """Return the class or function of a BasicSR registry selected by the value of a key."""
        known = dict(iter(registry))
        return self.look_up(key, {**{name.removesuffix(SUFFIX): value for name, value in known.items()}, **known})

    def check_arguments(
        self,
        target: Callable,
        given: Iterable[str] = (),
        further: Iterable[str] = (),
        bounds: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the keys other than `type` against the keyword arguments of a callable.

        Args:
            target: Class or function.
            given: Arguments that are not options.
            further: Keys that are not arguments.
            bounds: Types of arguments that are narrower than their annotations.
        """
        found = arguments(target, given, bounds)
        self.check(found.options, ('type', *further), target.__name__ if found.open else '')
