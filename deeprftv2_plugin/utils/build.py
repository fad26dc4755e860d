"""Objects that an option file picks by their name."""

from collections.abc import Callable, Mapping
from typing import Any

from deeprftv2_plugin.utils.errors import UserError, nearest


def build(option: str, settings: Mapping[str, Any], known: Mapping[str, Callable], **arguments: Any) -> Any:
    """``known[settings['type']]``, called with the other settings.

    Args:
        option: The dotted key of the settings, for the error's text.
        settings: ``type`` and keyword arguments, as written in the option file.
        known: What ``type`` may name; upper and lower case count.
        arguments: Further keyword arguments that are no settings.

    Raises:
        UserError: The type is missing or unknown, or refuses the settings.
    """
    settings = dict(settings)
    name = settings.pop('type', None)
    if name not in known:
        raise UserError(f'{option}.type is {name!r}, which is unknown. {nearest(name, known)}')
    try:
        return known[name](**arguments, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f'{option}: {name} does not take the settings {settings}: {error}') from error
