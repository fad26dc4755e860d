"""The option file of `basicsr compare --train`: the recipe of a training plus networks, seeds and a budget."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from deeprftv2_plugin import config
from deeprftv2_plugin.basicsr_bridge import registration
from deeprftv2_plugin.comparison.candidates import Candidate
from deeprftv2_plugin.comparison.figures import Setting, training
from deeprftv2_plugin.comparison.processes import in_new_process
from deeprftv2_plugin.comparison.scoring import score
from deeprftv2_plugin.comparison.training import Run, run_options, summarize
from deeprftv2_plugin.config.kinds import Positive, matches
from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.data.preparation import prepare_photographs
from deeprftv2_plugin.training.stages import accumulation_of, stages_of
from deeprftv2_plugin.utils.atomic_io import write_whole, writing
from deeprftv2_plugin.utils.errors import UserError

KEYS = ('candidates', 'seeds', 'budget', 'photographs', 'reference')
"""Keys of the file in addition to those of a training."""


@dataclass(frozen=True)
class Study:
    """Networks to train under one recipe."""

    recipe: dict[str, Any]
    """Options of a training."""
    candidates: dict[str, dict[str, Any]]
    """The section `network_g` of each network, by name."""
    seeds: list[int]
    """Values of `manual_seed`."""
    budget: dict[str, float]
    """`iterations`, or `minutes` for equal time."""
    photographs: str | None
    """Folder to which the photographs of scikit-image are written if it does not exist."""
    changes: dict[str, dict[str, Any]]
    """Options that differ from the recipe, by the name of the network."""
    reference: str | None
    """Name of the network with which the others are compared, seed by seed."""

    def networks(self) -> list[Candidate]:
        """Return the networks for a comparison."""
        imports = tuple(registration.module_names(self.recipe.get('custom_imports')))
        return [Candidate(name, network, imports=imports) for name, network in self.candidates.items()]


def read_study(path: str) -> Study:
    """Read an option file with the keys of `Study` and those of a training, which can be inherited.

    Raises:
        UserError: The file cannot be read, or a key is missing or has a wrong value.
    """
    recipe = config.load(path)
    candidates, seeds, budget, photographs, reference = (recipe.pop(key, None) for key in KEYS)
    if isinstance(candidates, dict):  # as in other sections, null removes what a base file sets
        candidates = {name: network for name, network in candidates.items() if network is not None}
    if not isinstance(candidates, dict) or {*map(type, candidates.values())} != {dict}:
        raise UserError(
            f'{path}: candidates is {candidates!r}, expected sections such as T: {{type: DeepRFTv2, variant: T}}'
        )
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f'{path}: seeds is {seeds!r}, expected a list of numbers such as [1, 2, 3]')
    if len({*seeds}) < len(seeds):
        raise UserError(f'{path}: seeds is {seeds!r}, expected different numbers, since equal seeds give equal runs')
    amounts = list(budget.values()) if isinstance(budget, dict) and set(budget) in ({'iterations'}, {'minutes'}) else []
    if not amounts or not matches(amounts[0], Positive):
        raise UserError(f'{path}: budget is {budget!r}, expected {{iterations: 800}}, or {{minutes: 2}} for equal time')
    if photographs is not None and not isinstance(photographs, str):
        raise UserError(f'{path}: photographs is {photographs!r}, expected a folder such as datasets/quickstart')
    if not isinstance(recipe.get('train'), dict):
        raise UserError(f'{path} has no section train: inherit an option file of a training with {config.reading.BASE}')
    networks = {str(name): dict(network) for name, network in candidates.items()}
    changes = {name: network.pop('recipe') for name, network in networks.items() if 'recipe' in network}
    for name, change in changes.items():
        if not isinstance(change, dict):
            raise UserError(f'{path}: candidates.{name}.recipe is {change!r}, expected options such as train: {{...}}')
    if reference is not None and reference not in networks:
        raise UserError(f'{path}: reference is {reference!r}, expected one of {", ".join(networks)}')
    return Study(recipe, networks, seeds, budget, photographs, changes, reference)


def prepare(study: Study) -> None:
    """Write the photographs if the study sets a folder for them that does not exist."""
    if study.photographs is not None and not Path(study.photographs).exists():
        prepare_photographs(study.photographs)


def iterations_of(study: Study, folder: Path, device: str) -> dict[str, int]:
    """Return the number of training iterations of each network.

    For equal time, a training step of each network is measured with the batch and crop sizes of each stage of its
    recipe. The numbers are saved in budget.json, so that a resumed study uses the same ones.

    Args:
        study: The study.
        folder: Folder of its runs.
        device: 'cpu' or 'cuda'.

    Raises:
        UserError: The options of a network are not valid, it cannot be trained, or the size of the crops is not known.
    """
    if 'iterations' in study.budget:
        return dict.fromkeys(study.candidates, math.ceil(study.budget['iterations']))
    file = folder / 'budget.json'
    known = _known_iterations(file, study)
    if known is not None:
        return known
    networks = study.networks()
    options = [
        run_options(name, network, study.recipe, study.seeds[0], sys.maxsize, study.changes.get(name, {}))
        for name, network in study.candidates.items()
    ]
    iterations = {
        candidate.name: _iterations_within(60 * study.budget['minutes'], candidate, opt, device)
        for candidate, opt in zip(networks, options, strict=True)
    }
    content = {'minutes': study.budget['minutes'], 'iterations': iterations}
    with writing(file):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, f'{json.dumps(content)}\n'.encode())
    return iterations


def _iterations_within(seconds: float, candidate: Candidate, options: Mapping[str, Any], device: str) -> int:
    """Return the number of iterations of a training of a given duration, at least 1.

    Args:
        seconds: The duration.
        candidate: The network.
        options: Options of its training, whose last stage can be of any length.
        device: 'cpu' or 'cuda'.
    """
    gpus = torch.cuda.device_count() if options['num_gpu'] == 'auto' else options['num_gpu']
    batches = accumulation_of(options, max(1, gpus))
    iterations = 0
    for stage in stages_of(options):
        if stage.gt_size is None:
            raise UserError(f'candidates.{candidate.name}: budget: minutes needs gt_size, the size of the crops')
        size = round(math.sqrt(math.prod(crop_size(stage.gt_size))))
        found = in_new_process(training, candidate, Setting(size, device, stage.batch))
        if 'error' in found:
            raise UserError(f'candidates.{candidate.name}: {found["error"]}')
        step = batches * found['training_seconds']
        iterations = min(stage.last, iterations + int(seconds / step))
        if iterations < stage.last:
            break
        seconds -= step * (stage.last - stage.first + 1)
    return max(1, iterations)


def _known_iterations(file: Path, study: Study) -> dict[str, int] | None:
    """Return the iterations saved by an earlier run of this study, or None."""
    try:
        known = json.loads(file.read_text('utf-8'))
        same = known['minutes'] == study.budget['minutes'] and known['iterations'].keys() == study.candidates.keys()
        return known['iterations'] if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or damaged
        return None


def test_first_seed(study: Study, rows: Sequence[dict[str, Any]], folder: Path, options: Mapping[str, Any]) -> None:
    """Test the networks that were trained with the first seed on the validation images, for the page.

    Args:
        study: The study, after all of its runs.
        rows: Rows of its networks. Each gets the name of its test under `test`, or the reason why it failed.
        folder: Folder of the runs.
        options: Options from `scoring.as_test`.
    """
    for candidate, row in zip(study.networks(), rows, strict=True):
        if 'runs' not in row:
            continue
        run = f'{candidate.name}_seed{study.seeds[0]}'
        name, weights = f'{run}_test', folder / 'experiments' / run / 'models/net_g_latest.pth'
        trained = replace(candidate, weights=str(weights))
        found = in_new_process(score, trained, name, options, folder, True, output=os.devnull)
        if 'error' in found:
            remarks = [row.get('remark'), f'test: {found["error"]}']
            row |= {'failed': True, 'remark': '; '.join(filter(None, remarks))}
        else:
            row['test'] = name


def add_results(rows: Sequence[dict[str, Any]], runs: Sequence[Run]) -> None:
    """Add the mean and the spread of the metrics to the rows of a comparison, and the reasons why runs failed."""
    results = summarize(runs)
    for row in rows:
        row |= results.get(row['name'], {})
        for run in runs:
            if run['candidate'] == row['name'] and 'error' in run:
                row['failed'] = True
                row['remark'] = '; '.join(filter(None, [row['remark'], f'seed {run["seed"]}: {run["error"]}']))
