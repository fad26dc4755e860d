"""Convert files between the authors' format and the format of this package."""

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from torch import Tensor

from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import OPTIONS, chosen, read_sets, write_checkpoint
from deeprftv2_plugin.checkpoints.networks import load_into, no_larger_than
from deeprftv2_plugin.checkpoints.official_keys import from_official_state_dict, is_official, to_official_state_dict
from deeprftv2_plugin.checkpoints.official_options import from_official_options
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError, first_line
from deeprftv2_plugin.utils.plain_yaml import LARGEST_FILE, parse
from deeprftv2_plugin.utils.regular_files import open_regular

_OPTION_SUFFIXES = ('.yml', '.yaml')


def convert_file(
    source: str | Path, target: str | Path, param_key: str | None = None, options: str | Path | None = None
) -> str:
    """Convert a checkpoint to or from the authors' parameter names, or convert an option file of the authors.

    Args:
        source: A checkpoint (.pth, .safetensors), whose parameter names determine the direction, or an option file of
            the authors (.yml).
        target: Output file: .pth for all sets of weights of a checkpoint, .safetensors for one, .yml for options.
        param_key: The only set to convert, as in `read_weights`. Without it, a .safetensors file gets the average if
            there is one.
        options: An option file of the authors, whose network is stored in the .safetensors file with its window sizes,
            which weights do not determine.

    Returns:
        A one-line summary.

    Raises:
        UserError: The source or the options cannot be read or converted, or do not match, or the target exists.
    """
    source, target = Path(source), Path(target)
    if os.path.lexists(target):
        raise UserError(f'{target} already exists; use another name or remove it')
    if options is not None and target.suffix != '.safetensors':
        raise UserError(f'{target}: options are only stored in a file whose name ends in .safetensors')
    if source.suffix in _OPTION_SUFFIXES:
        return _convert_options(source, target)
    if target.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'{target}: expected a file name that ends in .pth or .safetensors')
    sets = read_sets(source)
    if param_key is not None or target.suffix == '.safetensors':
        sets = dict([chosen(sets, param_key, source)])
    official = is_official(next(iter(sets.values())))
    convert = from_official_state_dict if official else to_official_state_dict
    try:
        for state in sets.values():
            _require_finite(state)
        sets = {name: convert(state) for name, state in sets.items()}
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    state = next(iter(sets.values()))
    metadata: dict[str, str] = {}
    remarks: list[str] = []
    if options is not None:
        converted, remarks = _official_options(Path(options))
        if not official:
            raise UserError(f'{source}: options can only be added to a checkpoint of the authors')
        _require_matching(state, converted['network'], f'{source} and {options}')
        metadata = {OPTIONS: json.dumps({'network_g': {'type': DeepRFTv2.__name__, **converted['network']}})}
    _write(target, lambda: write_checkpoint(sets, target, metadata))
    names = "this package's names" if official else "the authors' names"
    return '; '.join([f'{target}: {len(state)} tensors with {names} ({", ".join(sets)})', *remarks])


def _require_matching(state: Mapping[str, Tensor], settings: dict, where: str) -> None:
    try:
        with no_larger_than(state):
            net = DeepRFTv2(**settings)
    except Exception as error:  # options of another network can make any layer fail
        raise UserError(f'{where}: the weights do not match the options ({first_line(error)})') from error
    load_into(net, state, where)


def _require_finite(state: Mapping[str, Tensor]) -> None:
    for name, value in state.items():
        if not value.is_floating_point() or value.float().isinf().any():
            raise UserError(f'{name} is of {value.dtype} or infinite, expected finite floating-point numbers')


def _write(target: Path, write: Callable[[], None]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write()
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        if isinstance(error, UserError):
            raise
        raise UserError(f'{target}: cannot be written ({getattr(error, "strerror", None) or error})') from error


def _read_options(source: Path) -> dict:
    """Return the section network_g of an option file, or the whole file if it has no such section."""
    try:
        with open_regular(source, LARGEST_FILE) as file:
            options = parse(file.read().decode(), str(source))
        return {str(key): value for key, value in options.get('network_g', options).items()}
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f'{source}: no such option file; check the path') from error
    except OSError as error:
        raise UserError(f'{source}: cannot be read ({error.strerror or error})') from error
    except (ValueError, AttributeError) as error:  # not UTF-8, or no section
        raise UserError(f'{source}: not a YAML option file ({first_line(error)})') from error


def _official_options(source: Path) -> tuple[dict[str, dict], list[str]]:
    """Return the result of `from_official_options` for a file, and its warnings."""
    settings = _read_options(source)
    try:
        with warnings.catch_warnings(record=True) as reports:
            warnings.simplefilter('always')
            converted = from_official_options(settings)
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    return converted, [str(report.message) for report in reports]


def _convert_options(source: Path, target: Path) -> str:
    if target.suffix not in _OPTION_SUFFIXES:
        raise UserError(f'{target}: {source} is an option file; expected a file name that ends in .yml')
    converted, remarks = _official_options(source)
    content = {'network_g': {'type': DeepRFTv2.__name__, **converted['network']}, 'val': converted['restore']}
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    _write(target, lambda: write_whole(target, text.encode()))
    return '; '.join([f'{target}: network_g and the tiles of val, to copy into an option file', *remarks])
