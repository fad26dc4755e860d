"""Run the option files on folders with the layout of the dataset archives, and check errors for invalid input."""

import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from deeprftv2_plugin import cli, config
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import to_official_state_dict
from tests.checkpoints.samples import Harmful
from tests.data.archives import unpack

OPTIONS = Path(__file__).parents[1] / 'options'
ONE_STAGE = ('train:stages=~', 'train:accumulation=1', 'train:total_iter=2')
SMALL = (
    'network_g:variant=T',
    *ONE_STAGE,
    'datasets:train:gt_size=16',
    'datasets:train:batch_size_per_gpu=2',
    'datasets:train:num_worker_per_gpu=0',
    'logger:use_tb_logger=false',
)


@pytest.fixture
def gopro(tmp_path, monkeypatch):
    """A working directory with the unpacked archive of GoPro."""
    unpack('GOPRO_Large', tmp_path / 'datasets/GoPro', (64, 72, 3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*overrides, file='train_gopro.yml', flags=()):
    return cli.main(['train', '-opt', str(OPTIONS / file), *flags, '--force_yml', *overrides])


def log_of(folder):
    return next(folder.glob('*.log')).read_text()


def test_gopro_recipe_trains_the_full_network(gopro):
    """Train the network of 30.1 M parameters on small crops for two iterations, and validate with tiles."""
    overrides = (
        *ONE_STAGE,
        'datasets:train:gt_size=64',
        'datasets:train:batch_size_per_gpu=1',
        'datasets:train:num_worker_per_gpu=1',
        'val:tile=64',
        'val:overlap=16',
    )
    assert train(*overrides, flags=['--debug']) == 0
    experiment = gopro / 'experiments/debug_train_gopro'
    log = log_of(experiment)
    assert 'with parameters: 30,1' in log
    for term in ('l_pix_full', 'l_pix_half', 'l_frequency_full', 'l_frequency_half', 'grad_norm'):
        assert f'{term}: ' in log
    assert 'iter:       1, lr:(1.000e-03,)' in log and 'iter:       2, ' in log
    assert 'Training: 4 samples' in log and 'Validation GoPro-test' in log and '# psnr: ' in log
    weights = torch.load(experiment / 'models/net_g_latest.pth', weights_only=True)['params']
    assert weights.keys() == DeepRFTv2('B').state_dict().keys()


def test_restored_frames_are_saved_per_sequence(gopro):
    assert train(*SMALL) == 0
    overrides = ['network_g:variant=T', 'val:save_img=true', 'datasets:test:split=train']
    assert cli.main(['test', '-opt', str(OPTIONS / 'test_gopro.yml'), '--force_yml', *overrides]) == 0
    assert '# ssim: ' in log_of(gopro / 'results/test_gopro')
    assert len(list((gopro / 'results/test_gopro/visualization').rglob('*.png'))) == 4


def test_folder_without_sharp_images_is_deblurred(gopro):
    assert train(*SMALL) == 0
    shutil.copytree(gopro / 'datasets/GoPro/test/GOPR0384_11_00/blur', gopro / 'photographs')
    assert cli.main(['test', '-opt', str(OPTIONS / 'deblur_folder.yml'), '--force_yml', 'network_g:variant=T']) == 0
    restored = sorted(path.name for path in (gopro / 'results/deblur_folder').rglob('*.png'))
    assert restored == ['000047_deblurred.png', '000048_deblurred.png']


def test_another_network_with_the_same_recipe(gopro):
    network = 'network_g={type: RRDBNet, num_in_ch: 3, num_out_ch: 3, scale: 1}'  # as in the README
    assert train(*SMALL[1:], 'name=train_rrdb_gopro', network) == 0
    log = log_of(gopro / 'experiments/train_rrdb_gopro')
    assert 'Network RRDBNet: ' in log and '# psnr: ' in log


@pytest.mark.parametrize('file', sorted(path.name for path in OPTIONS.glob('*.yml')))
def test_every_option_file_resolves(file):
    opt = config.load(str(OPTIONS / file))
    assert opt['name'] == file.removesuffix('.yml')
    if file.startswith('train'):
        assert opt['train']['scheduler']['T_max'] == opt['train']['total_iter']
        assert isinstance(opt['train']['optim_g']['lr'], float)


@pytest.mark.parametrize('file', sorted(path.name for path in OPTIONS.glob('t*_*.yml')))
def test_error_about_a_missing_dataset_fits_on_a_screen(tmp_path, monkeypatch, capsys, file):
    shutil.copytree(OPTIONS, tmp_path / 'options')
    monkeypatch.chdir(tmp_path)
    assert cli.main([file.split('_')[0], '-opt', f'options/{file}']) == 1
    screen = capsys.readouterr().err
    lines = screen.splitlines()
    rows = sum(math.ceil(len(line) / 120) for line in lines)  # on a screen of 120 columns
    assert 'Missing:' in screen and rows <= 24 and max(len(line) for line in lines if line.startswith(' ')) <= 120
    assert screen.count('  where  ') == 1
    assert ('GOPRO_Large' in screen) == ('gopro' in file)
    assert [path.name for path in tmp_path.iterdir()] == ['options']


def truncated(gopro):
    path = next(gopro.glob('datasets/GoPro/train/*/blur/000047.png'))
    path.write_bytes(path.read_bytes()[:3000])
    return str(path.relative_to(gopro))


def resized(gopro):
    path = next(gopro.glob('datasets/GoPro/train/*/sharp/000047.png'))
    cv2.imwrite(str(path), np.zeros((64, 80, 3), np.uint8))
    return '80x64'


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('damage', [truncated, resized])
def test_error_about_a_damaged_pair_names_the_file(gopro, capsys, damage, workers):
    named = damage(gopro)
    assert (
        train(
            *SMALL,
            'datasets:train:max_damaged=0',
            f'datasets:train:num_worker_per_gpu={workers}',
            'datasets:train:dataset_enlarge_ratio=50',
            'train:total_iter=50',
        )
        == 1
    )
    message = capsys.readouterr().err.rpartition('error: ')[2]
    assert named in message and '000047.png' in message
    assert 'Traceback' not in message


def checkpoint_of_another_network(folder):
    torch.save({'params': DeepRFTv2('T', width=8).state_dict()}, folder / 'weights.pth')
    return 'path:pretrain_network_g=weights.pth', 'do not match this DeepRFTv2'


@pytest.mark.parametrize('model', ['SRModel', 'DeepRFTv2Model'])
def test_every_model_loads_the_authors_weights(gopro, model):
    weights = DeepRFTv2('T').state_dict()
    torch.save({'params': to_official_state_dict(weights)}, gopro / 'theirs.pth')
    overrides = ['network_g:variant=T', 'path:pretrain_network_g=theirs.pth', f'model_type={model}']
    overrides += [] if model == 'DeepRFTv2Model' else ['val={save_img: false}']
    assert cli.main(['test', '-opt', str(OPTIONS / 'test_gopro.yml'), '--force_yml', *overrides]) == 0
    assert 'DeepRFTv2 loaded from theirs.pth' in log_of(gopro / 'results/test_gopro')


def unsafe_pickle(folder):
    torch.save({'params': Harmful()}, folder / 'weights.pth')
    return 'path:pretrain_network_g=weights.pth', 'refused'


def misspelled_key(folder):
    return 'train:clip_grad_nrom=1', 'Did you mean clip_grad_norm?'


def misspelled_network_key(folder):
    return 'network_g:varient=B', 'Did you mean variant?'


def misspelled_path_key(folder):
    return 'path:pretrained_network_g=x.pth', 'Did you mean pretrain_network_g?'


def misspelled_block(folder):
    return 'network_g:full_encoder=[[NAFScam, 1], [NAF, 1], [NAF, 1]]', 'Did you mean NAFScan?'


@pytest.mark.parametrize(
    'wrong',
    [
        checkpoint_of_another_network,
        unsafe_pickle,
        misspelled_key,
        misspelled_network_key,
        misspelled_path_key,
        misspelled_block,
    ],
)
def test_invalid_options_are_errors_before_a_folder_is_created(gopro, capsys, wrong):
    override, sentence = wrong(gopro)
    assert train(*SMALL, override) == 1
    message = capsys.readouterr().err
    assert 'error: ' in message and sentence in message
    assert not (gopro / 'experiments').exists() and not (gopro / 'harm').exists()


@pytest.mark.parametrize('text', ['a: [1, 2', 'just words', '\x00\x01', 'a: 1\na: 2'])
def test_invalid_option_files_are_errors(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'wrong.yml').write_text(text)
    assert cli.main(['train', '-opt', 'wrong.yml']) == 1
    assert 'error: wrong.yml' in capsys.readouterr().err


def test_convert_command_works_in_both_directions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': DeepRFTv2('T', width=8).state_dict()}, 'ours.pth')
    assert cli.main(['convert', 'ours.pth', 'theirs.pth']) == 0
    assert "the authors' names" in capsys.readouterr().out
    assert cli.main(['convert', 'theirs.pth', 'back.safetensors']) == 0
    assert cli.main(['convert', 'theirs.pth', 'back.safetensors']) == 1
    assert 'already exists' in capsys.readouterr().err


def test_option_files_in_the_readme_exist():
    readme = (OPTIONS.parent / 'README.md').read_text()
    words = {word.strip('`.,') for word in readme.split() if word.startswith('options/')}
    assert words and all((OPTIONS.parent / word).is_file() for word in words)
    assert yaml.safe_load((OPTIONS / 'train_gopro.yml').read_text())['network_g']['variant'] == 'B'
