"""Train BasicSR's architectures with the recipe of DeepRFTv2 from the command line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from deeprftv2_plugin import cli

from .toys import RRDBNET, SWINIR, options


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a few blurry and sharp images."""
    random = np.random.default_rng(0)
    for part in ('blur', 'sharp'):
        (tmp_path / part).mkdir()
    for number in range(3):
        sharp = random.integers(0, 256, (32, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'sharp' / f'{number}.png'), sharp)
        cv2.imwrite(str(tmp_path / 'blur' / f'{number}.png'), cv2.blur(sharp, (3, 1)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def option_file(network):
    opt = options(network, frequency_opt={'type': 'FourierLoss', 'loss_weight': 0.01}, clip_grad_norm=0.1,
                  ema_decay=0.9, optim_g={'type': 'AdamW', 'lr': 1e-3}, warmup_iter=2, total_iter=4,
                  scheduler={'type': 'CosineAnnealingLR', 'T_max': 4, 'eta_min': 1e-7})  # fmt: skip
    for key in ('dist', 'rank', 'world_size', 'is_train'):
        del opt[key]
    opt['path'] = {}
    images = {'type': 'PairedDeblurDataset', 'dataroot_lq': 'blur', 'dataroot_gt': 'sharp'}
    batches = {'gt_size': 16, 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 3}
    opt['datasets'] = {
        'train': {'name': 'train', **images, **batches},
        'val': {'name': 'held-out', **images},
    }
    opt['val'].update(val_freq=4, save_img=True, tile=16, overlap=4)
    opt['logger'] = {'print_freq': 1, 'save_checkpoint_freq': 4, 'use_tb_logger': True}
    return opt


@pytest.mark.parametrize('network', [SWINIR, RRDBNET], ids=lambda network: network['type'])
def test_basicsr_networks_train_and_validate(folder, network):
    opt = option_file(network)
    (folder / 'options.yml').write_text(yaml.safe_dump(opt))
    assert cli.main(['train', '-opt', 'options.yml']) == 0
    experiment = folder / 'experiments' / opt['name']
    log = next(experiment.glob('*.log')).read_text()
    assert 'l_pix:' in log and 'l_frequency:' in log and 'grad_norm:' in log
    assert 'Validation held-out' in log and '# psnr:' in log
    assert len(list(experiment.glob('visualization/held-out/*/*_4.png'))) == 3
    saved = torch.load(experiment / 'models' / 'net_g_4.pth', weights_only=True)
    assert set(saved) == {'params', 'params_ema'}
    if network is RRDBNET:
        check_test_uses_the_average(opt, experiment)


def check_test_uses_the_average(opt, experiment):
    """A test of the last weights has the same result as the last validation, and names the set of weights."""
    lines = [json.loads(line) for line in (experiment / 'metrics.jsonl').read_text().splitlines()]
    expected = next(line['psnr'] for line in lines if line.get('dataset') == 'held-out' and line['iter'] == 4)
    opt['datasets'] = {'test': opt['datasets']['val']}
    opt['path'] = {'pretrain_network_g': str(experiment / 'models/net_g_latest.pth')}
    del opt['train'], opt['logger'], opt['val']['val_freq']
    Path('test.yml').write_text(yaml.safe_dump(opt))
    found = {}
    for suffix in ('pth', 'safetensors'):
        weights = f'path:pretrain_network_g={experiment}/models/net_g_latest.{suffix}'
        assert cli.main(['test', '-opt', 'test.yml', '--force_yml', weights]) == 0
        found[suffix] = json.loads(Path('results', opt['name'], 'held-out.json').read_text())
        assert found[suffix]['overall']['psnr'] == expected
        assert found[suffix]['set of weights'] == 'params_ema, the moving average'
    assert cli.main(['test', '-opt', 'test.yml', '--force_yml', 'path:param_key_g=params']) == 0
    raw = json.loads(Path('results', opt['name'], 'held-out.json').read_text())
    assert raw['overall']['psnr'] != expected and raw['set of weights'] == 'params'
