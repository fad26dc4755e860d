"""Folders of runs: names, earlier runs, runs in use, and branches of a training."""

import json
import os

import pytest
import torch

from deeprftv2_plugin import cli
from tests.cli.runs import options, test_options, write


def run(*argv):
    return cli.main(list(argv))


def states(experiment):
    return sorted(path.name for path in experiment.glob('training_states/*.state'))


def content(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob('*')}


HOSTILE = ('', '.', '..', '../lq', 'a/b', 'a\\b', 'a\0b', 'a\nb', 'x' * 101)


@pytest.mark.parametrize('name', [*HOSTILE, None], ids=repr)
@pytest.mark.parametrize('place', ['name', 'suffix', 'test', 'train', 'val'])
def test_names_that_cannot_be_part_of_a_path_are_refused(folder, capsys, name, place):
    """Every command refuses them and does not change the folders that they point to."""
    opts = {'train': options(), 'test': test_options()}
    for opt in opts.values():
        hostile = str(folder / 'gt') if name is None else name
        section = opt if place == 'name' else opt['val'] if place == 'suffix' else opt['datasets'].get(place)
        if section is not None:
            section[{'name': 'name', 'suffix': 'suffix'}.get(place, 'name')] = hostile
    files = {command: write(folder, opt, f'{command}.yml') for command, opt in opts.items()}
    before = content(folder)
    commands = [('train', 'train'), ('check', 'train'), ('test', 'test'), ('check', 'test')]
    for command, kind in commands:
        if place in ('train', 'val') and kind == 'test' or place == 'test' and kind == 'train':
            continue
        for flag in ((), ('--debug',)) if command != 'check' else ((),):
            assert run(command, '-opt', files[kind], *flag) == 1
            captured = capsys.readouterr()
            assert 'expected text that can name a folder' in captured.out + captured.err
            assert 'Traceback' not in captured.err
    assert content(folder) == before


@pytest.mark.parametrize('name', ['small net', '001', 'Größe', '.hidden', 'a..b', 'x' * 100])
def test_valid_names_are_used_unchanged(folder, name):
    opt = options()
    opt['name'] = opt['datasets']['val']['name'] = name
    assert run('train', '-opt', write(folder, opt), '--debug', '--force_yml', 'train:total_iter=1') == 0
    assert os.listdir(folder / 'experiments') == [f'debug_{name}']


def test_two_datasets_of_one_name_are_refused(folder, capsys):
    opt = options()
    opt['datasets']['val_2'] = opt['datasets']['val']
    file = write(folder, opt)
    for command in ('train', 'check'):
        assert run(command, '-opt', file) == 1
        captured = capsys.readouterr()
        assert 'datasets.val_2.name is more-noise, as in datasets.val' in captured.out + captured.err


@pytest.mark.parametrize('command', ['train', 'test'])
def test_results_of_two_datasets_do_not_mix(folder, command):
    """The images of both datasets have the same names."""
    opt = options() if command == 'train' else test_options()
    opt['model_type'] = 'DeepRFTv2Model'
    phase = 'val' if command == 'train' else 'test'
    opt['datasets'][f'{phase}_2'] = {**opt['datasets'][phase], 'name': 'second'}
    opt['val']['save_img'] = True
    assert run(command, '-opt', write(folder, opt)) == 0
    root = folder / ('experiments' if command == 'train' else 'results') / 'small'
    for name in ('more-noise', 'second'):
        assert len(list((root / 'visualization' / name).rglob('*.png'))) == 4
        assert command == 'train' or (root / f'{name}.csv').is_file()


def test_every_force_yml_counts(folder):
    argv = ['train', '-opt', write(folder, options()), '--force_yml', 'name=other', 'train:total_iter=3']
    assert run(*argv, '--force_yml', 'train:total_iter=2', '--force_yml', 'logger:save_checkpoint_freq=1') == 0
    assert states(folder / 'experiments/other') == ['1.state', '2.state']


def test_every_force_yml_counts_in_a_check(folder, capsys):
    argv = ['check', '-opt', write(folder, options()), '--force_yml', 'train:total_iters=9', '--force_yml', 'scale=1']
    assert run(*argv) == 1
    assert 'train.total_iters is unknown' in capsys.readouterr().out


def damage(folder):
    (folder / 'lq/2.png').write_bytes(b'')  # the preflight loads the first image only


def remove_partner(folder):
    (folder / 'gt/2.png').unlink()


@pytest.mark.parametrize('fault', [damage, remove_partner, None])
def test_a_failed_start_does_not_change_the_earlier_run(folder, capsys, fault):
    opt = options()
    opt['datasets']['train']['batch_size_per_gpu'] = 4
    opt['logger']['use_tb_logger'] = True
    file = write(folder, opt)
    assert run('train', '-opt', file) == 0
    before = {name: content(folder / name) for name in ('experiments', 'tb_logger')}
    wrong = () if fault else ('--force_yml', 'train:optim_g:betas=[2, 2]', 'train:optim_g:foreach=[]')
    if fault:
        (folder / 'kept').mkdir()
        for part in ('lq', 'gt'):
            os.link(folder / part / '2.png', folder / 'kept' / part)
        kept = {part: (folder / part / '2.png').read_bytes() for part in ('lq', 'gt')}
        fault(folder)
    assert run('train', '-opt', file, *wrong) == 1
    assert 'error: ' in capsys.readouterr().err
    assert before == {name: content(folder / name) for name in before}
    if fault:
        for part, data in kept.items():
            (folder / part / '2.png').write_bytes(data)
    assert run('train', '-opt', file, '--auto_resume', '--force_yml', 'train:total_iter=6') == 0
    assert 'iter: 4.' in capsys.readouterr().err
    assert os.listdir(folder / 'experiments') == ['small']


def test_a_failed_test_does_not_change_the_earlier_results(folder):
    file = write(folder, test_options())
    assert run('test', '-opt', file) == 0
    before = content(folder / 'results')
    (folder / 'gt/2.png').unlink()
    assert run('test', '-opt', file) == 1
    assert content(folder / 'results') == before


def test_messages_before_the_log_file_exists_are_in_the_log(folder):
    """These lines are logged before the file exists."""
    assert run('train', '-opt', write(folder, options())) == 0
    log = next((folder / 'experiments/small').glob('train_small_*.log')).read_text()
    assert log.count('Network SRVGGNetCompact: ') == log.count('Model [SRModel] is created') == 1
    (folder / 'scores').mkdir()
    assert run('test', '-opt', write(folder, test_options())) == 0
    log = next((folder / 'results/small').glob('test_small_*.log')).read_text()
    assert log.count('Network SRVGGNetCompact: ') == log.count('Model [SRModel] is created') == 1


def test_auto_resume_without_a_state_says_so(folder, capsys):
    argv = ['train', '-opt', write(folder, options()), '--auto_resume']
    assert run(*argv, '--force_yml', 'train:total_iter=2') == 0
    assert 'There is no training state in ' in capsys.readouterr().err
    assert run(*argv) == 0
    assert 'There is no training state in ' not in capsys.readouterr().err


@pytest.mark.parametrize('command', ['train', 'test', 'check'])
def test_a_foreign_folder_is_refused_and_kept(folder, capsys, command):
    for parent in ('experiments', 'results'):
        (folder / parent / 'small').mkdir(parents=True)
        (folder / parent / 'small/thesis.tex').touch()
    before = content(folder)
    file = write(folder, test_options() if command == 'test' else options())
    assert run(command, '-opt', file) == 1
    captured = capsys.readouterr()
    assert 'small exists, but it is not the folder of an earlier run' in captured.out + captured.err
    (folder / file).unlink()
    assert content(folder) == before


def test_resuming_from_an_older_state_creates_a_branch(folder, capsys):
    opt = options()
    opt['logger'].update(save_checkpoint_freq=1, keep_checkpoints=2)
    opt['val']['val_freq'] = 100
    file = write(folder, opt)
    experiment, state = folder / 'experiments/small', 'experiments/small/training_states/2.state'
    overrides = ['--force_yml', 'train:total_iter=8', 'logger:keep_checkpoints=~']
    assert run('train', '-opt', file, *overrides) == 0
    abandoned = (experiment / 'training_states/8.state').read_bytes()
    assert run('train', '-opt', file, '--force_yml', f'path:resume_state={state}', 'train:total_iter=3') == 0
    said = capsys.readouterr().err
    branch = experiment / 'branch_2_to_8'
    assert f'are moved to {branch}' in said
    assert (branch / 'training_states/8.state').read_bytes() == abandoned
    assert {'net_g_3.pth', 'net_g_8.safetensors', 'net_g_latest.pth'} <= set(os.listdir(branch / 'models'))
    assert json.loads((branch / 'metrics.jsonl').read_text().splitlines()[-1])['iter'] == 8
    assert states(experiment) == ['2.state', '3.state']
    assert run('train', '-opt', file, '--auto_resume') == 0
    assert 'Resumed after iteration 3 ' in capsys.readouterr().err
    assert states(experiment) == ['3.state', '4.state']
    assert run('train', '-opt', file, '--force_yml', f'path:resume_state={branch}/training_states/8.state',
               'train:total_iter=9') == 0  # fmt: skip
    assert torch.load(experiment / 'training_states/9.state', weights_only=True)['iter'] == 9


def test_a_failed_resume_moves_nothing(folder):
    file = write(folder, options())
    assert run('train', '-opt', file) == 0
    before = content(folder / 'experiments/small/training_states')
    state = 'path:resume_state=experiments/small/training_states/2.state'
    assert run('train', '-opt', file, '--force_yml', state, 'network_g:num_feat=8') == 1
    assert content(folder / 'experiments/small/training_states') == before


COUNTED = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class Counted(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 3, 1)
        if self.weight.device.type != 'meta':  # where weights have no memory
            print('built', file=open('built.txt', 'a'))
"""


@pytest.mark.parametrize('model', ['SRModel', 'DeepRFTv2Model'])
def test_a_command_builds_the_network_once(folder, monkeypatch, model):
    (folder / 'counted_arch.py').write_text(COUNTED)
    opts = {'train': options(), 'test': test_options()}
    for opt in opts.values():
        opt.update(custom_imports=['counted_arch'], network_g={'type': 'Counted'}, model_type=model)
    opts['train']['train']['ema_decay'] = 0.5
    files = {kind: write(folder, opt, f'{kind}.yml') for kind, opt in opts.items()}
    commands = [('train', 'train'), ('test', 'test'), ('check', 'train'), ('check', 'test')]
    for command, kind, *flags in [*commands, ('train', 'train', '--auto_resume')]:
        assert run(command, '-opt', files[kind], *flags) == 0
        assert (folder / 'built.txt').read_text().splitlines() == ['built'], (command, kind)
        (folder / 'built.txt').unlink()
