"""Mutants: options with one value of any kind, for every option of the schema."""

import json
import math
import typing
from functools import cache
from types import UnionType
from typing import Any, Literal, NamedTuple

from deeprftv2_plugin.config import basicsr_schema, schema
from deeprftv2_plugin.config.kinds import Option, Range, plain
from deeprftv2_plugin.config.signatures import arguments
from tests.cli.runs import options, test_options

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
