"""The one exception whose text is meant for the person at the keyboard, and what such texts share."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Wrong input that its message explains: what was found, what was expected, and what to do.

    The command prints the message without a traceback and exits with status 1.
    """


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the known one most like it, whatever its case, or all of them."""
    by_lower_case = {each.lower(): each for each in sorted(map(str, known))}
    matches = get_close_matches(str(name).lower(), by_lower_case, n=1)
    if matches:
        return f'Did you mean {by_lower_case[matches[0]]}?'
    return f'Known here: {", ".join(by_lower_case.values()) or "nothing"}.'
