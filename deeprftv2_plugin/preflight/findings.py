"""The results of checks."""

from enum import Enum
from typing import NamedTuple


class Mark(Enum):
    """The severity of a finding."""

    OK = 'ok'
    WARNING = 'warning'
    """The run works, but perhaps not as intended."""
    ERROR = 'error'
    """The run fails."""


class Finding(NamedTuple):
    """One entry of the report."""

    mark: Mark
    text: str
    """One or more lines."""


def ok(text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(Mark.OK, text)


def warning(text: str) -> Finding:
    """Return a warning."""
    return Finding(Mark.WARNING, text)


def error(text: str) -> Finding:
    """Return an error."""
    return Finding(Mark.ERROR, text)


def amount(count: float) -> str:
    """Return a number of bytes with a suitable unit."""
    units = {'TB': 1e12, 'GB': 1e9, 'MB': 1e6, 'kB': 1e3}
    unit = next((unit for unit, size in units.items() if count >= size), 'kB')
    return f'{count / units[unit]:.3g} {unit}'
