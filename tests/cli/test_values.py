"""Values that work, and values that are refused at the start."""

import json
from pathlib import Path

import pytest

from deeprftv2_plugin import cli
from tests.cli.runs import options, test_options, write


def run(command, opt, folder, *overrides):
    return cli.main([command, '-opt', write(folder, opt), '--force_yml', 'num_gpu=0', *overrides])


def losses(name):
    lines = map(json.loads, Path('experiments', name, 'metrics.jsonl').read_text().splitlines())
    return [line['l_pix'] for line in lines if 'l_pix' in line]


def test_prefetching_does_not_change_results(folder):
    workers = 'datasets:train:num_worker_per_gpu=1'
    assert run('train', options(), folder, 'name=plain', workers) == 0
    assert run('train', options(), folder, 'name=ahead', workers, 'datasets:train:prefetch_mode=cpu') == 0
    assert losses('plain') == losses('ahead') and len(losses('plain')) == 4


FAULTS = {
    'a gray network': (['network_g:num_in_ch=1', 'network_g:num_out_ch=1'], 'expected input[1, 3'),
    'no images': (['datasets:{}:dataroot_lq=empty', 'datasets:{}:dataroot_gt=empty'], 'it is empty'),
    'a wrong template': (['datasets:{}:filename_tmpl="{{}}x"'], 'is not in lq_paths'),
    'a border as large as the image': (['val:metrics:psnr:crop_border=12'], 'val.metrics.psnr'),
}


@pytest.mark.parametrize(('overrides', 'words'), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize('command', ['train', 'test'])
def test_run_does_not_start(folder, capsys, command, overrides, words):
    (folder / 'empty').mkdir()
    before = sorted(folder.iterdir())
    opt = options() if command == 'train' else test_options()
    phase = 'train' if command == 'train' else 'test'
    assert run(command, opt, folder, *(each.format(phase) for each in overrides)) == 1
    assert words in capsys.readouterr().err
    assert sorted(folder.iterdir()) == sorted([*before, folder / 'small.yml'])


def test_folders_and_names_may_be_numbers(folder):
    for part in ('lq', 'gt'):
        (folder / part).rename(folder / {'lq': '2024', 'gt': '007'}[part])
    opt = options()
    roots = [f'datasets:{phase}:{key}' for phase in ('train', 'val') for key in ('dataroot_lq=2024', 'dataroot_gt=007')]
    assert run('train', opt, folder, 'name=2024_01', 'train:total_iter=1', *roots) == 0
    assert Path('experiments/2024_01/models/net_g_latest.pth').is_file()


def test_several_validation_sets_cause_no_warning(folder):
    opt = options()
    opt['datasets']['val_2'] = {**opt['datasets']['val'], 'name': 'even-more-noise'}
    assert run('train', opt, folder) == 0
    (log,) = Path('experiments/small').glob('*.log')
    assert log.read_text().count('Validation even-more-noise') and 'Multiple validation' not in log.read_text()
