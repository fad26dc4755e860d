"""Wrong values of every option, generated from the schema."""

import argparse
import contextlib
import copy
import io
import json
import math
import shutil
import sys
import traceback
import typing
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from types import UnionType
from typing import Any, Literal, NamedTuple

import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.basicsr_bridge import pipelines
from deeprftv2_plugin.checkpoints import read_weights
from deeprftv2_plugin.cli.check import findings
from deeprftv2_plugin.config import basicsr_schema, reading, schema
from deeprftv2_plugin.config.kinds import Option, Range, plain
from deeprftv2_plugin.config.signatures import arguments
from deeprftv2_plugin.preflight.findings import Mark
from deeprftv2_plugin.preflight.report import quiet
from deeprftv2_plugin.utils.errors import UserError
from tests.cli.runs import options, test_options, write, write_images

from . import check, trials

ANY = [
    *(None, True, False, 0, 1, -1, 2, 16, 10**6, 10**18, 10**30, -(10**30)),
    *(0.0, 0.5, 1.0, 1.5, -0.5, 1e-300, 1e300, math.inf, -math.inf, math.nan),
    *('', 'x', '1', 'none', '../x', 'a/b', '\0', 'x' * 300, 'ä'),
    *([], [0], [1, 2], [-1, 2], [1, 'x'], ['x'], [[1, 2]], [None], {}, {'x': 1}, {'type': 'x'}, [{}], [{'type': 'x'}]),
]
"""Values of all kinds, for every option."""
SMALL = ('DeepRFTv2', 'SRVGGNetCompact', 'MSRResNet', 'EDSR', 'FourierKernelEstimator')
"""Networks that are small with few channels; others have the same kinds of arguments."""
FEW = {'num_feat': 4, 'num_conv': 1, 'num_block': 1, 'upscale': 1, 'img_range': 255, 'width': 8, 'kernel_width': 8}
"""Arguments that make them small."""
NEEDED = {
    'milestones': [1],
    'periods': [9],
    'step_size': 2,
    'gamma': 0.9,
    'T_0': 2,
    'max_lr': 0.01,
    'base_lr': 0.001,
    'total_steps': 9,
    'schedulers': [{'type': 'StepLR', 'step_size': 1}],
    'layer_weights': {'conv1_1': 1.0},
    'losses': [{'type': 'L1Loss'}],
    'gan_type': 'vanilla',
    'crop_border': 0,
    'name': 'psnr',
    'lr': 1e-3,
    'parts': [],
    'lr_lambda': 'x',
    'path': 'kernels',
}
"""Values of required arguments."""


class Mutant(NamedTuple):
    """The option file of a small run with one changed value."""

    base: str
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return f'{self.base} {" ".join(self.overrides)}'


def base_options() -> dict[str, dict]:
    """Return the options of small runs by name: training and test, with BasicSR's and this package's model."""
    train, test = options(), test_options()
    for opt in (train, test):
        opt['num_gpu'] = 0
    sections = {'path': {}, 'dist_params': {'backend': 'gloo'}}
    own_train = {
        **train,
        **sections,
        'model_type': 'DeepRFTv2Model',
        'datasets': {
            'train': {
                'name': 'pairs',
                'type': 'PairedDeblurDataset',
                'dataroot_lq': 'lq',
                'dataroot_gt': 'gt',
                'gt_size': 16,
                'batch_size_per_gpu': 1,
                'num_worker_per_gpu': 0,
            },
            'val': {'name': 'whole', 'type': 'PairedDeblurDataset', 'dataroot_lq': 'lq', 'dataroot_gt': 'gt'},
        },
        'train': {
            'total_iter': 4,
            'optim_g': {'type': 'AdamW', 'lr': 1e-3},
            'scheduler': {'type': 'CosineAnnealingLR'},
            'pixel_opt': {'type': 'L1Loss'},
            'frequency_opt': {'type': 'FourierLoss', 'loss_weight': 0.01},
            'stages': [{'iterations': 2, 'gt_size': 8}, {}],
        },
        'val': {'val_freq': 2, 'save_img': False, 'metrics': {'psnr': {'type': 'psnr'}, 'mae': {'type': 'mae'}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False, 'wandb': {}},
    }
    own_train['val']['metrics']['mae']['better'] = 'lower'
    own_test = {**test, **sections, 'model_type': 'DeepRFTv2Model', 'network_g': own_train['network_g']}
    own_test['datasets'] = {'test': own_train['datasets']['val']}
    own_test['val'] = {'save_img': True, 'metrics': own_train['val']['metrics'], 'tile': 16, 'overlap': 4}
    return {'basicsr_train': train, 'basicsr_test': test, 'own_train': own_train, 'own_test': own_test}


def values_of(kind: Any) -> list[Any]:
    """Return the bounds of a kind, values just outside of them, and its choices."""
    parts = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is Literal:
        return [choice for choice in parts if isinstance(choice, str | bool | int)]
    found = []
    for part in parts:
        if isinstance(part, Range):
            for bound in (part.least, part.most, part.above, part.below):
                found += [] if bound is None else [bound, bound - 1, bound + 1, bound - 1e-9, bound + 1e-9]
        else:
            found += values_of(part)
    if origin in (tuple, list):
        found = [[value] * 2 for value in found[:6]]
    elif origin is UnionType:
        found += [value for part in map(plain, parts) for value in values_of(part)]
    return found


def override(place: str, value: Any) -> str:
    """Return `--force_yml` for a value. JSON is YAML, except for numbers that are not finite."""
    text = json.dumps(value).replace('-Infinity', '-.inf').replace('Infinity', '.inf').replace('NaN', '.nan')
    return f'{place}={text}'


def keys() -> dict[str, dict[str, Option]]:
    """Return the declared options by base and section."""
    models, datasets = schema.MODELS, schema.DATASETS
    train = {**schema.TRAIN, **models['BaseModel']['train'], **models['SRModel']['train']}
    loader = {**schema.LOADER, **schema.LOADER_TRAIN}
    paths = {key.format('g'): option for key, option in schema.PATH_OF_NETWORK.items()}
    val = {**schema.VAL, **models['SRModel']['val']}
    own_val = {**val, **models['RestorationModel']['val']}
    root = {**schema.ROOT, **models['SRModel']['root']}
    pairs, images = datasets['PairedDeblurDataset'], basicsr_schema.DATASETS['PairedImageDataset']
    every = {
        'basicsr_train ': root,
        'basicsr_train path': {**schema.PATH, **paths},
        'basicsr_train train': train,
        'basicsr_train val': val,
        'basicsr_train logger': schema.LOGGER,
        'basicsr_train datasets:train': {**images, **loader},
        'basicsr_train datasets:val': {**images, **schema.LOADER},
        'basicsr_test val': val,
        'own_train ': root,
        'own_train train': {**train, **models['DeepRFTv2Model']['train']},
        'own_train val': own_val,
        'own_train logger': schema.LOGGER,
        'own_train logger:wandb': schema.WANDB,
        'own_train dist_params': schema.DIST_PARAMS,
        'own_train datasets': {'train': root['datasets'], 'val': root['datasets'], 'val_2': root['datasets']},
        'own_train datasets:train': {**pairs, **loader},
        'own_train datasets:val': {**pairs, **schema.LOADER},
        'own_test ': root,
        'own_test path': {**schema.PATH, **paths},
        'own_test val': own_val,
        'own_test datasets:test': {**pairs, **schema.LOADER},
        'own_train val:metrics:psnr': {'better': schema.BETTER, 'type': schema.LOADER['type']},
    }
    return every


def sections() -> list[tuple[str, str, dict[str, Any], dict[str, Option]]]:
    """Return base, place, settings and options of every class that the `type` of a section can name."""
    from basicsr.utils import registry

    from deeprftv2_plugin.data.blur.kernels import SOURCES
    from deeprftv2_plugin.training.optimizers import OPTIMIZERS, SCHEDULES

    networks = {name.removesuffix('_basicsr'): cls for name, cls in registry.ARCH_REGISTRY}
    known = (
        ('train:optim_g', 'optimizer', OPTIMIZERS, ('params',)),
        ('train:scheduler', 'schedule', SCHEDULES, ('optimizer',)),
        ('train:pixel_opt', 'loss', dict(iter(registry.LOSS_REGISTRY)), ('build',)),
        ('train:frequency_opt', 'loss', dict(iter(registry.LOSS_REGISTRY)), ('build',)),
        ('val:metrics:psnr', 'metric', dict(iter(registry.METRIC_REGISTRY)), ('img', 'img2')),
        ('network_g', 'network', {name: networks[name] for name in SMALL}, ()),
    )
    found = []
    for place, purpose, classes, given in known:
        for name, cls in classes.items():
            taken = arguments(cls, given, schema.BOUNDS[purpose])
            small = FEW if purpose == 'network' else {}
            values = {**NEEDED, **small}
            settings = {
                key: values[key]
                for key, option in taken.options.items()
                if key in small or (option.required and key in values)
            }
            if name == 'DeepRFTv2':
                blocks = dict.fromkeys(
                    ('full_encoder', 'full_decoder', 'half_encoder', 'half_decoder'), [['NAF', 1]] * 3
                )
                settings |= {'variant': 'T', 'stages': 1, **blocks}
            table = {'type': schema.LOADER['type'], **taken.options}
            found.append(('own_train', place, {'type': name, **settings}, table))
    for name, table in schema.DATASETS.items():
        loading = {'name': 'x', 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1, 'gt_size': 16}
        needed = {
            'PairedDeblurDataset': {'dataroot_lq': 'lq', 'dataroot_gt': 'gt'},
            'SyntheticBlurDataset': {'dataroot_gt': 'gt'},
            'MixedDataset': {'parts': [{'type': 'SyntheticBlurDataset', 'dataroot_gt': 'gt'}]},
        }[name]
        found.append(('own_train', 'datasets:train', {**loading, 'type': name, **needed}, table))
    for name, source in SOURCES.items():
        place = 'datasets:train:blurs'
        found.append(
            ('own_train', place, {'type': name}, {**arguments(source).options, 'weight': schema.PART['weight']})
        )
    return found


SYNTHETIC = {
    **{'name': 'x', 'type': 'SyntheticBlurDataset', 'dataroot_gt': 'gt', 'gt_size': 16},
    **{'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1},
}


@cache
def mutants() -> list[Mutant]:
    """Return every option with values of every kind and at the bounds of its range."""
    found = []
    for where, table in keys().items():
        base, _, place = where.partition(' ')
        for key, option in table.items():
            for value in [*ANY, *values_of(option.kind)]:
                found.append(Mutant(base, (override(f'{place}:{key}'.lstrip(':'), value),)))
    for base, place, settings, table in sections():
        for key, option in table.items():
            for value in [*ANY, *values_of(option.kind)]:
                changed = {**settings, key: value}
                overridden = override(place, changed)
                if place.endswith('blurs'):
                    overridden = override('datasets:train', {**SYNTHETIC, 'blurs': [changed]})
                found.append(Mutant(base, (overridden,)))
    for key, option in schema.STAGE.items():
        for value in [*ANY, *values_of(option.kind)]:
            found.append(Mutant('own_train', (override('train:stages', [{'iterations': 2, key: value}, {}]),)))
    return found


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
