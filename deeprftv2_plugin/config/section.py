"""A section of an option file, with the sentences for what can be wrong in it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from deeprftv2_plugin.config import keys
from deeprftv2_plugin.utils.errors import UserError, nearest


class Section:
    """A section of resolved options.

    Args:
        values: Its keys and values.
        file: The option file, for the errors.
        place: The keys that lead to it.
        own: The same section as the file itself has it, without what it inherits.
    """

    def __init__(self, values: dict, file: str, place: tuple[str, ...] = (), own: Mapping | None = None):
        self.values, self.file, self.place, self.own = values, file, place, own or {}

    def fail(self, text: str, key: str = '') -> NoReturn:
        """Raises the UserError about the section or one of its keys."""
        dotted = '.'.join((*self.place, key) if key else self.place)
        raise UserError(f'{self.file}: {dotted} {text}' if dotted else f'{self.file}: {text}')

    def child(self, key: str) -> 'Section':
        """The section under a key; an empty one where the key is absent or has no value."""
        values = self.values.get(key)
        if values is not None and not isinstance(values, dict):
            self.fail(f'is {values!r}, expected a section of keys', key)
        own = self.own.get(key)
        return Section(values or {}, self.file, (*self.place, key), own if isinstance(own, dict) else None)

    def children(self, *skip: str) -> list['Section']:
        """The sections right below."""
        return [self.child(key) for key, value in self.values.items() if isinstance(value, dict) and key not in skip]

    def demand(self, *keys: str):
        """Fails for the first of the keys that is missing."""
        for key in keys:
            if self.values.get(key) is None:
                self.fail('is missing', key)

    def admit(self, known: Iterable[str], reads: keys.Reads | None = None):
        """Fails for the first key that is neither known nor perhaps read."""
        known = set(known)
        for key in self.values:
            if key not in known and not (reads and reads.admit(key)):
                text = f'is unknown. {nearest(key, known)}'
                if self.own and key not in self.own:
                    text += ' It is inherited; _delete_: true in the section drops all that is.'
                self.fail(text, key)

    def look_up(self, key: str, known: Mapping[str, Any]) -> Any:
        """What the name under a key stands for."""
        self.demand(key)
        name = self.values[key]
        if name not in known:
            self.fail(f'is {name!r}, which is unknown. {nearest(name, known)}', key)
        return known[name]

    def registered(self, registry, key: str = 'type') -> Callable:
        """What the name under a key stands for in one of BasicSR's registries."""
        suffix = '_basicsr'  # BasicSR's own, where a package has taken the plain name
        known = dict(iter(registry))
        return self.look_up(key, {**{name.removesuffix(suffix): value for name, value in known.items()}, **known})

    def arguments(self, target: Callable, given: Iterable[str] = (), further: Iterable[str] = ()):
        """Sees that the keys, without `type`, are keyword arguments that a callable takes and needs.

        Args:
            target: Class or function.
            given: Arguments that are no options.
            further: Keys that are no arguments.
        """
        arguments = keys.arguments(target, given)
        if not arguments.any:
            self.admit({'type', *further, *arguments.known})
        self.demand(*sorted(arguments.required))
