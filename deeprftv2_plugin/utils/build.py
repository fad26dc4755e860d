"""Build objects that an option file selects by name."""

from collections.abc import Callable, Mapping
from typing import Any

from deeprftv2_plugin.utils.errors import UserError, nearest


def build(option: str, settings: Mapping[str, Any], known: Mapping[str, Callable], **arguments: Any) -> Any:
    """Call ``known[settings['type']]`` with the other settings.

    Args:
        option: Dotted key of the settings, for error messages.
        settings: ``type`` and keyword arguments, as written in the option file.
        known: Callables that ``type`` can select; case-sensitive.
        arguments: Keyword arguments that do not come from the settings.

    Raises:
        UserError: The type is missing or unknown, or it does not accept the settings.
    """
    settings = dict(settings)
    name = settings.pop('type', None)
    if name not in known:
        raise UserError(f'{option}.type is {name!r}, which is unknown. {nearest(name, known)}')
    try:
        return known[name](**arguments, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f'{option}: {name} does not accept the settings {settings}: {error}') from error
