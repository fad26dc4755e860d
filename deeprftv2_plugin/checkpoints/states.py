"""Read training states safely, write them atomically, find the newest one, and remove old ones."""

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from deeprftv2_plugin.checkpoints.containers import load, require_values, tensors_of
from deeprftv2_plugin.checkpoints.files import read_sets, serialized
from deeprftv2_plugin.utils.atomic_io import sync, write_whole
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import open_regular, open_to_append

WRITTEN = 'checkpoints.txt'
"""Name of the list of weights and states that a training has written, in the folder of the experiment."""
STATES, WEIGHTS = r'(\d+)\.state', r'net_\w+?_(\d+)\.(?:pth|safetensors)'
"""Names of files that contain an iteration, for `numbered`."""
MAX_LIST = 10**8
"""Maximum size of the list in bytes."""


def write_state(state: dict, path: str | Path) -> None:
    """Write a state of tensors and plain values.

    Raises:
        OSError: The file cannot be written. An existing file is unchanged.
    """
    write_whole(path, serialized(state))


def read_state(path: str | Path) -> dict:
    """Read a state to the CPU without executing code.

    Raises:
        UserError: The file is missing or damaged, it contains NaN or objects other than tensors and plain values, or it
            lacks an entry that BasicSR needs to resume.
    """
    state = load(path)
    try:
        _require_complete(state)
        require_values(tensors_of(state))
    except (UserError, RecursionError) as error:
        raise UserError(f'{path}: not a complete training state: {error}') from error
    return state


def _require_complete(state: Any) -> None:
    if not isinstance(state, dict):
        raise UserError(f'it is of {type(state).__name__}, expected a dict')
    for key, (fits, expected, required) in _PARTS.items():
        if key not in state and required:
            raise UserError(f'{key} is missing')
        if key in state and not fits(state[key]):
            raise UserError(f'{key} is {reprlib.repr(state[key])}, expected {expected}')
    for key, names in state.get('types', {}).items():
        if len(names) != len(state.get(key, ())):
            raise UserError(f'types has {len(names)} names of {key}, expected {len(state.get(key, ()))}')


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_dict(value: Any, keys: type = str) -> bool:
    return isinstance(value, dict) and all(isinstance(key, keys) for key in value)


def _is_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_dict(each) for each in value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_optimizers(value: Any) -> bool:
    return _is_dicts(value) and all(
        _is_dict(each.get('state'), int)
        and all(_is_dict(values) for values in each['state'].values())
        and _is_dicts(each.get('param_groups'))
        and all(isinstance(group.get('params'), list) for group in each['param_groups'])
        and all(type(number) is int for group in each['param_groups'] for number in group['params'])
        for each in value
    )


def _is_weights(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, list) and all(isinstance(weight, Tensor) for weight in each) for each in value
    )


def _is_stream(value: Any) -> bool:
    return _is_dict(value) and value.keys() >= set(_STREAM) and all(map(_is_count, value.values()))


def _is_best(value: Any) -> bool:
    if not _is_dict(value) or not all(map(_is_dict, value.values())):
        return False
    records = [record for records in value.values() for record in records.values()]
    return all(
        _is_dict(each) and isinstance(each.get('val'), int | float) and type(each.get('iter')) is int
        for each in records
    )


_STREAM = ('samples', 'seed', 'number of processes', 'effective batch', 'number of samples in the data set')
# By key: whether a value is valid, its description, and whether the key is required.
_PARTS: dict[str, tuple[Callable[[Any], bool], str, bool]] = {
    'iter': (_is_count, 'an iteration', True),
    'epoch': (lambda value: type(value) is int, 'a number', True),
    'optimizers': (_is_optimizers, 'a list of states of optimizers', True),
    'schedulers': (_is_dicts, 'a list of states of schedules', True),
    'types': (lambda value: _is_dict(value) and all(map(_is_texts, value.values())), 'names of classes', False),
    'stream': (_is_stream, 'the position in the samples', False),
    'best_metric_results': (_is_best, 'metrics by dataset', False),
    'unseen_losses': (
        lambda value: isinstance(value, list) and all(isinstance(each, float) for each in value),
        'a list of numbers',
        False,
    ),
    'environment': (_is_dict, 'a section', False),
    'training_weights': (_is_weights, 'lists of tensors', False),
}


def numbered(folder: str | Path, pattern: str) -> dict[int, list[Path]]:
    """Return the files of a folder by the iteration in their names, newest first.

    Args:
        folder: The folder; it may be missing.
        pattern: Regular expression for the names whose group is the iteration.

    Raises:
        OSError: The folder cannot be listed.
    """
    found: dict[int, list[Path]] = {}
    try:
        paths = sorted(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        paths = []
    for path in paths:
        match = re.fullmatch(pattern, path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return dict(sorted(found.items(), reverse=True))


def newest_whole(states: str | Path, models: str | Path, labels: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the newest complete state: the state and the weights of its iteration are readable.

    Args:
        states: Folder of the states.
        models: Folder of the weights.
        labels: Labels of the networks that belong to a state, such as 'g' for net_g.

    Returns:
        The path of the state, or None if there are no states; and an error message for each newer damaged state.

    Raises:
        UserError: All states are damaged, or their folder cannot be listed.
    """
    faults: list[str] = []
    try:
        found = numbered(states, STATES)
    except OSError as error:
        raise UserError(f'{states} cannot be listed ({error.strerror}): check its permissions') from error
    for iteration, (path, *_) in found.items():
        try:
            if read_state(path)['iter'] != iteration:
                raise UserError(f'{path}: not a complete training state: its iteration does not match its name')
            for label in labels:
                read_sets(weights_file(models, label, iteration))
            return path, faults
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError(f'none of the {len(faults)} training states in {states} is complete. The newest: {faults[0]}')
    return None, faults


def weights_file(models: str | Path, label: str, iteration: int) -> Path:
    """Return the path of the weights of an iteration.

    Args:
        models: Folder of the weights.
        label: Label of the network, such as 'g' for net_g.
        iteration: The iteration.
    """
    return Path(models, f'net_{label}_{iteration}.pth')


def resumed_weights(opt: Mapping[str, Any], state: str | Path, iteration: int) -> dict[str, Path]:
    """Return the weights that belong to a training state, by the labels of the networks that are resumed.

    Args:
        opt: The options; `path.ignore_resume_networks` lists networks that are not resumed.
        state: The path of the state, in `training_states` next to the folder of the weights.
        iteration: The iteration of the state.
    """
    models = Path(state).absolute().parent.parent / 'models'
    return {label: weights_file(models, label, iteration) for label in resumed_networks(opt)}


def resumed_networks(opt: Mapping[str, Any]) -> list[str]:
    """Return the labels of the networks that get the weights of a resumed state, such as 'g' for `network_g`."""
    ignored = opt['path'].get('ignore_resume_networks') or []
    return [key.removeprefix('network_') for key in opt if key.startswith('network_') and key not in ignored]


def record_written(experiment: str | Path, paths: Iterable[str | Path]) -> None:
    """Add files to the list of written files, which `prune` may remove. Call this before writing them.

    Args:
        experiment: Folder of the experiment, which contains the list.
        paths: States and weights.

    Raises:
        OSError: The list cannot be written.
    """
    with open_to_append(Path(experiment, WRITTEN)) as file:
        file.writelines(f'{Path(path).name}\n'.encode() for path in paths)
        sync(file)


def prune(experiment: str | Path, states: str | Path, models: str | Path, keep: int) -> None:
    """Remove all but the newest `keep` states and the corresponding weights, if `record_written` lists them.

    A state is removed before its weights, so that there is never a state without weights. Weights without an iteration
    in their name, such as best and latest, are kept.

    Args:
        experiment: Folder of the experiment, for `record_written`.
        states: Folder of the states.
        models: Folder of the weights.
        keep: Number of states.
    """
    written = _written(experiment)
    all_states = numbered(states, STATES)
    kept = list(all_states)[:keep]
    removed = set()
    for files in (all_states, numbered(models, WEIGHTS)):
        for iteration, paths in files.items():
            for path in paths:
                if kept and iteration < min(kept) and path.name in written:
                    path.unlink(missing_ok=True)
                    removed.add(path.name)
    if removed:
        write_whole(Path(experiment, WRITTEN), ''.join(f'{name}\n' for name in written if name not in removed).encode())


def _written(experiment: str | Path) -> list[str]:
    """Return the names that `record_written` has listed, without duplicates."""
    try:
        with open_regular(Path(experiment, WRITTEN), MAX_LIST) as file:
            return list(dict.fromkeys(file.read().decode(errors='replace').splitlines()))
    except (OSError, UserError):  # then nothing is removed
        return []
