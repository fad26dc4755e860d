"""What can befall a training in a week, each provoked: signals, full disks, half a file, poison, damaged pictures."""

import os
import signal
import time

import pytest
import torch

import deeprftv2_plugin
from deeprftv2_plugin import cli
from tests.cli.lives import run, start
from tests.cli.runs import options, write

ITERATIONS = 12
STATES = 'experiments/small/training_states'


def training(network=None, poisoned=(), **train):
    opt = options()
    opt.update(custom_imports=['tests.models.toys', 'tests.cli.troubles'], model_type='DeepRFTv2Model')
    opt['network_g'] = network or {'type': 'Noisy', 'width': 64}  # its files are larger than the log
    data = {'type': 'TroubledDataset', 'gt_size': 8, 'batch_size_per_gpu': 1, 'poisoned': list(poisoned)}
    opt['datasets']['train'] = {
        **{key: opt['datasets']['train'][key] for key in ('name', 'dataroot_lq', 'dataroot_gt', 'num_worker_per_gpu')},
        **data,
    }
    opt['train'].update(total_iter=ITERATIONS, scheduler={'type': 'CosineAnnealingLR'}, **train)
    opt['logger']['save_checkpoint_freq'] = 3
    return opt


def weights(folder, name='latest'):
    return torch.load(folder / f'experiments/small/models/net_g_{name}.pth', weights_only=True)['params']


def saved_at(folder, iteration):
    paths = [path for kind in ('models', 'training_states') for path in (folder / 'experiments/small' / kind).iterdir()]
    return {path.name: path.read_bytes() for path in paths if path.stem.endswith(str(iteration))}


def said(folder):
    return ''.join(path.read_text() for path in sorted(folder.glob('experiments/small/*.log')))


def train(folder, file, *overrides, **settings):
    force = ('--force_yml', *overrides) if overrides else ()
    return run(folder, 'train', '-opt', file, '--auto_resume', *force, **settings)


@pytest.fixture
def undisturbed(folder, tmp_path_factory):
    """Weights after a training to which nothing happens."""
    quiet = tmp_path_factory.mktemp('quiet')
    for part in ('lq', 'gt'):
        (quiet / part).symlink_to(folder / part)
    status, text = train(quiet, write(quiet, training()))
    assert status == 0, text
    return weights(quiet)


def signalled(folder, *signals, workers=0):
    """The exit status of an endless training that gets signals, with all its workers, and what it said."""
    process = start(folder, 'train', '-opt', 'small.yml', '--force_yml', 'train:total_iter=1000000',
                    'logger:save_checkpoint_freq=1000000', f'datasets:train:num_worker_per_gpu={workers}')  # fmt: skip
    text = folder / 'life.txt'
    deadline = time.monotonic() + 60
    while not text.exists() or 'iter:       3' not in text.read_text():
        assert time.monotonic() < deadline and process.is_alive(), text.read_text()
        time.sleep(0.02)
    for each in signals:
        os.killpg(process.pid, each)
        time.sleep(0.01)
    process.join(60)
    return process.exitcode, text.read_text()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_saves_the_state_and_leaves(folder, number):
    write(folder, training())
    status, text = signalled(folder, number, workers=1)
    assert status == (130 if number == signal.SIGINT else 75), text
    (state,) = (folder / STATES).iterdir()
    assert f'{number.name}: the state of iteration {state.stem} is saved' in text
    assert 'Traceback' not in text
    more = int(state.stem) + 2
    status, text = train(folder, 'small.yml', f'train:total_iter={more}')
    assert status == 0 and f'Resumed after iteration {state.stem}' in text, text


def test_a_second_ctrl_c_leaves_at_once(folder):
    write(folder, training(poisoned=[]))
    process_status, text = signalled(folder, signal.SIGINT, signal.SIGINT)
    assert process_status in (-signal.SIGINT, 130), text


def test_a_full_disk_costs_no_file_and_the_training_goes_on(folder, undisturbed):
    """The weights find room, the state does not: it holds two more tensors a weight."""
    file = write(folder, training())
    assert train(folder, file, 'train:total_iter=3', 'train:scheduler:T_max=12')[0] == 0
    sizes = [(folder / path).stat().st_size for path in (f'{STATES}/3.state', 'experiments/small/models/net_g_3.pth')]
    before = saved_at(folder, 3)
    status, text = train(folder, file, file_size=max(sizes) - 100)
    assert 'File too large' in text and 'The training goes on' in text
    assert status == (0 if sizes[0] > sizes[1] else 1)
    assert saved_at(folder, 3) == before
    assert not list((folder / 'experiments').rglob('*.partial'))
    status, text = train(folder, file)
    assert status == 0 and 'Resumed after iteration 3 ' in text, text
    torch.testing.assert_close(weights(folder), undisturbed, rtol=0, atol=0)


def test_weights_lost_at_the_end_are_an_error(folder):
    file = write(folder, training({'type': 'Noisy', 'width': 200}))
    status, text = train(folder, file, 'logger:save_checkpoint_freq=100', file_size=20000)
    assert status == 1
    assert 'error: the weights at the end of the training are lost' in text and 'Make room' in text
    assert 'Traceback' not in text


@pytest.mark.parametrize('half', [f'{STATES}/9.state', 'experiments/small/models/net_g_9.pth'])
def test_half_a_file_is_passed_over(folder, undisturbed, half):
    file = write(folder, training())
    assert train(folder, file, 'train:total_iter=9', 'train:scheduler:T_max=12')[0] == 0
    path = folder / half
    path.write_bytes(path.read_bytes()[:-400])
    status, text = train(folder, file)
    assert status == 0 and path.name in text and 'An older state is used' in text, text
    assert 'Resumed after iteration 6 ' in text
    torch.testing.assert_close(weights(folder), undisturbed, rtol=0, atol=0)


@pytest.mark.parametrize('fused', [True, False])
def test_a_poisoned_batch_is_skipped(folder, monkeypatch, fused):
    """Also by what the network counts while it trains, and by the optimiser's own counts."""
    optim = {'type': 'AdamW', 'lr': 1e-2, 'fused': fused}
    assert cli.main(['train', '-opt', write(folder, training(poisoned=[2], optim_g=optim))]) == 0
    assert 'the step is skipped (1 in a row, 3 in all)' in said(folder)
    assert all(value.isfinite().all() for value in weights(folder).values())
    state = torch.load(folder / STATES / '12.state', weights_only=True)
    assert {float(each['step']) for each in state['optimizers'][0]['state'].values()} == {9.0}
    assert all('null' not in line or '"l_pix": null' in line for line in
               (folder / 'experiments/small/metrics.jsonl').read_text().splitlines())  # fmt: skip


def test_nothing_but_poison_ends_the_run(folder, capsys):
    file = write(folder, training(poisoned=range(4), optim_g={'type': 'SGD', 'lr': 1.0}))
    assert cli.main(['train', '-opt', file, '--force_yml', 'train:total_iter=100']) == 1
    message = capsys.readouterr().err.rpartition('error: ')[2]
    assert 'not finite in 20 steps in a row, up to iteration 20' in message and 'clip_grad_norm' in message


@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_picture_is_named_and_left_out(folder, capsys, monkeypatch, workers):
    deeprftv2_plugin.register()
    monkeypatch.setattr('deeprftv2_plugin.preflight.data.SAMPLED', 2)  # the preflight checks miss 1.png
    data = (folder / 'lq/1.png').read_bytes()
    (folder / 'lq/1.png').write_bytes(data[:400])
    opt = training()
    del opt['datasets']['val']
    file = write(folder, opt)
    argv = ['train', '-opt', file, '--force_yml', f'datasets:train:num_worker_per_gpu={workers}']
    argv += ['val=~', 'datasets:train:max_damaged=1']
    assert cli.main(argv) == 0
    assert said(folder).count('1.png') == 1 and 'It is left out (1 of at most 1 damaged pictures)' in said(folder)
    (folder / 'gt/3.png').write_bytes(b'')
    capsys.readouterr()
    assert cli.main(argv) == 1
    message = capsys.readouterr().err.rpartition('error: ')[2]
    assert 'damaged picture number 2' in message and '.png' in message and 'max_damaged' in message


def test_too_many_damaged_pictures_end_all_processes(folder):
    """Also the workers, which are not asked by signals."""
    for number in range(3):
        (folder / f'lq/{number}.png').write_bytes(b'')
    write(folder, training())
    status, text = train(folder, 'small.yml', 'datasets:train:num_worker_per_gpu=2', 'datasets:train:max_damaged=2')
    assert status == 1 and 'error: ' in text and all(f'lq/{number}.png' in text for number in range(3)), text


def test_a_finished_training_says_so(folder, capsys):
    file = write(folder, training())
    assert cli.main(['train', '-opt', file]) == 0
    before = weights(folder)
    assert cli.main(['train', '-opt', file, '--auto_resume']) == 0
    assert 'All 12 iterations are done: nothing is left to train' in said(folder)
    torch.testing.assert_close(weights(folder), before, rtol=0, atol=0)
    assert cli.main(['train', '-opt', file, '--auto_resume', '--force_yml', 'train:total_iter=9']) == 1
    assert 'is at iteration 12, but train.total_iter is 9' in capsys.readouterr().err


def test_a_changed_epoch_trains_what_is_left(folder):
    """BasicSR trains nothing where an epoch has become longer."""
    file = write(folder, training())
    assert cli.main(['train', '-opt', file]) == 0
    longer = ['datasets:train:dataset_enlarge_ratio=100', 'train:total_iter=15', 'datasets:train:batch_size_per_gpu=2']
    assert cli.main(['train', '-opt', file, '--auto_resume', '--force_yml', *longer]) == 0
    assert 'iter:      15' in said(folder)
    assert 'Resumed with another effective batch: 2, it was 1.' in said(folder)
    assert 'The schedule keeps T_max 12, with which the training began; the options say 15' in said(folder)


def test_a_state_of_another_kind_of_optimiser_step_goes_on(folder, capsys):
    """What the state says of fused or not outweighs the options."""
    for fused, iterations in ((False, 3), (True, 6), (True, 9)):
        opt = training(poisoned=[2], optim_g={'type': 'AdamW', 'lr': 1e-2, 'fused': fused})
        opt['train']['total_iter'] = iterations
        assert cli.main(['train', '-opt', write(folder, opt), '--auto_resume']) == 0
    assert capsys.readouterr().err.count('the step is skipped') == 2
