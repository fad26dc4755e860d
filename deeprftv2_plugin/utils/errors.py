"""What ends a command: wrong input, whose text is meant for the person at the keyboard, or a signal."""

import signal
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Wrong input that its message explains: what was found, what was expected, and what to do.

    The command prints the message without a traceback and exits with status 1.
    """


LEAVE_SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1') if hasattr(signal, name))
"""Signals that ask a training to save its state and leave. Windows has no SIGUSR1."""
SAVED = 75
"""Exit status after SIGTERM or SIGUSR1: the state is saved, start again to go on (EX_TEMPFAIL of sysexits.h)."""
STOPPED = 130
"""Exit status after Ctrl-C, that of the shells; a training has saved its state as well."""


class Interrupted(Exception):
    """A training has saved its state because of a signal, and leaves.

    Args:
        status: The exit status, `SAVED` or `STOPPED`.
        text: What was saved.
    """

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the known one most like it, whatever its case, or all of them."""
    by_lower_case = {each.lower(): each for each in sorted(map(str, known))}
    matches = get_close_matches(str(name).lower(), by_lower_case, n=1)
    if matches:
        return f'Did you mean {by_lower_case[matches[0]]}?'
    return f'Known here: {", ".join(by_lower_case.values()) or "nothing"}.'
