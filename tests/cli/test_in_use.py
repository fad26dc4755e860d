"""A training that is still running, and processes whose launcher is killed."""

import os
import signal

import pytest

from deeprftv2_plugin import cli
from tests.cli.lives import ENDLESS, start, wait_for
from tests.cli.runs import options, write


def content(folder):
    return {path.relative_to(folder) for path in folder.rglob('*')}


def test_a_second_training_of_a_name_is_refused(folder, capsys):
    file, output = write(folder, options()), folder / 'life.txt'
    process = start(folder, 'train', '-opt', file, *ENDLESS, 'datasets:train:num_worker_per_gpu=1')
    wait_for(lambda: output.exists() and 'iter:       3' in output.read_text(), output, process)
    before = content(folder / 'experiments')
    for command in (('train',), ('train', '--auto_resume'), ('check',)):
        assert cli.main([command[0], '-opt', file, *command[1:]]) == 1
        captured = capsys.readouterr()
        assert f'small is in use by another run (process {process.pid} on ' in captured.out + captured.err
    assert content(folder / 'experiments') == before and process.is_alive()
    process.kill()  # data loader workers keep running for some seconds
    process.join()
    assert cli.main(['train', '-opt', file]) == 0


@pytest.mark.parametrize('model', ['DeepRFTv2Model', 'SRModel'])
def test_a_process_ends_after_its_launcher_is_killed(folder, model):
    """If torchrun is killed, its process saves the state and releases the lock."""
    opt = options()
    opt['model_type'] = model
    file, output = write(folder, opt), folder / 'life.txt'
    launcher = start(folder, 'train', '-opt', file, *ENDLESS, launched=True)
    wait_for(lambda: output.exists() and 'iter:       3' in output.read_text(), output, launcher)
    pid = int((folder / 'experiments/small/run.lock').read_text().split()[1])
    assert pid != launcher.pid
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.join()
    wait_for(lambda: not os.path.exists(f'/proc/{pid}'), output)
    text = output.read_text()
    assert 'torchrun, which started this process, has ended' in text and 'Traceback' not in text, text
    saved = [int(path.stem) for path in folder.glob('experiments/small/training_states/*.state')]
    assert len(saved) == 1
    assert cli.main(['train', '-opt', file, '--auto_resume', '--force_yml', f'train:total_iter={sum(saved) + 1}']) == 0
