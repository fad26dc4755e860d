"""Move newer states and weights aside if a training resumes from a state that is not the newest."""

import os
from pathlib import Path

from deeprftv2_plugin.checkpoints.states import STATES, WEIGHTS, numbered
from deeprftv2_plugin.training.run_folder import unused


def set_aside(experiment: str | Path, iteration: int) -> Path | None:
    """Move the states and weights after an iteration to a subfolder, if there are such states.

    The latest and the best weights are moved too, since they may be of a later iteration. The states in the subfolder
    can be resumed with ``path.resume_state``.

    Args:
        experiment: Folder of the experiment.
        iteration: The iteration from which the training resumes.

    Returns:
        The subfolder; None if no state is newer.

    Raises:
        OSError: A file cannot be moved.
    """
    experiment = Path(experiment)
    states, models = experiment / 'training_states', experiment / 'models'
    later = [path for each, paths in numbered(states, STATES).items() if each > iteration for path in paths]
    if not later:
        return None
    branch = unused(experiment / f'branch_{iteration}_to_{later[0].stem}')
    later += [path for each, paths in numbered(models, WEIGHTS).items() if each > iteration for path in paths]
    later += [path for word in ('latest', 'best') for path in sorted(models.glob(f'net_*_{word}.*'))]
    for path in later:  # a state before its weights, so that no state is left without them
        target = branch / path.relative_to(experiment)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    return branch
