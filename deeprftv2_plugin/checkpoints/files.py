"""Files of weights, read without running anything that is in them and written whole or not at all."""

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from deeprftv2_plugin.checkpoints.official_keys import from_official_state_dict, is_official
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError

OPTIONS = 'options'
"""Under which name a .safetensors file has the options of its training, as JSON."""


def read_weights(path: str | Path, param_key: str | None = 'params') -> dict[str, Tensor]:
    """Read the weights of a network by our names.

    Args:
        path: A file of BasicSR or of the authors (.pth) or a .safetensors file.
        param_key: Which set of weights of the file: 'params' or 'params_ema'; where the file has no average, 'params'
            is taken. A file that holds just one set of weights needs no key.

    Returns:
        Weights by parameter name on the CPU, without DistributedDataParallel's 'module.'; the authors' names are
        recognised and converted.

    Raises:
        UserError: The file is missing, damaged, or holds more than weights, which could run code when loaded.
    """
    sets = read_sets(path)
    default = sets.get('params') if param_key == 'params_ema' else None
    state = next(iter(sets.values())) if len(sets) == 1 else sets.get(param_key, default)
    if state is None:
        raise UserError(f'{path}: holds no weights called {param_key!r}; it has {", ".join(sets)}')
    return from_official_state_dict(state) if is_official(state) else state


def read_sets(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """Read all sets of weights of a file by their names, such as 'params' and 'params_ema', with the stored keys."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such checkpoint; check the path')
    try:
        if path.suffix == '.safetensors':
            return {'params': load_file(path)}
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, AttributeError) as error:
        if 'Weights only load failed' not in str(error):
            raise UserError(f'{path}: not a checkpoint, or a damaged one ({_first_line(error)})') from error
        raise UserError(
            f'{path}: refused, because it holds more than weights and loading it could run code. Let whoever '
            'made it save the state_dict alone, or as .safetensors'
        ) from error
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error})') from error
    except (RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f'{path}: truncated, or not a checkpoint ({_first_line(error)})') from error
    sets = {'params': content} if _is_state(content) else content
    if isinstance(sets, Mapping):
        sets = {name: _without_module(state) for name, state in sets.items() if _is_state(state)}
        if sets:
            return sets
    raise UserError(f'{path}: holds no weights; expected a state_dict or a dict of them under params or params_ema')


def write_checkpoint(
    sets: Mapping[str, Mapping[str, Tensor]], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write sets of weights by name to a .pth file, or a single one to a .safetensors file.

    The file appears under its name when it is complete, see :func:`deeprftv2_plugin.utils.atomic_io.write_whole`.

    Args:
        sets: Weights by parameter name, by the names of the sets.
        path: The file; its folder is made where it is missing.
        metadata: Texts that a .safetensors file carries along.

    Raises:
        UserError: Several sets for a .safetensors file.
        OSError: The file cannot be written; an earlier one is left as it was.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        if len(sets) > 1:
            raise UserError(
                f'{path}: .safetensors keeps one set of weights, but there are {", ".join(sets)}; choose a '
                'name that ends in .pth'
            )
        data = save({k: v.contiguous() for k, v in next(iter(sets.values())).items()}, metadata)
    else:
        data = serialised({name: dict(state) for name, state in sets.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def serialised(content: object) -> memoryview:
    """The bytes that torch.load reads; made in memory, so that a full disk meets a plain write."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def read_options(path: str | Path) -> dict | None:
    """The options of the training that a .safetensors file carries along; None where it has none."""
    if Path(path).suffix != '.safetensors':
        return None
    try:
        with safe_open(path, 'pt') as file:
            return json.loads((file.metadata() or {}).get(OPTIONS, 'null'))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f'{path}: truncated, or not a checkpoint ({_first_line(error)})') from error


def _is_state(content):
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _without_module(state):
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0]
