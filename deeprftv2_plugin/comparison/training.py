"""Train several networks under one recipe with several seeds. Finished runs are not repeated."""

import copy
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeprftv2_plugin import config
from deeprftv2_plugin.basicsr_bridge import pipelines, registration, spandrel_archs
from deeprftv2_plugin.comparison.processes import in_new_process
from deeprftv2_plugin.config import validation
from deeprftv2_plugin.evaluation.metrics_log import MetricsLog, finite
from deeprftv2_plugin.utils.atomic_io import write_whole, writing
from deeprftv2_plugin.utils.errors import Interrupted, UserError
from deeprftv2_plugin.utils.names import is_path_component

Run = dict[str, Any]
"""A training: `candidate`, `seed` and `options`. Afterwards also `iterations`, the total `seconds`, and the `metrics`
after the last iteration; or `error`, the reason why it failed."""


def train_all(
    candidates: Mapping[str, Mapping[str, Any]],
    recipe: Mapping[str, Any],
    seeds: Sequence[int],
    folder: str | Path,
    iterations: Mapping[str, int] | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Run]:
    """Train every network with every seed. Yield all runs of the first seed, then those of the next one, and so on.

    Each run is a BasicSR training in a new process, which resumes from its newest state. Its options are in
    options/NAME.yml, its output in output/NAME.txt, its weights and log in experiments/NAME, and its result in
    runs/NAME.json. A run whose result exists is not repeated.

    Args:
        candidates: The section `network_g` of each network, by name.
        recipe: Options of a training, as returned by `config.load`. Name, network and seed are replaced.
        seeds: Values of `manual_seed`.
        folder: Output folder.
        iterations: `train.total_iter` of each network; by default that of the recipe.
        changes: Options that differ from the recipe, by the name of the network.

    Raises:
        UserError: A name cannot be part of a path, the options of a run are not valid, the folder contains runs with
            other options, or a file cannot be written. A run that fails does not raise an error; it is repeated by the
            next call.
        Interrupted: A signal stopped a training. Its state is saved.

    Example:
        Train two networks with three seeds::

            if __name__ == '__main__':  # the processes of the trainings import the script
                deeprftv2_plugin.register()
                recipe = config.load('options/train_quickstart.yml')
                networks = {'T': {'type': 'DeepRFTv2', 'variant': 'T'}, 'EDSR': {'type': 'EDSR', ...}}
                runs = list(train_all(networks, recipe, [1, 2, 3], 'results/study'))
    """
    for name in candidates:
        if not is_path_component(str(name)):
            raise UserError(f'candidates: the name {name!r} cannot be part of a path: use letters, digits, - and _')
    planned = []
    for seed in seeds:
        for candidate, network in candidates.items():
            total = iterations[candidate] if iterations else recipe['train']['total_iter']
            change = (changes or {}).get(candidate, {})
            options = run_options(candidate, network, recipe, seed, total, change)
            planned.append({'candidate': candidate, 'seed': seed, 'options': options})
    for run in planned:
        _check_earlier(Path(folder), run)
    for run in planned:
        yield _finished(Path(folder), run) or _trained(Path(folder), run)


def run_options(
    candidate: str,
    network: Mapping[str, Any],
    recipe: Mapping[str, Any],
    seed: int,
    iterations: int,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options of one training. See `train_all` for the arguments.

    Raises:
        UserError: They are not valid.
    """
    options = copy.deepcopy(dict(recipe))
    train = options['train']
    schedule = train.get('scheduler')
    if isinstance(schedule, dict) and 'T_max' in schedule and schedule['T_max'] == train.get('total_iter'):
        schedule['T_max'] = iterations  # as in `config.reading.complete_schedule`
    train['total_iter'] = iterations
    options |= {
        'name': f'{candidate}_seed{seed}',
        'network_g': copy.deepcopy(dict(network)),
        'manual_seed': seed,
    }
    _merge(options, changes)
    config.reading.complete_schedule(options)
    _validate(options, f'candidates.{candidate}')
    logger = options['logger']
    logger['print_freq'] = min(logger['print_freq'], options['train']['total_iter'])  # the log has the time of a step
    return options


def _merge(options: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merge changes into options recursively, in place. A section with another `type` replaces the former one."""
    for key, value in changes.items():
        former = options.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(former, dict)
            and value.get('type', former.get('type')) == former.get('type')
        ):
            _merge(former, value)
        else:
            options[key] = copy.deepcopy(value)


def _validate(options: Mapping[str, Any], place: str) -> None:
    """Validate the options of a training as `basicsr train` does.

    Args:
        options: The options.
        place: Where they are defined, for error messages.

    Raises:
        UserError: The options are not valid.
    """
    registration.register()
    spandrel_archs.register_for(options)
    registration.import_modules(options.get('custom_imports'))
    validation.check_root(validation.section_of(options, place), is_train=True)


def _files(folder: Path, run: Run) -> tuple[Path, Path]:
    """Return the paths of the options and the result of a run."""
    name = run['options']['name']
    return folder / 'options' / f'{name}.yml', folder / 'runs' / f'{name}.json'


def _text(run: Run) -> bytes:
    """Return the content of the option file of a run."""
    return config.reading.dump(run['options']).encode(errors='backslashreplace')


def _check_earlier(folder: Path, run: Run) -> None:
    """Check that a run that was started before had the same options.

    Raises:
        UserError: It had other options.
    """
    path, _ = _files(folder, run)
    if path.exists() and path.read_bytes() != _text(run):
        raise UserError(f'{path} is from an earlier run with other options: choose another folder, or remove {folder}')


def _finished(folder: Path, run: Run) -> Run | None:
    """Return a run with its result if it has finished before, otherwise None."""
    try:
        return run | json.loads(_files(folder, run)[1].read_text('utf-8'))
    except (OSError, ValueError):
        return None


def _trained(folder: Path, run: Run) -> Run:
    """Train or resume, and return the run with its result.

    Raises:
        UserError: A file cannot be written.
        Interrupted: A signal stopped the training.
    """
    name, (options, result) = run['options']['name'], _files(folder, run)
    with writing(folder):
        for each in ('options', 'output', 'runs'):
            (folder / each).mkdir(parents=True, exist_ok=True)
        write_whole(options, _text(run))
        found = in_new_process(
            pipelines.run_file, str(options), True, str(folder), output=folder / 'output' / f'{name}.txt'
        )
        if 'status' in found:
            raise Interrupted(found['status'], f'The state of {name} is saved. Repeat the command to resume.')
        if 'error' not in found:
            found |= _result(folder / 'experiments' / name, run['options']['train']['total_iter'])
        if 'error' not in found:
            write_whole(result, f'{json.dumps(finite(found))}\n'.encode())
    return run | found


def _result(experiment: Path, iterations: int) -> dict[str, Any]:
    """Read the result of a finished training from its log.

    `metrics` contains the scores after the last iteration, with several datasets by 'SET metric', and `seconds` the
    time of all steps, of which those after the last line of the log are assumed to take as long as those before it.
    """
    records = list(MetricsLog(experiment))
    scored = [record for record in records if 'dataset' in record and record['iter'] == iterations]
    if not scored:
        return {'error': f'{experiment} has no validation after iteration {iterations}: the recipe needs a section val'}
    metrics = {
        key if len(scored) == 1 else f'{record["dataset"]} {key}': value
        for record in scored
        for key, value in record.items()
        if key not in ('iter', 'dataset')
    }
    seconds, before, step = 0.0, 0, 0.0
    for record in records:
        if 'time' in record:
            step = record['time']
            seconds, before = seconds + step * (record['iter'] - before), record['iter']
    seconds += step * (iterations - before)
    return {'iterations': iterations, 'seconds': seconds, 'metrics': metrics}


def summarize(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return the mean and the sample standard deviation of each metric over the seeds, by the name of the network.

    Each entry has `metrics`; `spread`, unless there is a single seed; `runs`, the number of finished runs;
    `iterations`; and the mean `seconds`.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(run['candidate'] for run in runs):
        finished = [run for run in runs if run['candidate'] == name and 'error' not in run]
        if not finished:
            continue
        values = {
            metric: [math.nan if run['metrics'][metric] is None else run['metrics'][metric] for run in finished]
            for metric in finished[0]['metrics']
        }
        found[name] = {
            'runs': len(finished),
            'iterations': finished[0]['iterations'],
            'seconds': statistics.fmean(run['seconds'] for run in finished),
            'metrics': {metric: statistics.fmean(each) for metric, each in values.items()},
        }
        if len(finished) > 1:
            found[name]['spread'] = {
                metric: statistics.stdev(each) if all(map(math.isfinite, each)) else math.nan
                for metric, each in values.items()
            }
    return found
