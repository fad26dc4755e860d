"""`basicsr compare`."""

import json

import cv2
import numpy as np
import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import write_checkpoint

STUDY = """
model_type: DeepRFTv2Model
scale: 1
num_gpu: 0
datasets:
  train:
    {name: pairs, type: PairedDeblurDataset, dataroot: pairs, split: all, gt_size: 16, num_worker_per_gpu: 0,
     batch_size_per_gpu: 1}
  val: {name: pairs, type: PairedDeblurDataset, dataroot: pairs}
path: {}
train:
  total_iter: 9
  optim_g: {type: AdamW, lr: 1e-3}
  pixel_opt: {type: L1Loss}
val: {val_freq: 100, save_img: false, pbar: false, metrics: {psnr: {type: psnr}}}
logger: {print_freq: 1, save_checkpoint_freq: 100, use_tb_logger: false}
candidates: {small: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 1}}
seeds: [1, 2]
budget: {iterations: 2}
"""


def write_pairs(folder):
    for name, value in (('blur', 90), ('sharp', 100)):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / 'gray.png'), np.full((24, 32, 3), value, np.uint8))


def test_networks_are_measured_and_scored(tmp_path, capsys):
    pytest.importorskip('matplotlib')
    write_pairs(tmp_path / 'pairs')
    weights, output = tmp_path / 'net.pth', tmp_path / 'out'
    net = DeepRFTv2('T', width=8, kernel_width=8)
    write_checkpoint({'params': net.state_dict()}, weights)
    arguments = ['compare', str(weights), 'EDSR:depth=2', '--size', '16', '--data', str(tmp_path / 'pairs')]
    assert cli.main([*arguments, '--metrics', 'psnr', 'mae', '-o', str(output), '--html']) == 1
    shown = capsys.readouterr()
    assert 'error: 1 of 2 networks failed: EDSR:depth=2' in shown.err
    assert 'EDSR does not accept the settings' in shown.out
    first, second = json.loads((output / 'compare.json').read_text())['networks']
    assert first['parameters'] == sum(each.numel() for each in net.parameters())
    assert first['multiply_adds'] > 0 and first['fourier_multiply_adds'] > 0 and first['scan_multiply_adds'] > 0
    assert first['fits_budget'] and first['size'] == [16, 16] and not first['failed']
    assert first['evaluation_seconds'] > 0 and first['training_seconds'] > 0
    # the blocks of a new network add nothing, its heads little
    assert set(first['metrics']) == {'psnr', 'mae'} and 10 < first['metrics']['psnr'] < 60
    assert f'results/{first["test"]}/pairs_files/' in (output / 'compare.html').read_text('utf-8')
    assert second['failed'] and 'parameters' not in second
    assert {path.name for path in output.glob('*.png')} == {'psnr_time.png', 'psnr_multiply_adds.png'}


def test_networks_are_trained(tmp_path, monkeypatch, capsys):
    """Train a network with two seeds, here in this process."""
    pytest.importorskip('matplotlib')
    from deeprftv2_plugin.comparison import figures, study, training

    for module in (figures, study, training):
        monkeypatch.setattr(module, 'in_new_process', lambda run, *args, output: run(*args) or {})
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'pairs')
    (tmp_path / 'study.yml').write_text(STUDY)
    arguments = ['compare', '--train', 'study.yml', '--size', '16', '-o', 'out', '--html']
    assert cli.main(arguments) == 0
    assert 'training 2 of 2: small, seed 2: psnr ' in capsys.readouterr().out
    (row,) = json.loads((tmp_path / 'out/compare.json').read_text())['networks']
    assert row['runs'] == 2 and row['iterations'] == 2 and row['spread']['psnr'] >= 0
    assert '| ± psnr |' in (tmp_path / 'out/compare.md').read_text('utf-8')
    assert 'results/small_seed1_test/pairs_files/' in (tmp_path / 'out/compare.html').read_text('utf-8')
    (tmp_path / 'study.yml').write_text(STUDY.replace('lr: 1e-3', 'lr: 2e-3'))
    assert cli.main(arguments) == 1
    assert 'is from an earlier run with other options' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['T', '--size', '0'], '--size is 0'),
        (['T', '--metrics', 'psnr'], '--metrics needs --data'),
        (['T', '--data', 'anywhere'], 'all networks have random weights'),
        (['nothing'], 'there is no network'),
        (['T', '--html', '-o', 'out'], '--html needs -o'),
        ([], 'name at least one network'),
        (['T', '--train', 'options/compare_quickstart.yml'], '--train takes networks'),
        (['--train', 'options/compare_quickstart.yml'], '--train needs -o'),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    assert cli.main(['compare', *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['pairs', '--metrics', 'psnrr'], "error: --metrics: val.metrics.psnrr.type is 'psnrr', which is unknown. Did"),
        (['missing'], 'error: --data missing: missing (test): '),
        (['empty'], 'error: --data empty: empty (test): '),
        (['list.yml'], 'error: --data list.yml: datasets is [1], expected a section'),
        (['train.yml'], 'error: --data train.yml: datasets is empty'),
        (['none.yml'], 'error: --data none.yml: datasets is empty'),
        (['numbers.yml', '--metrics', 'psnr', 'psnrr'], 'error: --metrics: val.metrics.psnrr.type'),
        (['type.yml'], "error: --data type.yml: datasets.val.type is 'Pairs', which is unknown"),
    ],
)
def test_images_and_metrics_are_checked_before_networks_are_measured(
    arguments, message, weights, tmp_path, monkeypatch, capsys
):
    from deeprftv2_plugin.comparison import figures

    monkeypatch.setattr(figures, 'in_new_process', None)
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'pairs')
    (tmp_path / 'empty').mkdir()
    for name, datasets in (
        ('list', '[1]'),
        ('train', '{train: {name: a}}'),
        ('none', '~'),
        ('numbers', '{val: {name: 2024_01, type: PairedDeblurDataset, dataroot: pairs}}'),
        ('type', '{val: {name: a, type: Pairs, dataroot: pairs}}'),
    ):
        (tmp_path / f'{name}.yml').write_text(f'scale: 1\ndatasets: {datasets}\n')
    assert cli.main(['compare', weights, '--data', *arguments]) == 1
    assert message in capsys.readouterr().err
