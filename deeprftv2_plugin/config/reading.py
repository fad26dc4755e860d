"""Read option files with inheritance and overrides."""

import os
from collections.abc import Sequence
from typing import Any

from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.plain_yaml import LARGEST_FILE, Loader, TextLoader, dump, parse
from deeprftv2_plugin.utils.regular_files import open_regular

__all__ = ['apply_override', 'dump', 'launcher', 'load', 'parse_file']

BASE = '_base_'
DELETE = '_delete_'
EXTENSIONS = ('.yml', '.yaml')
MOST_FILES = 100
"""Maximum number of files that an option file inherits from, directly and indirectly."""
LAUNCHED = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')


def load(path: str, overrides: Sequence[str] = (), loader: type[TextLoader] = Loader) -> dict[str, Any]:
    """Read an option file with the files that it inherits from, and apply overrides.

    Args:
        path: A YAML file. Its `_base_` names a file or a list of files, relative to itself.
        overrides: Texts `a:b=value`. The value is parsed as YAML, never evaluated. Missing sections are created.
        loader: `Loader`, or `TextLoader` to get numbers as text.

    Returns:
        dict: The resolved options, without `_base_`: inherited keys first, then those of the file.

    Raises:
        UserError: A file is missing, is not YAML or inherits from itself, or an override cannot be applied.
    """
    options = _resolve(path, (), [], loader)
    for override in overrides:
        apply_override(options, override, loader)
    complete_schedule(options)
    return options


def _resolve(path: str, chain: tuple[str, ...], files: list[str], loader: type[TextLoader]) -> dict[str, Any]:
    """Return the options of a file and of all that it inherits from.

    Args:
        path: The file.
        chain: The files from which it was reached, each of which inherits from the next.
        files: All files so far, extended by this one.
        loader: As in `load`.
    """
    named = f' (named by {BASE} in {chain[-1]})' if chain else ''
    if not path.endswith(EXTENSIONS):
        raise UserError(
            f'{path}{named}: found {os.path.splitext(path)[1] or "no extension"}, expected an option file in '
            f'YAML ({" or ".join(EXTENSIONS)})'
        )
    if os.path.realpath(path) in map(os.path.realpath, chain):
        raise UserError(f'{path}{named}: inherits from itself through {" -> ".join((*chain, path))}')
    files.append(path)
    if len(files) > MOST_FILES:
        raise UserError(f'{path}{named}: {chain[0]} inherits from more than {MOST_FILES} files')
    own = parse_file(path, named, loader)
    inherited: dict[str, Any] = {}
    for base in bases_of(own, path):
        found = _resolve(os.path.join(os.path.dirname(path), base), (*chain, path), files, loader)
        twice = sorted(inherited.keys() & found.keys())
        if twice:
            raise UserError(
                f'{path}: two of the files in {BASE} have the key {twice[0]}. Let one of them inherit from the other'
            )
        inherited |= found
    own.pop(BASE, None)
    return _merged(inherited, own, path)


def bases_of(options: dict[str, Any], path: str) -> list[str]:
    """Return the files in the `_base_` of a file.

    Raises:
        UserError: `_base_` is neither text nor a list of texts.
    """
    bases = options.get(BASE) or []
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f'{path}: {BASE} is {options[BASE]!r}, expected an option file or a list of option files')
    return bases


def _merged(inherited: dict[str, Any], own: dict[str, Any], path: str) -> dict[str, Any]:
    """Merge the options of a file into inherited options with mmengine's Config.

    mmengine could also read the files of `_base_`, but with a loader that executes YAML tags.
    """
    from mmengine.config import Config  # slow to import and not needed for --help

    _drop_empty(inherited, own)
    merged = Config({'options': inherited})
    try:
        merged.merge_from_dict({'options': own}, allow_list_keys=False)
    except TypeError as error:  # mmengine's message contains the section and its value
        raise UserError(f'{path}: a section cannot replace a value of {BASE} without {DELETE}: true. {error}') from None
    return merged.to_dict()['options']


def _drop_empty(inherited: dict[str, Any], own: dict[str, Any]) -> None:
    """Drop inherited keys without a value where the file has a section, since mmengine only merges sections."""
    for key, section in own.items():
        if isinstance(section, dict):
            if inherited.get(key) is None:
                inherited.pop(key, None)
                section.pop(DELETE, None)
            elif isinstance(inherited[key], dict):
                _drop_empty(inherited[key], section)


def parse_file(path: str, named: str = '', loader: type[TextLoader] = Loader) -> dict[str, Any]:
    """Return the contents of one option file, without inherited options.

    Args:
        path: The file.
        named: Text that follows the path in errors.
        loader: As in `load`.

    Raises:
        UserError: The file cannot be read, or is not YAML.
    """
    try:
        with open_regular(path, LARGEST_FILE) as file:
            text = file.read().decode('utf-8-sig')
    except OSError as error:
        raise UserError(f'{path}{named}: {error.strerror}. Expected an option file.') from None
    except ValueError as error:  # for example, a path with a null character
        problem = 'not text in UTF-8' if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f'{path}{named}: {problem}. Expected an option file in YAML.') from None
    options = parse(text, path, loader)
    if not isinstance(options, dict):
        raise UserError(f'{path}{named}: found a {type(options).__name__}, expected options (lines of key: value)')
    return options


def apply_override(options: dict[str, Any], override: str, loader: type[TextLoader] = Loader) -> None:
    """Set one `a:b=value` of `--force_yml` in place.

    Raises:
        UserError: The override has a different form, or a key before the last is not a section.
    """
    dotted, separator, text = override.partition('=')
    keys = [key.strip() for key in dotted.split(':')]
    if not separator or not all(keys):
        raise UserError(f'--force_yml {override}: expected key:key=value, for example train:total_iter=1000')
    value = parse(text, f'--force_yml {override}', loader)
    if isinstance(value, str) and value.lower() == 'none':  # as in BasicSR
        value = None
    section = options
    for depth, key in enumerate(keys[:-1], 1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            raise UserError(f'--force_yml {override}: {":".join(keys[:depth])} is {section!r}, expected a section')
    section[keys[-1]] = value


def complete_schedule(options: dict[str, Any]) -> None:
    """Set a missing T_max of a cosine schedule to the length of the training."""
    train = options.get('train')
    if not isinstance(train, dict):
        return
    schedule = train.get('scheduler')
    if isinstance(schedule, dict) and schedule.get('type') == 'CosineAnnealingLR' and 'total_iter' in train:
        schedule.setdefault('T_max', train['total_iter'])


def launcher(given: str = 'none') -> str:
    """Return BasicSR's name of the launcher. torchrun is recognized by its environment variables."""
    if given == 'none' and all(name in os.environ for name in LAUNCHED):
        return 'pytorch'
    return given
