"""BasicSR's pipelines run by the command."""

import sys

import pytest
import torch
import yaml

from deeprftv2_plugin import cli
from deeprftv2_plugin.basicsr_bridge import patches, replacement
from tests.cli.runs import options, test_options, write


def run(*argv):
    return cli.main(list(argv))


def test_training_writes_basicsrs_files(folder):
    before = list(sys.argv)
    assert run('train', '-opt', write(folder, options())) == 0
    assert sys.argv == before
    experiment = folder / 'experiments/small'
    saved = {f'net_g_{i}.{suffix}' for i in (2, 4, 'latest') for suffix in ('pth', 'safetensors')}
    assert {path.name for path in experiment.glob('models/*')} == saved
    log = next(experiment.glob('train_small_*.log')).read_text()
    assert 'iter:       4' in log
    assert '# psnr:' in log


def test_the_resolved_options_are_logged_and_saved(folder):
    (folder / 'bases').mkdir()
    write(folder, options(), 'bases/base.yml')
    (folder / 'mine.yml').write_text('_base_: bases/base.yml\nname: mine\ntrain: {optim_g: {lr: 2e-4}}\n')
    assert run('train', '-opt', 'mine.yml', '--force_yml', 'train:total_iter=1') == 0
    experiment = folder / 'experiments/mine'
    copy = yaml.safe_load((experiment / 'mine.yml').read_text())
    assert copy['train']['optim_g'] == {'type': 'Adam', 'lr': 0.0002}
    assert copy['train']['total_iter'] == 1
    assert '_base_' not in copy
    assert (experiment / 'mine.yml').read_text().startswith('# GENERATE TIME: ')
    assert 'lr: 0.0002' in next(experiment.glob('*.log')).read_text()


def test_replacements_are_undone_after_a_run(folder):
    patches.apply()
    before = replacement.active()
    assert run('train', '-opt', write(folder, options()), '--force_yml', 'train:total_iter=1') == 0
    assert run('train', '-opt', write(folder, options()), '--force_yml', 'network_g:type=Unknown') == 1
    assert replacement.active() == before


def test_debug_has_the_same_effect_as_in_basicsr(folder):
    assert run('train', '-opt', write(folder, options()), '--debug') == 0
    experiment = folder / 'experiments/debug_small'
    assert {path.stem for path in experiment.glob('models/*')} == {'net_g_latest'}
    assert 'save_checkpoint_freq: 8' in next(experiment.glob('*.log')).read_text()


def test_auto_resume_continues_from_the_newest_state(folder):
    file = write(folder, options())
    assert run('train', '-opt', file, '--force_yml', 'train:total_iter=2') == 0
    assert run('train', '-opt', file, '--auto_resume') == 0
    logs = [path.read_text() for path in folder.glob('experiments/small/*.log')]
    assert any('Resuming training from epoch: 0, iter: 2' in log for log in logs)
    state = torch.load(folder / 'experiments/small/training_states/4.state', weights_only=True)
    assert state['iter'] == 4


def test_a_second_training_archives_the_first(folder):
    file = write(folder, options())
    assert run('train', '-opt', file) == run('train', '-opt', file) == 0
    names = sorted(path.name for path in (folder / 'experiments').iterdir())
    assert names[0] == 'small'
    assert names[1].startswith('small_archived_')


def test_testing_scores_a_checkpoint(folder):
    assert run('train', '-opt', write(folder, options())) == 0
    opt = test_options()
    opt['path']['pretrain_network_g'] = 'experiments/small/models/net_g_latest.pth'
    assert run('test', '-opt', write(folder, opt, 'scores.yml'), '--force_yml', 'val:save_img=true') == 0
    log = next((folder / 'results/small').glob('test_small_*.log')).read_text()
    assert 'Validation more-noise' in log
    assert len(list((folder / 'results/small/visualization').rglob('*.png'))) == 4


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('train:total_iters=9', ['small.yml', 'train.total_iters', 'total_iter']),
        ('datasets:train:dataroot_lq=nowhere', ['datasets.train.dataroot_lq', 'nowhere']),
        ('path:pretrain_network_g=nowhere.pth', ['nowhere.pth']),
        ('custom_imports=[no_such_module]', ['custom_imports', 'no_such_module']),
        (
            'logger={use_tb_logger: true, print_freq: 1, save_checkpoint_freq: 2, wandb: {project: mine}}',
            ['wandb is not'],
        ),
    ],
)
def test_wrong_options_are_refused_before_a_folder_is_created(folder, capsys, monkeypatch, override, words):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    file = write(folder, options())
    before = sorted(folder.iterdir())
    assert run('train', '-opt', file, '--force_yml', override) == 1
    message = capsys.readouterr().err
    assert 'error: ' in message
    assert all(word in message for word in words)
    assert 'Traceback' not in message
    assert sorted(folder.iterdir()) == before


def test_a_module_in_the_working_directory_can_register_a_network(folder):
    (folder / 'loose_arch.py').write_text(
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        'from torch import nn\n\n\n'
        '@ARCH_REGISTRY.register()\n'
        'class Loose(nn.Conv2d):\n'
        '    def __init__(self, width):\n'
        '        super().__init__(width, width, 3, padding=1)\n'
    )
    opt = options()
    opt.update(custom_imports=['loose_arch'], network_g={'type': 'Loose', 'width': 3})
    assert run('train', '-opt', write(folder, opt)) == 0
