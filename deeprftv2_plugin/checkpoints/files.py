"""Weight files: safe reading and atomic writing."""

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
"""Metadata key under which a .safetensors file stores the training options as JSON."""


def read_weights(path: str | Path, param_key: str | None = 'params') -> dict[str, Tensor]:
    """Read the weights of a network.

    Args:
        path: A .pth file of BasicSR or of the authors, or a .safetensors file.
        param_key: Set of weights to read, 'params' or 'params_ema'. 'params_ema' falls back to 'params' if the file has
            no average. Ignored if the file contains a single set.

    Returns:
        Weights by parameter name, on the CPU. DistributedDataParallel's prefix 'module.' is removed, and the authors'
        names are converted.

    Raises:
        UserError: The file is missing or damaged, or it contains other objects, which could execute code when loaded.
    """
    sets = read_sets(path)
    key = 'params' if param_key == 'params_ema' and param_key not in sets else param_key
    state = next(iter(sets.values())) if len(sets) == 1 else sets.get(key or '')
    if state is None:
        raise UserError(
            f'{path}: has no weights called {param_key!r}, only {", ".join(sets)}; set param_key accordingly'
        )
    return from_official_state_dict(state) if is_official(state) else state


def read_sets(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """Read all sets of weights of a file.

    Returns:
        Weights by stored parameter name, by the name of the set, such as 'params' and 'params_ema'.

    Raises:
        UserError: The file is missing or damaged, or it contains other objects.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: checkpoint not found; check the path')
    try:
        if path.suffix == '.safetensors':
            return {'params': load_file(path)}
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, AttributeError) as error:
        if 'Weights only load failed' not in str(error):
            raise UserError(f'{path}: not a checkpoint, or damaged ({_first_line(error)})') from error
        raise UserError(
            f'{path}: refused, because it contains objects other than tensors, and loading them could execute code. '
            'Ask its author for the state_dict only, or for a .safetensors file'
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
    raise UserError(f'{path}: contains no weights; expected a state_dict, or a dict with params or params_ema')


def write_checkpoint(
    sets: Mapping[str, Mapping[str, Tensor]], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write sets of weights to a .pth file, or a single set to a .safetensors file.

    The file is written atomically, see :func:`deeprftv2_plugin.utils.atomic_io.write_whole`.

    Args:
        sets: Weights by parameter name, by the name of the set.
        path: Output file. Its folder is created if needed.
        metadata: Strings to store in a .safetensors file.

    Raises:
        UserError: A .safetensors file was requested for several sets.
        OSError: The file cannot be written. An existing file is unchanged.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        if len(sets) > 1:
            raise UserError(
                f'{path}: a .safetensors file contains one set of weights, found {", ".join(sets)}; choose a file '
                'name that ends in .pth'
            )
        weights = {key: value.contiguous() for key, value in next(iter(sets.values())).items()}
        data: bytes | memoryview = save(weights, dict(metadata) if metadata else None)
    else:
        data = serialized({name: dict(state) for name, state in sets.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def serialized(content: object) -> memoryview:
    """Return the bytes that torch.load reads. Serializing in memory leaves a single write that a full disk can fail."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def read_options(path: str | Path) -> dict | None:
    """Return the training options stored in a .safetensors file, or None."""
    if Path(path).suffix != '.safetensors':
        return None
    try:
        with safe_open(path, 'pt') as file:
            return json.loads((file.metadata() or {}).get(OPTIONS, 'null'))
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f'{path}: truncated, or not a checkpoint ({_first_line(error)})') from error


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _without_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
