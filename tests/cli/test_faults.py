"""Faults during training: signals, full disks, truncated files, NaN samples, damaged images."""

import json
import os
import pty
import select
import signal

import pytest
import torch

import deeprftv2_plugin
from deeprftv2_plugin import cli
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS
from tests.cli.lives import ENDLESS, HANG_TIMEOUT, run, start, wait_for
from tests.cli.runs import options, write, write_images

ITERATIONS = 12
STATES = 'experiments/small/training_states'


def training_options(network=None, poisoned=(), blocking=None, **train):
    opt = options()
    opt.update(custom_imports=['tests.models.toys', 'tests.cli.troubles'], model_type='DeepRFTv2Model')
    opt['network_g'] = network or {'type': 'Noisy', 'width': 64}  # its files are larger than the log
    data = {'type': 'TroubledDataset', 'gt_size': 8, 'batch_size_per_gpu': 1, 'poisoned': list(poisoned)}
    if blocking:
        data['blocking'] = blocking
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
    """Weights of an uninterrupted training run."""
    quiet = tmp_path_factory.mktemp('quiet')
    for part in ('lq', 'gt'):
        (quiet / part).symlink_to(folder / part)
    status, text = train(quiet, write(quiet, training_options()))
    assert status == 0, text
    return weights(quiet)


def signaled(folder, number, workers=0):
    """Send a signal to an endless training run and its workers. Return the exit status and the output."""
    process = start(folder, 'train', '-opt', 'small.yml', *ENDLESS, f'datasets:train:num_worker_per_gpu={workers}')
    output = folder / 'life.txt'
    wait_for(lambda: output.exists() and 'iter:       3' in output.read_text(), output, process)
    os.killpg(process.pid, number)
    process.join(HANG_TIMEOUT)
    return process.exitcode, output.read_text()


def journal(folder):
    """Return the iterations whose losses are logged."""
    lines = map(json.loads, (folder / 'experiments/small/metrics.jsonl').read_text().splitlines())
    return [line['iter'] for line in lines if 'dataset' not in line]


@pytest.mark.parametrize('number', LEAVE_SIGNALS, ids=lambda number: number.name)
def test_signal_saves_the_state_and_stops_training(folder, number):
    write(folder, training_options())
    status, text = signaled(folder, number, workers=1)
    assert status == (130 if number == signal.SIGINT else 75), text
    (state,) = (folder / STATES).iterdir()
    assert f'{number.name}: the state of iteration {state.stem} is saved' in text
    assert 'Traceback' not in text
    more = int(state.stem) + 2
    status, text = train(folder, 'small.yml', f'train:total_iter={more}')
    assert status == 0 and f'Resumed after iteration {state.stem}' in text, text
    assert journal(folder) == list(range(1, more + 1))


def test_signal_saves_the_state_of_a_model_of_basicsr(folder):
    opt = {**training_options({'type': 'OneScale'}), 'model_type': 'SRModel'}
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [2]}
    write(folder, opt)
    status, text = signaled(folder, signal.SIGTERM)
    assert status == 75 and 'Traceback' not in text, text
    (state,) = (folder / STATES).iterdir()
    assert f'SIGTERM: the state of iteration {state.stem} is saved' in text
    assert journal(folder) == list(range(1, int(state.stem) + 1))


def test_closing_the_terminal_saves_the_state(folder):
    """The process is the foreground job of a terminal that is closed: it gets SIGHUP, and every write fails."""
    write(folder, training_options())
    ours, theirs = pty.openpty()
    process = start(folder, 'train', '-opt', 'small.yml', *ENDLESS, terminal=os.ttyname(theirs))
    shown = b''
    while b'iter:       3' not in shown:
        assert select.select([ours], [], [], HANG_TIMEOUT)[0], shown
        shown += os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    process.join(HANG_TIMEOUT)
    assert process.exitcode == 75, said(folder)[-2000:]
    (state,) = (folder / STATES).iterdir()
    assert f'SIGHUP: the state of iteration {state.stem} is saved' in said(folder)


@pytest.mark.parametrize('model', ['DeepRFTv2Model', 'SRModel'])
def test_error_between_steps_saves_the_state(folder, monkeypatch, capsys, model):
    deeprftv2_plugin.register()
    monkeypatch.setattr('deeprftv2_plugin.preflight.data.SAMPLED', 2)  # the preflight checks miss 1.png
    (folder / 'lq/1.png').write_bytes(b'')
    opt = {**training_options(network={'type': 'OneScale'}), 'model_type': model}
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [2]}
    del opt['val'], opt['datasets']['val']
    assert cli.main(['train', '-opt', write(folder, opt), '--force_yml', 'logger:save_checkpoint_freq=100']) == 1
    (state,) = (folder / STATES).iterdir()
    assert f'The state of iteration {state.stem} is saved' in said(folder)
    assert '1.png' in capsys.readouterr().err.rpartition('error: ')[2]


def test_error_in_a_step_saves_the_state_before_it(folder, undisturbed):
    """The resumed training equals an undisturbed one."""
    opt = training_options()
    opt['datasets']['train']['misshapen'] = 8
    opt['logger']['save_checkpoint_freq'] = 100
    file = write(folder, opt)
    status, text = train(folder, file)
    assert status == 1 and 'Traceback' in text, text
    (state,) = (folder / STATES).iterdir()
    assert f'The state of iteration {state.stem} is saved' in text and int(state.stem) > 2, text
    status, text = train(folder, file, 'datasets:train:misshapen=~')
    assert status == 0 and f'Resumed after iteration {state.stem} ' in text, text
    torch.testing.assert_close(weights(folder), undisturbed, rtol=0, atol=0)
    assert journal(folder) == list(range(1, ITERATIONS + 1))


def test_training_continues_without_tensorboard_on_a_full_disk(folder):
    """Only TensorBoard writes more than the limit."""
    opt = training_options({'type': 'OneScale'})
    opt['logger']['use_tb_logger'] = True
    opt['train']['total_iter'] = 150
    status, text = train(folder, write(folder, opt), 'logger:save_checkpoint_freq=150', file_size=70_000)
    assert status == 0, text
    assert text.count('TensorBoard failed: OSError: [Errno 27] File too large') == 1, text
    assert 'Traceback' not in text
    assert journal(folder) == list(range(1, 151))


def test_failing_validation_does_not_end_training(folder):
    opt = training_options({'type': 'OneScale'})
    opt['custom_imports'].append('tests.cli.failing')
    opt['val'].update(val_freq=2, metrics={'sometimes': {'type': 'sometimes', 'failing': [2, 4, 8]}})
    opt['logger']['save_checkpoint_freq'] = 100
    opt['datasets']['val'].update(dataroot_lq='one/lq', dataroot_gt='one/gt')
    (folder / 'one').mkdir()
    write_images(folder / 'one', count=1)
    status, text = train(folder, write(folder, opt))
    assert status == 0, text
    assert 'The validation of more-noise at iteration 4 failed (2 in a row, at most 3): LookupError' in text, text
    assert 'The validation of more-noise at iteration 8 failed (1 in a row, at most 3): LookupError' in text, text
    assert {path.stem for path in (folder / STATES).iterdir()} == {'2', '4', '8'}
    opt['val']['metrics']['sometimes']['failing'] = [2, 4, 6, 8]
    status, text = run(folder, 'train', '-opt', write(folder, opt))
    assert status == 1 and 'error: The validation of more-noise at iteration 6 failed (3 in a row' in text, text
    assert {path.stem for path in (folder / STATES).iterdir()} == {'2', '4', '6'}


@pytest.mark.parametrize('failing', [[4], [2, 4, 6]])
def test_last_validation_that_fails_ends_a_complete_training_with_an_error(folder, failing):
    opt = training_options({'type': 'OneScale'})
    opt['custom_imports'].append('tests.cli.failing')
    opt['val'].update(val_freq=24 // failing[-1], metrics={'sometimes': {'type': 'sometimes', 'failing': failing}})
    opt['datasets']['val'].update(dataroot_lq='one/lq', dataroot_gt='one/gt')
    (folder / 'one').mkdir()
    write_images(folder / 'one', count=1)
    file = write(folder, opt)
    status, text = train(folder, file)
    assert status == 1, text
    last = text.strip().splitlines()[-1]
    assert last.startswith(
        'error: the last validation of more-noise, at iteration 12, failed: LookupError: no such thing'
    )
    assert 'Training is complete, and the weights are saved in' in last and 'Training is complete' in said(folder)
    assert weights(folder) and (folder / STATES / '12.state').is_file()
    assert text.count('Training continues') == len(failing) - 1
    status, text = train(folder, file, 'val:metrics:sometimes:failing=[]')
    assert status == 0 and 'sometimes: 1.0000' in text, text


def test_second_ctrl_c_ends_the_process_immediately(folder):
    """The first one takes effect at the end of the step, which never ends in this test."""
    write(folder, training_options(blocking=4))
    process, output = start(folder, 'train', '-opt', 'small.yml', *ENDLESS), folder / 'life.txt'
    wait_for((folder / 'blocked').exists, output, process)
    os.kill(process.pid, signal.SIGINT)
    wait_for(lambda: 'Press Ctrl-C again to stop immediately' in output.read_text(), output, process)
    os.kill(process.pid, signal.SIGINT)
    process.join(HANG_TIMEOUT)
    status = process.exitcode
    process.kill()
    assert status == -signal.SIGINT, output.read_text()
    assert not list((folder / STATES).iterdir())


def test_training_continues_on_a_full_disk(folder, undisturbed):
    """There is space for the weights but not for the state, which has two more tensors per weight."""
    file = write(folder, training_options())
    assert train(folder, file, 'train:total_iter=3', 'train:scheduler:T_max=12')[0] == 0
    sizes = [(folder / path).stat().st_size for path in (f'{STATES}/3.state', 'experiments/small/models/net_g_3.pth')]
    before = saved_at(folder, 3)
    status, text = train(folder, file, file_size=max(sizes) - 100)
    assert 'File too large' in text and 'Training continues' in text
    assert status == (0 if sizes[0] > sizes[1] else 1)
    assert saved_at(folder, 3) == before
    assert not list((folder / 'experiments').rglob('*.partial'))
    status, text = train(folder, file)
    assert status == 0 and 'Resumed after iteration 3 ' in text, text
    torch.testing.assert_close(weights(folder), undisturbed, rtol=0, atol=0)


def test_failure_to_save_the_final_weights_is_an_error(folder):
    file = write(folder, training_options({'type': 'Noisy', 'width': 200}))
    status, text = train(folder, file, 'logger:save_checkpoint_freq=100', file_size=20000)
    assert status == 1
    assert 'error: the final weights are not saved' in text and 'Free disk space' in text
    assert 'Traceback' not in text


@pytest.mark.parametrize('half', [f'{STATES}/9.state', 'experiments/small/models/net_g_9.pth'])
def test_truncated_files_are_skipped(folder, undisturbed, half):
    file = write(folder, training_options())
    assert train(folder, file, 'train:total_iter=9', 'train:scheduler:T_max=12')[0] == 0
    path = folder / half
    path.write_bytes(path.read_bytes()[:-400])
    status, text = train(folder, file)
    assert status == 0 and path.name in text and 'An older state is used' in text, text
    assert 'Resumed after iteration 6 ' in text
    torch.testing.assert_close(weights(folder), undisturbed, rtol=0, atol=0)


@pytest.mark.parametrize('fused', [True, False])
def test_steps_with_nan_are_skipped(folder, monkeypatch, fused):
    """The buffers of the network and the step counts of the optimizer do not include skipped steps."""
    optim = {'type': 'AdamW', 'lr': 1e-2, 'fused': fused}
    assert cli.main(['train', '-opt', write(folder, training_options(poisoned=[2], optim_g=optim))]) == 0
    assert 'the step is skipped (1 in a row, 3 in total)' in said(folder)
    assert all(value.isfinite().all() for value in weights(folder).values())
    state = torch.load(folder / STATES / '12.state', weights_only=True)
    assert {float(each['step']) for each in state['optimizers'][0]['state'].values()} == {9.0}
    assert all('null' not in line or '"l_pix": null' in line for line in
               (folder / 'experiments/small/metrics.jsonl').read_text().splitlines())  # fmt: skip


@pytest.mark.parametrize('optim', [{'type': 'SGD', 'lr': 1.0}, {'type': 'AdamW', 'lr': 1e-3}])
def test_too_many_consecutive_nan_steps_are_an_error(folder, capsys, optim):
    """The state of the last iteration is saved. A fused optimizer is called for a skipped step, too."""
    file = write(folder, training_options(poisoned=range(4), optim_g=optim))
    assert (
        cli.main(['train', '-opt', file, '--force_yml', 'train:total_iter=100', 'logger:save_checkpoint_freq=99']) == 1
    )
    assert [path.name for path in (folder / STATES).iterdir()] == ['20.state']
    message = capsys.readouterr().err.rpartition('error: ')[2]
    assert 'not finite in 20 consecutive steps, up to iteration 20' in message and 'clip_grad_norm' in message


def test_training_that_diverges_ends_with_its_last_valid_checkpoint(folder, capsys):
    """The gradients of LBFGS are finite, but not what it writes."""
    optim = {'type': 'LBFGS', 'lr': 100, 'max_iter': 4}
    file = write(folder, training_options({'type': 'OneScale'}, optim_g=optim))
    assert cli.main(['train', '-opt', file, '--force_yml', 'logger:save_checkpoint_freq=1', 'val=~']) == 1
    message = capsys.readouterr().err.rpartition('error: ')[2]
    assert 'not finite' in message and 'Training has diverged' in message and 'clip_grad_norm' in message
    saved = [path for kind in ('models', 'training_states') for path in (folder / 'experiments/small' / kind).iterdir()]
    iterations = sorted({int(path.stem.rpartition('_')[2]) for path in saved})
    assert len(saved) == 3 * len(iterations) and f'net_g_{iterations[-1] + 1}' in message
    assert all(value.isfinite().all() for value in weights(folder, iterations[-1]).values())


@pytest.mark.parametrize('workers', [0, 1])
def test_damaged_images_are_named_and_skipped(folder, capsys, monkeypatch, workers):
    deeprftv2_plugin.register()
    monkeypatch.setattr('deeprftv2_plugin.preflight.data.SAMPLED', 2)  # the preflight checks miss 1.png
    data = (folder / 'lq/1.png').read_bytes()
    (folder / 'lq/1.png').write_bytes(data[:400])
    opt = training_options()
    del opt['datasets']['val']
    file = write(folder, opt)
    argv = ['train', '-opt', file, '--force_yml', f'datasets:train:num_worker_per_gpu={workers}']
    argv += ['val=~', 'datasets:train:max_damaged=1']
    assert cli.main(argv) == 0
    assert said(folder).count('1.png') == 1 and 'It is skipped (1 of at most 1 damaged images)' in said(folder)
    (folder / 'gt/3.png').write_bytes(b'')
    capsys.readouterr()
    assert cli.main(argv) == 1
    message = capsys.readouterr().err.rpartition('error: ')[2]
    assert 'damaged image number 2' in message and '.png' in message and 'max_damaged' in message


def test_too_many_damaged_images_end_training_with_its_workers(tmp_path):
    deeprftv2_plugin.register()
    from deeprftv2_plugin.preflight.data import SAMPLED  # imports BasicSR, which register() patches

    write_images(tmp_path, count=2 * SAMPLED)
    for path in sorted((tmp_path / 'lq').iterdir())[1:SAMPLED:2]:  # the preflight checks miss these
        path.write_bytes(b'')
    opt = training_options()
    opt['datasets']['train'].update(num_worker_per_gpu=2, max_damaged=2)
    opt['train']['total_iter'] = 100
    del opt['datasets']['val'], opt['val']
    process = start(tmp_path, 'train', '-opt', write(tmp_path, opt))
    process.join()
    text = (tmp_path / 'life.txt').read_text()
    assert process.exitcode == 1 and 'Timeout (' not in text, text
    assert 'damaged image number 3' in text.rpartition('error: ')[2], text
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_run_can_be_resumed_with_a_model_of_basicsr(folder):
    """Such a model cannot be told the results of the last validation, which is repeated."""
    opt = training_options({'type': 'OneScale'}, optim_g={'type': 'Adam', 'lr': 1e-3})
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [2]}
    assert cli.main(['train', '-opt', write(folder, opt)]) == 0
    opt['model_type'], opt['train']['total_iter'] = 'SRModel', 14
    assert cli.main(['train', '-opt', write(folder, opt), '--auto_resume']) == 0
    assert 'iter:      14' in said(folder)


def test_resuming_a_finished_run_trains_nothing(folder, capsys):
    file = write(folder, training_options())
    assert cli.main(['train', '-opt', file]) == 0
    before = weights(folder)
    assert cli.main(['train', '-opt', file, '--auto_resume']) == 0
    assert 'All 12 iterations are complete' in said(folder)
    torch.testing.assert_close(weights(folder), before, rtol=0, atol=0)
    assert cli.main(['train', '-opt', file, '--auto_resume', '--force_yml', 'train:total_iter=9']) == 1
    assert 'is at iteration 12, but train.total_iter is 9' in capsys.readouterr().err


@pytest.mark.parametrize('metrics', ['~', '{ssim: {type: calculate_ssim, crop_border: 0}}'])
def test_run_with_other_metrics_is_resumed(folder, metrics):
    file = write(folder, training_options({'type': 'OneScale'}))
    assert cli.main(['train', '-opt', file]) == 0
    overrides = ['--force_yml', 'train:total_iter=13', f'val:metrics={metrics}']
    assert cli.main(['train', '-opt', file, '--auto_resume', *overrides]) == 0
    assert ('# ssim' in said(folder)) == (metrics != '~')


def test_run_with_a_longer_epoch_is_resumed(folder):
    """BasicSR itself trains nothing if the epoch has become longer."""
    file = write(folder, training_options())
    assert cli.main(['train', '-opt', file]) == 0
    longer = ['datasets:train:dataset_enlarge_ratio=100', 'train:total_iter=15', 'datasets:train:batch_size_per_gpu=2']
    assert cli.main(['train', '-opt', file, '--auto_resume', '--force_yml', *longer]) == 0
    assert 'iter:      15' in said(folder)
    assert 'Resumed with another effective batch: 2, it was 1.' in said(folder)
    assert 'Resumed with another dataset_enlarge_ratio: 100, it was 1.' in said(folder)
    assert 'train.scheduler.T_max is 15, it was 12 in the resumed state. The new value applies.' in said(folder)


def test_state_of_an_optimizer_that_is_not_fused_is_resumed(folder, capsys):
    """The value of `fused` in the options applies."""
    for fused, iterations in ((False, 3), (True, 6), (True, 9)):
        opt = training_options(poisoned=[2], optim_g={'type': 'AdamW', 'lr': 1e-2, 'fused': fused})
        opt['train']['total_iter'] = iterations
        assert cli.main(['train', '-opt', write(folder, opt), '--auto_resume']) == 0
    assert capsys.readouterr().err.count('the step is skipped') == 2
