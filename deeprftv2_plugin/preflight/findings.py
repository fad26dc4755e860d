"""What a part of the report has found."""

from enum import Enum
from typing import NamedTuple


class Mark(Enum):
    """How much a finding matters."""

    OK = 'ok'
    WARNING = 'warning'
    """The run goes through, but perhaps not as it was meant."""
    ERROR = 'error'
    """The run fails."""


class Finding(NamedTuple):
    """One entry of the report."""

    mark: Mark
    text: str
    """A line, or several."""


def ok(text: str) -> Finding:
    return Finding(Mark.OK, text)


def warning(text: str) -> Finding:
    return Finding(Mark.WARNING, text)


def error(text: str) -> Finding:
    return Finding(Mark.ERROR, text)


def amount(count: float) -> str:
    """A number of bytes in units that fit it."""
    units = {'TB': 1e12, 'GB': 1e9, 'MB': 1e6, 'kB': 1e3}
    unit = next((unit for unit, size in units.items() if count >= size), 'kB')
    return f'{count / units[unit]:.3g} {unit}'
