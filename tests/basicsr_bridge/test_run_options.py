"""The options of a run equal those that BasicSR's own parser returns for the same file."""

import copy
import random
import sys

import pytest
import torch

from deeprftv2_plugin.basicsr_bridge import patches, run_options
from deeprftv2_plugin.config import reading

TRAIN = {
    'name': 'small',
    'scale': 2,
    'num_gpu': 0,
    'manual_seed': 7,
    'datasets': {
        'train': {'name': 'a', 'dataroot_gt': '~/sharp', 'dataroot_lq': None},
        'val_2': {'name': 'b', 'dataroot_lq': 'blurry'},
    },
    'path': {'pretrain_network_g': '~/weights.pth', 'resume_state': None, 'strict_load_g': True},
    'train': {'total_iter': 9},
    'val': {'val_freq': 100, 'save_img': False},
    'logger': {'print_freq': 100, 'save_checkpoint_freq': 500, 'use_tb_logger': False},
}


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Parse options and flags with BasicSR's parser."""
    patches.apply()
    from basicsr.utils.options import parse_options

    def parse(options, is_train, *flags):
        file = tmp_path / 'options.yml'
        file.write_text(reading.dump(options))
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(file), *flags])
        return parse_options('root', is_train)[0]

    return parse


@pytest.mark.parametrize('is_train', [True, False])
@pytest.mark.parametrize('flags', [(), ('--auto_resume',), ('--debug',)])
@pytest.mark.parametrize('changes', [{}, {'num_gpu': 'auto'}, {'name': 'debug_small'}, {'scale': 1}])
def test_the_options_are_those_of_basicsrs_parser(parse, is_train, flags, changes):
    options = {**copy.deepcopy(TRAIN), **changes}
    before = copy.deepcopy(options)
    settings = {flag.removeprefix('--'): True for flag in flags}
    ours = run_options.complete(options, 'root', is_train, **settings)
    drawn = random.random(), torch.rand(()).item()
    theirs = parse(options, is_train, *flags)
    assert ours == theirs
    assert drawn == (random.random(), torch.rand(()).item())
    assert options == before


@pytest.mark.parametrize('chosen', [{}, {'param_key_d': 'params'}])
def test_the_average_is_read_unless_the_options_choose(chosen):
    """BasicSR's models read params if the option is absent."""
    networks = {'network_g': {'type': 'SwinIR'}, 'network_d': {'type': 'VGGStyleDiscriminator'}}
    options = {**copy.deepcopy(TRAIN), **networks}
    options['path'].update(chosen)
    paths = run_options.complete(options, 'root', True)['path']
    assert {key: paths[key] for key in ('param_key_g', 'param_key_d')} == {
        'param_key_g': None, 'param_key_d': chosen.get('param_key_d')
    }  # fmt: skip


def test_a_seed_is_drawn_if_the_file_has_none():
    options = {**copy.deepcopy(TRAIN), 'manual_seed': None}
    assert 1 <= run_options.complete(options, 'root', True)['manual_seed'] <= 10000
    del options['manual_seed']
    assert 1 <= run_options.complete(options, 'root', True)['manual_seed'] <= 10000


def test_a_launcher_starts_the_processes(monkeypatch):
    asked = []
    monkeypatch.setattr(run_options, 'init_dist', lambda launcher, **settings: asked.append((launcher, settings)))
    options = {**copy.deepcopy(TRAIN), 'dist_params': {'backend': 'gloo', 'port': 29501}}
    assert run_options.complete(options, 'root', True, launcher='slurm')['dist']
    assert asked == [('slurm', {'use_gpu': False, 'backend': 'gloo', 'port': 29501})]
