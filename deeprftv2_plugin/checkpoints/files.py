"""Weight files: safe reading and atomic writing."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from deeprftv2_plugin.checkpoints.containers import load, open_checkpoint, require_values
from deeprftv2_plugin.checkpoints.official_keys import from_official_state_dict, is_official
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError, first_line

OPTIONS = 'options'
"""Metadata key under which a .safetensors file stores the training options as JSON."""


AVERAGE = 'params_ema'
"""Name of the set of weights with the moving average."""
_SET, _DIGEST = 'set', 'sha256'
"""Metadata keys of a .safetensors file: the name of its set, and the digest of names, values and other metadata."""


class Weights(NamedTuple):
    """A set of weights from a file."""

    name: str
    """Name of the set, such as 'params' or 'params_ema'."""
    state: dict[str, Tensor]
    """Weights by parameter name, on the CPU."""

    def __str__(self) -> str:
        return f'{self.name}, the moving average' if self.name == AVERAGE else self.name


def read_weights(path: str | Path, param_key: str | None = None) -> dict[str, Tensor]:
    """Read the weights of a network.

    Args:
        path: A .pth file of BasicSR or of the authors, or a .safetensors file.
        param_key: Set of weights to read, see `read_set`.

    Returns:
        Weights by parameter name, on the CPU. DistributedDataParallel's prefix 'module.' is removed, and the authors'
        names are converted.

    Raises:
        UserError: The file is missing or damaged, or it contains other objects, which could execute code when loaded.
    """
    return read_set(path, param_key).state


def read_set(path: str | Path, param_key: str | None = None) -> Weights:
    """Read a set of weights and its name from a file.

    Args:
        path: A .pth file of BasicSR or of the authors, or a .safetensors file.
        param_key: 'params', 'params_ema' or another set. None reads the average 'params_ema' if the file has one.
            'params_ema' falls back to 'params' if the file has none. Ignored if the only set has another name.

    Raises:
        UserError: As in `read_weights`.
    """
    sets = read_sets(path)
    name, state = chosen(sets, param_key, path)
    try:
        return Weights(name, from_official_state_dict(state) if is_official(state) else state)
    except UserError as error:
        raise UserError(f'{path}: {error}') from error


def chosen(sets: Mapping[str, dict[str, Tensor]], param_key: str | None, path: str | Path) -> Weights:
    """Return the set of weights that `param_key` selects, see `read_set`.

    Raises:
        UserError: There is no such set.
    """
    wanted = [AVERAGE, 'params'] if param_key in (None, AVERAGE) else [str(param_key)]
    name = next((each for each in wanted if each in sets), None)
    if name is None and len(sets) == 1 and not sets.keys() & {AVERAGE, 'params'}:
        name = next(iter(sets))
    if name is None:
        raise UserError(
            f'{path}: has no weights called {param_key or "params"!r}, only {", ".join(sets)}; set param_key '
            'accordingly'
        )
    return Weights(name, sets[name])


def read_sets(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """Read all sets of weights of a file.

    Returns:
        Weights by stored parameter name, by the name of the set, such as 'params' and 'params_ema'.

    Raises:
        UserError: The file is missing or damaged, or it contains other objects, or tensors without values or with NaN.
    """
    path = Path(path)
    content: Any
    if path.suffix == '.safetensors':
        tensors, metadata = _read_safetensors(path)
        content = {metadata.get(_SET, 'params'): tensors}
    else:
        content = load(path)
    sets = {'params': content} if _is_state(content) else content
    if isinstance(sets, Mapping):
        sets = {name: state for name, state in sets.items() if isinstance(name, str) and _is_state(state)}
    if not isinstance(sets, Mapping) or not sets:
        raise UserError(f'{path}: contains no weights; expected a state_dict, or a dict with params or params_ema')
    try:
        return {name: _checked(state) for name, state in sets.items()}
    except UserError as error:
        raise UserError(f'{path}: {error}') from error


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
        ((name, state),) = sets.items()
        weights, known = _unshared(state), {**(metadata or {}), _SET: name}
        data: bytes | memoryview = save(weights, {**known, _DIGEST: _digest(weights, known)})
    else:
        data = serialized({name: dict(state) for name, state in sets.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def serialized(content: object) -> memoryview:
    """Serialize an object for torch.load in memory, so that it can be written to a file at once."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def read_options(path: str | Path) -> dict | None:
    """Return the training options stored in a .safetensors file, or None.

    Raises:
        UserError: The file is missing or damaged.
    """
    if Path(path).suffix != '.safetensors':
        return None
    try:
        options = json.loads(_read_safetensors(Path(path))[1].get(OPTIONS, 'null'))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{path}: the training options inside are damaged ({first_line(error)})') from error
    if not isinstance(options, dict | None):
        raise UserError(f'{path}: the training options inside are {type(options).__name__}, expected a section')
    return options


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata, after verifying the digest if there is one."""
    open_checkpoint(path).close()
    try:
        with safe_open(path, 'pt') as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except Exception as error:  # safetensors can raise its own class, OSError, and errors of torch about dtypes
        raise UserError(f'{path}: truncated, damaged or not a checkpoint ({first_line(error)})') from error
    digest = metadata.pop(_DIGEST, None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise UserError(f'{path}: damaged: the digest inside does not match the content; copy or download it again')
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return a digest of metadata, names, types, shapes and values."""
    found = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, value in sorted(tensors.items()):
        found.update(repr((name, value.dtype, tuple(value.shape))).encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors, and copies of tensors that share memory, such as tied weights."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        value = value.contiguous()
        address = value.untyped_storage().data_ptr()
        found[name] = value.clone() if address in seen else value
        seen.add(address)
    return found


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _checked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without the prefix 'module.', after their names and values have been checked."""
    for name in state:
        if not isinstance(name, str):
            raise UserError(f'the weights have the name {name!r}, expected the names of parameters')
    require_values(state.items())
    found = {name.removeprefix('module.'): value for name, value in state.items()}
    if len(found) < len(state):
        raise UserError("the same parameter occurs with and without the prefix 'module.'")
    return found
