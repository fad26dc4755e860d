"""Training states: safe reading, atomic writing, finding the newest, and removing old ones."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deeprftv2_plugin.checkpoints.files import read_sets, serialized
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError

SUFFIX = '.state'


def write_state(state: dict, path: str | Path) -> None:
    """Write a state of tensors and plain values.

    Raises:
        OSError: The file cannot be written. An existing file is unchanged.
    """
    write_whole(path, serialized(state))


def read_state(path: str | Path) -> dict:
    """Read a state to the CPU without executing code.

    Raises:
        UserError: The file is missing or damaged, or it contains objects other than tensors and plain values.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except Exception as error:  # torch.load has no common exception class for damaged and unsafe files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f'{path} is not a readable training state: {reason}') from error
    if not isinstance(state, dict) or type(state.get('iter')) is not int:
        raise UserError(f'{path} is not a training state: it has no iteration')
    return state


def numbered(folder: str | Path, pattern: str) -> dict[int, list[Path]]:
    """Return the files of a folder by the iteration in their names, newest first.

    Args:
        folder: The folder; it may be missing.
        pattern: Regular expression for the names whose group is the iteration.
    """
    found: dict[int, list[Path]] = {}
    for path in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else ():
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
        UserError: All states are damaged.
    """
    faults: list[str] = []
    for iteration, (path, *_) in numbered(states, r'(\d+)\.state').items():
        try:
            read_state(path)
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
        label: Of the network, such as 'g' for net_g.
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


def prune(states: str | Path, models: str | Path, keep: int) -> None:
    """Remove all but the newest `keep` states and the corresponding weights.

    A state is removed before its weights, so that no state is ever without weights. Weights without an iteration in
    their name, such as best and latest, are kept.
    """
    all_states = numbered(states, r'(\d+)\.state')
    kept = list(all_states)[:keep]
    all_weights = numbered(models, r'net_\w+?_(\d+)\.(?:pth|safetensors)')
    for files in (all_states, all_weights):
        for iteration, paths in files.items():
            if kept and iteration < min(kept):
                for path in paths:
                    path.unlink(missing_ok=True)
