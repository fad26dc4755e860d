"""Convert files between the authors' format and that of this package."""

import warnings
from pathlib import Path

import yaml

from deeprftv2_plugin.checkpoints.files import read_sets, write_checkpoint
from deeprftv2_plugin.checkpoints.official_keys import from_official_state_dict, is_official, to_official_state_dict
from deeprftv2_plugin.checkpoints.official_options import from_official_options
from deeprftv2_plugin.utils.errors import UserError

_OPTION_SUFFIXES = ('.yml', '.yaml')


def convert_file(source: str | Path, target: str | Path) -> str:
    """Convert a checkpoint from or to the authors' parameter names, or convert an option file of the authors.

    Args:
        source: A checkpoint (.pth, .safetensors), whose parameter names determine the direction, or an option file of
            the authors (.yml).
        target: Output file: .pth or .safetensors for a checkpoint, .yml for options.

    Returns:
        A one-line summary.

    Raises:
        UserError: The source cannot be read or converted, or the target exists.
    """
    source, target = Path(source), Path(target)
    if target.exists():
        raise UserError(f'{target}: already exists; choose another name or remove it')
    if source.suffix in _OPTION_SUFFIXES:
        return _convert_options(source, target)
    if target.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'{target}: expected a file name that ends in .pth or .safetensors')
    sets = read_sets(source)
    official = is_official(next(iter(sets.values())))
    convert = from_official_state_dict if official else to_official_state_dict
    try:
        sets = {name: convert(state) for name, state in sets.items()}
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    try:
        write_checkpoint(sets, target)
    except OSError as error:
        raise UserError(f'{target}: cannot be written ({error.strerror or error})') from error
    count = len(next(iter(sets.values())))
    names = "this package's names" if official else "the authors' names"
    return f'{target}: {count} tensors with {names} ({", ".join(sets)})'


def _convert_options(source: Path, target: Path) -> str:
    if target.suffix not in _OPTION_SUFFIXES:
        raise UserError(f'{target}: {source} is an option file; expected a file name that ends in .yml')
    try:
        options = yaml.safe_load(source.read_text(encoding='utf-8'))
        with warnings.catch_warnings(record=True) as reports:
            warnings.simplefilter('always')
            converted = from_official_options(options.get('network_g', options))
    except FileNotFoundError as error:
        raise UserError(f'{source}: no such option file; check the path') from error
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise UserError(f'{source}: not a YAML option file ({str(error).splitlines()[0]})') from error
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    content = {'network_g': {'type': 'DeepRFTv2', **converted['network']}, 'val': converted['restore']}
    target.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None), encoding='utf-8')
    return '; '.join(
        [
            f'{target}: network_g and the tiles of val, to be copied into an option file',
            *(str(r.message) for r in reports),
        ]
    )
