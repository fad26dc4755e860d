"""The recipes have the authors' settings and run on data with the layout of the dataset archives."""

import json
from inspect import signature
from pathlib import Path

import pytest

import deeprftv2_plugin
from deeprftv2_plugin import cli, config
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.archs.variants import VARIANTS
from deeprftv2_plugin.checkpoints import from_official_options
from tests.data.archives import unpack

OPTIONS = Path(__file__).parents[1] / 'options'
AUTHORS = json.loads((Path(__file__).parent / 'golden/authors_options.json').read_text())
# First and last iteration, crop size, batch size per GPU
SCHEDULES = {
    'gopro': [(1, 450000, 256, 2), (450001, 600000, 512, 1)],
    'reds': [(1, 600000, 512, 1)],
    'realblur_j': [(1, 50000, 512, 2), (50001, 150000, [776, 680], 1)],
    'realblur_r': [(1, 50000, 512, 2), (50001, 150000, [776, 680], 1)],
    'dpdd': [(1, 150000, 640, 1)],
}
# The authors' options, and differences that their documentation describes
NETWORKS = {
    'train_gopro': ('gopro_train', {}),
    'test_gopro': ('gopro_test', {}),
    'test_hide': ('gopro_test', {}),
    'train_reds': ('reds_train', {}),
    'test_reds': ('reds_train', {}),
    'train_realblur_j': ('realblur_train', {'reversible': {'kernels': [False, False]}}),
    'train_realblur_r': ('realblur_train', {}),
    'test_realblur_j': ('realblur_train', {'kernel_overlap': [128, 128]}),
    'test_realblur_r': ('realblur_train', {'kernel_overlap': [128, 128]}),
    'train_dpdd': ('defocus', {}),
    'test_dpdd': ('defocus', {}),
}
ARCHIVES = {
    'gopro': ('GOPRO_Large', 'GoPro'),
    'hide': ('HIDE_dataset', 'HIDE'),
    'reds': ('REDS', 'REDS'),
    'realblur_j': ('RealBlur', 'RealBlur'),
    'realblur_r': ('RealBlur', 'RealBlur'),
    'dpdd': ('dd_dp_dataset_canon', 'DPDD'),
}


def load(name):
    return config.load(str(OPTIONS / f'{name}.yml'))


def resolved(network):
    """Return all arguments of DeepRFTv2 in a normalized form, for comparison."""
    values = {name: parameter.default for name, parameter in signature(DeepRFTv2).parameters.items()}
    values |= VARIANTS[network.get('variant', 'B')] | network
    stages, reversible = values['stages'], values['reversible']
    if not isinstance(reversible, dict):
        reversible = dict.fromkeys(('encoders', 'decoders', 'kernels'), reversible)
    for key in ('encoders', 'decoders', 'kernels'):
        value = reversible.get(key, True)
        values[f'reversible {key}'] = value if isinstance(value, list) else [value] * stages
    for key in ('width', 'kernel_width', 'kernel_overlap'):
        values[key] = values[key] if isinstance(values[key], list) else [values[key]] * 2
    return {key: json.dumps(value) for key, value in values.items() if key not in ('type', 'variant', 'reversible')}


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.filterwarnings('ignore:network settings without effect')
def test_networks_and_tiles_match_the_authors(name):
    source, changes = NETWORKS[name]
    theirs = from_official_options(AUTHORS[source])
    network = theirs['network'] | changes
    network['reversible'] = theirs['network']['reversible'] | changes.get('reversible', {})
    ours = load(name)
    found, expected = resolved(ours['network_g']), resolved(network)
    if name.startswith('test'):  # has no effect without training
        found, expected = ({k: v for k, v in each.items() if 'reversible' not in k} for each in (found, expected))
    assert found == expected
    tile = theirs['restore']['tile']
    assert ours['val'].get('tile') == (tile and tile[0])
    assert ours['val'].get('overlap') == theirs['restore'].get('overlap', [None])[0]
    assert ours['val'].get('pad') == ([776, 680] if 'realblur' in name else None)
    assert not ours['val']['ensemble']


@pytest.mark.parametrize('name', SCHEDULES)
def test_schedules_and_optimizers_match_the_authors(name):
    deeprftv2_plugin.register()
    from deeprftv2_plugin.training.stages import accumulation_of, stages_of  # imports BasicSR, which register() patches

    opt = load(f'train_{name}')
    train, data = opt['train'], opt['datasets']['train']
    stages = stages_of(opt)
    assert [tuple(stage) for stage in stages] == SCHEDULES[name]
    assert (accumulation_of(opt, 8), accumulation_of(opt, 1)) == (1, 8)
    assert train['total_iter'] == stages[-1].last == train['scheduler']['T_max']
    assert train['optim_g'] == {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 1e-3, 'betas': [0.9, 0.9]}
    assert train['scheduler'] == {'type': 'CosineAnnealingLR', 'eta_min': 1e-7, 'T_max': train['total_iter']}
    assert (train['clip_grad_norm'], train['warmup_iter'], train['ema_decay']) == (0.01, -1, 0)
    assert train['pixel_opt'] == {'type': 'L1Loss', 'loss_weight': 1.0}
    assert train['frequency_opt'] == {'type': 'FourierLoss', 'loss_weight': 0.01}
    assert not any(train.get(key) for key in ('bf16', 'compile'))
    assert data['use_flip'] and data['use_rot']
    assert (opt['manual_seed'], opt['val']['val_freq'], opt['logger']['save_checkpoint_freq']) == (100, 5000, 10000)


def small(name):
    """Return overrides for a small network and small images on a CPU."""
    network = load(f'test_{name}')['network_g']
    overrides = ['network_g:variant=T']
    for part in [key for key in network if key.endswith('coder')]:
        overrides.append(f'network_g:{part}={json.dumps([[block, 1] for block, _ in network[part]])}')
    return overrides + (['val:pad=[48, 40]'] if 'realblur' in name else [])


def small_training(name):
    stages = '[{iterations: 1, gt_size: 16, batch_size_per_gpu: 2}, {gt_size: [24, 16], batch_size_per_gpu: 1}]'
    return [
        *small(name),
        f'train:stages={stages}' if len(SCHEDULES[name]) > 1 else 'datasets:train:gt_size=16',
        'train:accumulation=1',
        'train:total_iter=2',
        'datasets:train:num_worker_per_gpu=0',
        'logger:use_tb_logger=false',
        'logger:print_freq=1',
    ]


def lay_out(folder, name):
    archive, place = ARCHIVES[name]
    unpack(archive, folder / 'datasets' / place, (40, 32, 3))


def run(kind, name, overrides):
    assert cli.main([kind, '-opt', str(OPTIONS / f'{kind}_{name}.yml'), '--force_yml', *overrides]) == 0


@pytest.mark.parametrize('name', SCHEDULES)
def test_recipe_trains_and_tests_on_its_archive(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for each in (name, *(['hide'] if name == 'gopro' else [])):
        lay_out(tmp_path, each)
    run('train', name, small_training(name))
    log = next((tmp_path / f'experiments/train_{name}').glob('*.log')).read_text()
    assert 'iter:       2, ' in log and '# psnr: ' in log
    assert ('crops of 24x16 pixels' in log) == (len(SCHEDULES[name]) > 1)
    for tested in (name, *(['hide'] if name == 'gopro' else [])):
        run('test', tested, [*small(tested), 'val:save_img=true'])
        results = tmp_path / f'results/test_{tested}'
        assert '# ssim: ' in next(results.glob('*.log')).read_text()
        assert len(list((results / 'visualization').rglob('*.png'))) == 2
