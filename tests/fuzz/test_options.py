"""Wrong values of every option, generated from the schema."""

import argparse
import contextlib
import copy
import io
import json
import shutil
import sys
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.basicsr_bridge import pipelines
from deeprftv2_plugin.checkpoints import read_weights
from deeprftv2_plugin.cli.check import findings
from deeprftv2_plugin.config import reading
from deeprftv2_plugin.preflight.findings import Mark
from deeprftv2_plugin.preflight.report import quiet
from deeprftv2_plugin.utils.errors import UserError
from tests.cli.runs import write, write_images

from . import check, trials
from .mutants import Mutant, base_options, mutants


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with images, the option files, and a parser that reads each text once."""
    write_images(tmp_path)
    (tmp_path / 'kernels').mkdir()
    for name, opt in base_options().items():
        write(tmp_path, opt, f'{name}.yml')
    monkeypatch.chdir(tmp_path)
    parse = cache(reading.parse)
    monkeypatch.setattr(reading, 'parse', lambda *args: copy.deepcopy(parse(*args)))
    return tmp_path


def arguments_of(mutant: Mutant) -> argparse.Namespace:
    return argparse.Namespace(opt=f'{mutant.base}.yml', force_yml=mutant.overrides)


def test_every_option_accepts_or_refuses_any_value():
    """Each key gets some of the values, drawn with a seed. DEEPRFTV2_FUZZ sets the total number."""
    random, failures, counts = Random(0), [], Counter()
    found = mutants()
    for mutant in random.sample(found, min(len(found), trials(600))):
        try:
            with quiet():
                pipelines.load(arguments_of(mutant), mutant.base.endswith('train'))
            counts['fine'] += 1
        except UserError as error:
            counts['clear'] += 1
            assert str(error).count('\n') == 0, str(error)
        except Exception:
            failures.append(f'{mutant}\n{traceback.format_exc()}')
    print(f'\noption values: {len(found)} generated, {counts}')
    assert not failures, '\n'.join(failures[:3])
    assert counts['fine'] and counts['clear']


def test_accepted_values_work():
    """A training or test with a value either reports an error before it starts, or works."""
    random = Random(1)
    count = min(5 * trials(20), len(mutants()))
    accepted = [mutant for mutant in random.sample(mutants(), count) if is_accepted(mutant)]
    check('accepted option values', lambda random: works(random.choice(accepted)), 20)


def is_accepted(mutant: Mutant) -> bool:
    try:
        with quiet():
            pipelines.load(arguments_of(mutant), mutant.base.endswith('train'))
    except UserError:
        return False
    return True


def works(mutant: Mutant) -> bool:
    """Check a mutant and, unless there is an error or it takes long, run it and check the files that it writes.

    Returns:
        Whether a run for which the check reports no error succeeds.

    Raises:
        UserError: The message of the check.
    """
    try:
        return _works(mutant)
    except UserError:
        raise
    except BaseException as fault:
        raise RuntimeError(str(mutant)) from fault


def _works(mutant: Mutant) -> bool:
    with quiet():
        errors = [finding.text for _, finding in findings(arguments_of(mutant)) if finding.mark is Mark.ERROR]
        if errors:
            raise UserError(errors[0])
        opt = pipelines.load(arguments_of(mutant), mutant.base.endswith('train'))
    if takes_long(opt):
        return True
    for name in ('experiments', 'results', 'tb_logger'):
        shutil.rmtree(name, ignore_errors=True)
    command = 'train' if mutant.base.endswith('train') else 'test'
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as screen:
        status = cli.main([command, '-opt', f'{mutant.base}.yml', '--force_yml', *mutant.overrides])
    wrong = screen.getvalue()
    if status == 0:
        wrong = training_faults(opt, mutant) if command == 'train' else test_faults(opt)
    elif 'Training has diverged' in wrong and mutant.overrides[0].startswith(STEEP):
        raise UserError(wrong)
    if wrong:
        print(f'{mutant}: {wrong}', file=sys.__stderr__)
    return not wrong


def takes_long(opt: dict) -> bool:
    """Return whether a run would take minutes."""
    train, data = opt.get('train') or {}, opt['datasets'].get('train') or {}
    stages = [data, *(train.get('stages') or [])]
    batch = max(stage.get('batch_size_per_gpu') or 1 for stage in stages)
    batch *= train.get('accumulation') or train.get('recipe_gpus') or 1
    images = len(opt['datasets']) * (data.get('samples_per_image') or 1)
    return (
        train.get('total_iter', 1) > 50
        or batch > 64
        or max(data.get('num_worker_per_gpu') or 0, images / 100) > 4
        or train.get('compile') is True
        or opt['network_g'].get('stages', 1) > 10
        or (opt.get('val') or {}).get('tile') in (1, [1, 1])
    )


STEEP = ('train:optim_g', 'train:scheduler', 'train:pixel_opt', 'train:frequency_opt', 'network_g')
"""Sections whose values may make a training diverge, which its log shows."""


def training_faults(opt: dict, mutant: Mutant) -> str:
    """Return what is wrong with the files of a training of a few iterations, or ''."""
    folder, total = Path('experiments', opt['name']), opt['train']['total_iter']
    try:
        read_weights(folder / 'models/net_g_latest.pth')
    except UserError as error:  # such as weights that are not finite
        return str(error)
    journal = folder / 'metrics.jsonl'  # missing if nothing was due
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    steps = [line for line in lines if 'dataset' not in line]
    printed, saved = (int(opt['logger'][key]) for key in ('print_freq', 'save_checkpoint_freq'))
    if [line['iter'] for line in steps] != list(range(printed, total + 1, printed)):
        return 'iterations are missing in the log'
    losses = [line.get('l_pix', line.get('l_pix_full')) for line in steps]
    if not mutant.overrides[0].startswith(STEEP):
        if None in losses:
            return 'a loss is not finite'
        if losses and losses[-1] > 3 * losses[0]:
            return f'the loss rises from {losses[0]} to {losses[-1]}'
    due = list(range(saved, total + 1, saved))[-(opt['logger'].get('keep_checkpoints') or total) :]
    if sorted(int(path.stem) for path in (folder / 'training_states').iterdir()) != due:
        return 'other states than expected'
    if opt.get('val') and opt['val'].get('metrics'):
        validated = [dataset for phase, dataset in opt['datasets'].items() if phase != 'train']
        names = {dataset['name'] for dataset in validated if dataset.get('dataroot_gt')}
        if mutant.base == 'own_train' and {line['dataset'] for line in lines if 'dataset' in line} != names:
            return 'a dataset is not validated'
    return ''


def test_faults(opt: dict) -> str:
    """Return what is wrong with the files of a test, or ''."""
    folder = Path('results', opt['name'])
    (dataset,) = opt['datasets'].values()
    images = list((folder / 'visualization' / dataset['name']).rglob('*.png')) if opt['val']['save_img'] else []
    if opt['val']['save_img'] and len(images) != 4:
        return f'{len(images)} of 4 images are saved'
    return ''


test_faults.__test__ = False
