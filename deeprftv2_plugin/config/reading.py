"""Option files: inheritance, numbers and overrides.

Files inherit with `_base_` through mmengine's Config, read by a YAML loader that builds plain values only.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence

import yaml

from deeprftv2_plugin.utils.errors import UserError

BASE = '_base_'
EXTENSIONS = ('.yml', '.yaml')
LAUNCHED = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')


class Loader(yaml.SafeLoader):
    """YAML's plain values only; `1e-3` is a number; a key given twice is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.tag != 'tag:yaml.org,2002:merge':
                if key.value in seen:
                    problem = f'key {key.value!r} given twice'
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` reads: the keys in their order, lists of plain values on one line, no anchors."""

    def ignore_aliases(self, data):
        return True


# YAML 1.1, which PyYAML follows, wants a dot and a sign in a float with an exponent
for _class in (Loader, Dumper):
    _class.add_implicit_resolver(
        'tag:yaml.org,2002:float', re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$'), list('-+.0123456789')
    )
Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar('tag:yaml.org,2002:null', '~'))
Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        'tag:yaml.org,2002:seq', items, flow_style=not any(isinstance(item, dict | list) for item in items)
    ),
)


def load(path: str, overrides: Sequence[str] = ()) -> dict:
    """Reads an option file with the files it inherits from, and puts the overrides on top.

    Args:
        path: A YAML file. Its `_base_` names a file or a list of files, relative to itself.
        overrides: `a:b=value`; the value is YAML, never evaluated. Sections on the way are made if absent.

    Returns:
        dict: The resolved options, without `_base_`: inherited keys first, then the file's own.

    Raises:
        UserError: a file is missing, is not YAML or inherits in a circle, or an override cannot be applied.
    """
    from mmengine.config import Config

    check_files(path)
    try:
        with _safe_yaml_in_mmengine():
            options = Config.fromfile(path, import_custom_modules=False).to_dict()
    except Exception as error:  # mmengine raises KeyError, TypeError and others for what it cannot merge
        raise UserError(f'{path}: cannot be merged with the files of its {BASE}: {error}') from error
    for override in overrides:
        apply_override(options, override)
    complete_schedule(options)
    return options


@contextlib.contextmanager
def _safe_yaml_in_mmengine() -> Iterator[None]:
    """Within the block, mmengine reads YAML with `Loader`. Its Config takes no handler as an argument."""
    from mmengine.fileio import BaseFileHandler
    from mmengine.fileio.handlers.registry_utils import file_handlers

    class SafeYaml(BaseFileHandler):
        def load_from_fileobj(self, file, **kwargs):
            return yaml.load(file, Loader)

        def dump_to_fileobj(self, obj, file, **kwargs):
            file.write(dump(obj))

        def dump_to_str(self, obj, **kwargs):
            return dump(obj)

    former = dict(file_handlers)
    file_handlers.update(yml=SafeYaml(), yaml=SafeYaml())
    try:
        yield
    finally:
        file_handlers.update(former)


def check_files(path: str, chain: tuple[str, ...] = ()):
    """Sees that an option file and all it inherits from can be read, each error with the name of its file.

    Python files, which mmengine would execute, are refused.
    """
    named = f' (named by {BASE} in {chain[-1]})' if chain else ''
    if not path.endswith(EXTENSIONS):
        raise UserError(
            f'{path}{named}: found {os.path.splitext(path)[1] or "no extension"}, expected an option file in '
            f'YAML ({" or ".join(EXTENSIONS)})'
        )
    if os.path.realpath(path) in map(os.path.realpath, chain):
        raise UserError(f'{path}{named}: inherits from itself through {" -> ".join((*chain, path))}')
    options = parse_file(path, named)
    bases = options.get(BASE) or []
    for base in [bases] if isinstance(bases, str) else bases:
        check_files(os.path.join(os.path.dirname(path), str(base)), (*chain, path))


def parse_file(path: str, named: str = '') -> dict:
    """What one option file says, with nothing inherited; `named` goes into the errors after its name."""
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except OSError as error:
        raise UserError(f'{path}{named}: {error.strerror}. Expected an option file.') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}{named}: is no text in UTF-8. Expected an option file in YAML.') from None
    # mmengine's {{ }} templates stand for values that are not there yet
    options = parse_yaml(re.sub(r'\{\{.*?\}\}', '0', text), path)
    if not isinstance(options, dict):
        raise UserError(f'{path}{named}: found a {type(options).__name__}, expected options (lines of key: value)')
    return options


def parse_yaml(text: str, where: str):
    """Parses YAML of plain values; a UserError names `where`, the line and the column."""
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError) as error:  # PyYAML raises ValueError for a date that does not exist
        mark = getattr(error, 'problem_mark', None)
        place = f', line {mark.line + 1}, column {mark.column + 1}' if mark else ''
        problem = getattr(error, 'problem', None) or str(error).splitlines()[0]
        raise UserError(f'{where}{place}: not YAML: {problem}') from None


def apply_override(options: dict, override: str):
    """Sets one `a:b=value` of `--force_yml` in place."""
    dotted, separator, text = override.partition('=')
    keys = [key.strip() for key in dotted.split(':')]
    if not separator or not all(keys):
        raise UserError(f'--force_yml {override}: expected key:key=value, for example train:total_iter=1000')
    value = parse_yaml(text, f'--force_yml {override}')
    if isinstance(value, str) and value.lower() == 'none':  # BasicSR's own spelling
        value = None
    section = options
    for depth, key in enumerate(keys[:-1], 1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            raise UserError(f'--force_yml {override}: {":".join(keys[:depth])} is {section!r}, expected a section')
    section[keys[-1]] = value


def complete_schedule(options: dict):
    """Lets a cosine that does not say how long it lasts (T_max) last as long as the training, whatever that is now."""
    train = options.get('train')
    if not isinstance(train, dict):
        return
    schedule = train.get('scheduler')
    if isinstance(schedule, dict) and schedule.get('type') == 'CosineAnnealingLR' and 'total_iter' in train:
        schedule.setdefault('T_max', train['total_iter'])


def dump(options: dict) -> str:
    """The options as YAML that both this module and BasicSR read alike."""
    return yaml.dump(options, Dumper=Dumper, sort_keys=False, width=110)


def launcher(given: str = 'none') -> str:
    """The launcher in BasicSR's words: torchrun is known by what it sets in the environment."""
    if given == 'none' and all(name in os.environ for name in LAUNCHED):
        return 'pytorch'
    return given
