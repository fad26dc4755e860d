"""Replace names in BasicSR. Each replacement has a reason, is listed, and can be undone."""

from collections.abc import MutableMapping
from types import ModuleType
from typing import Any

_MISSING = object()
_active: list['Replacement'] = []


class Replacement:
    """A name that is bound to another object. Used as a context manager, it is undone at the end of the block.

    Attributes:
        owner: Module, class, or mapping such as ``sys.modules``.
        name: Attribute or key.
        original: The object to which the name was bound before.
        reason: The defect that the replacement fixes, or the feature that it adds.
    """

    def __init__(self, owner: ModuleType | type | MutableMapping[str, Any], name: str, new: object, reason: str):
        self.owner, self.name, self.reason = owner, name, reason
        self.original = owner.get(name, _MISSING) if isinstance(owner, MutableMapping) else getattr(owner, name)
        _bind(owner, name, new)
        _active.append(self)

    def undo(self) -> None:
        """Bind the name to its original again."""
        _active.remove(self)
        _bind(self.owner, self.name, self.original)

    def __enter__(self) -> 'Replacement':
        return self

    def __exit__(self, *exception: object) -> None:
        self.undo()

    def __str__(self) -> str:
        place = 'sys.modules' if isinstance(self.owner, MutableMapping) else self.owner.__name__
        return f'{place}.{self.name}: {self.reason}'


def replace(owner: ModuleType | type | MutableMapping[str, Any], name: str, new: object, reason: str) -> Replacement:
    """Bind ``owner.name`` to another object.

    Args:
        owner: Module, class, or a mapping such as ``sys.modules``.
        name: Attribute or key. Only a key of a mapping may be new.
        new: The object to bind.
        reason: The defect that the replacement fixes, or the feature that it adds.

    Returns:
        The replacement, which lasts until its `undo` or until the end of a ``with`` block.

    Raises:
        AttributeError: The module or class has no such attribute, for example in another version of BasicSR.
    """
    return Replacement(owner, name, new, reason)


def active() -> tuple[Replacement, ...]:
    """Return the replacements in effect, the oldest first."""
    return tuple(_active)


def _bind(owner: ModuleType | type | MutableMapping[str, Any], name: str, value: object) -> None:
    if not isinstance(owner, MutableMapping):
        setattr(owner, name, value)
    elif value is _MISSING:
        del owner[name]
    else:
        owner[name] = value
