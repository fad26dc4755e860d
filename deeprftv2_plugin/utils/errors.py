"""Exceptions, warnings, exit statuses, and the formatting of messages."""

import signal
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Invalid input. The message says what was found, what was expected, and what to do.

    The command prints the message without a traceback and exits with status 1.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class DataWarning(UserWarning):
    """Data is skipped or only partly used. The command prints the message after 'warning: '."""

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    r"""Escape the bytes of a file name that are not UTF-8 and cannot be printed, as in ``\udce9``."""
    return text.encode(errors='backslashreplace').decode()


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def shortened(text: str) -> str:
    """Shorten text to at most `LONGEST_QUOTE` characters, for a message."""
    return text if len(text) <= LONGEST_QUOTE else f'{text[: LONGEST_QUOTE - 3]}...'


def describe_error(error: Exception) -> str:
    """Return the message of a UserError, or the type and the first line of another error."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyError):
        return f'the key {error} is missing or unknown'
    return f'{type(error).__name__}: {first_line(error)}' if str(error).strip() else type(error).__name__


class SlowdownWarning(UserWarning):
    """The run is slower than it could be on this machine. The message says why."""


LONGEST_QUOTE = 200
"""Maximum number of characters of a value from a file or option in a message."""
LEAVE_SIGNALS = tuple(
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1') if hasattr(signal, name)
)
"""Signals on which training saves its state and stops. Windows has neither SIGHUP nor SIGUSR1."""
FAILED = 1
"""Exit status after an error."""
SAVED = 75
"""Exit status after SIGTERM, SIGHUP or SIGUSR1: the state is saved, rerun to resume (EX_TEMPFAIL in sysexits.h)."""
STOPPED = 130
"""Exit status after Ctrl-C, as in shells. Training has saved its state."""


class Interrupted(Exception):
    """Training was stopped by a signal or a fault, and has saved its state.

    Args:
        status: Exit status, `SAVED`, `STOPPED` or `FAILED`.
        text: What was saved.
    """

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def nearest(name: object, known: Iterable[str]) -> str:
    """Return a sentence that suggests the known name closest to an unknown one, ignoring case, or lists all of them."""
    by_lower_case = {each.lower(): each for each in sorted(map(str, known))}
    matches = get_close_matches(str(name).lower(), by_lower_case, n=1)
    if matches:
        return f'Did you mean {by_lower_case[matches[0]]}?'
    return f'Known names: {", ".join(by_lower_case.values()) or "none"}.'
