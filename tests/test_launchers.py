"""The scripts for torchrun and SLURM, with fake SLURM commands."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.runs import options, write, write_images

pytestmark = pytest.mark.posix
ROOT = Path(__file__).parents[1]
SRUN = """#!/usr/bin/env bash
shift  # --kill-on-bad-exit=1
export SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_NODELIST=here SLURM_LOCALID=0 MASTER_ADDR=localhost
export MASTER_PORT=0  # any free port
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo "$@" >> scontrol.txt
"""


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path)
    opt = options()
    opt['model_type'] = 'DeepRFTv2Model'
    write(tmp_path, opt)
    (tmp_path / 'bin').mkdir()
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    return tmp_path


def start(folder, script, *argv, **variables):
    environment = {
        **os.environ,
        'PATH': f'{folder}/bin{os.pathsep}{os.environ["PATH"]}',
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
        'SLURM_JOB_ID': '7',
        **variables,
    }
    with open(folder / 'output.txt', 'w') as output:
        command = ['bash', str(ROOT / 'scripts' / script), *argv]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)


def finish(process, folder):
    return process.wait(600), (folder / 'output.txt').read_text()


def test_torchrun_trains_on_one_machine(folder):
    status, said = finish(start(folder, 'train_torchrun.sh', '-opt', 'small.yml', PROCESSES='2'), folder)
    assert status == 0, said
    assert 'world_size: 2' in said and (folder / 'experiments/small/models/net_g_latest.pth').is_file()


def start_endless(folder):
    """Start a job that does not end, and wait for its third step."""
    endless = ('--force_yml', 'train:total_iter=1000000', 'logger:save_checkpoint_freq=1000000')
    process = start(folder, 'train_slurm.sh', '-opt', 'small.yml', *endless)
    wait_for(folder, process, 'iter:       3')
    return process


def wait_for(folder, process, text):
    deadline = time.monotonic() + 300
    while text not in (folder / 'output.txt').read_text():
        assert process.poll() is None and time.monotonic() < deadline, (folder / 'output.txt').read_text()
        time.sleep(0.05)


def test_cancelled_slurm_job_saves_and_is_not_requeued(folder):
    process = start_endless(folder)
    process.send_signal(signal.SIGTERM)
    status, said = finish(process, folder)
    assert status == 75 and 'SIGUSR1: the state of iteration' in said, said
    assert not (folder / 'scontrol.txt').exists()


def test_slurm_job_saves_before_its_time_limit_and_requeues(folder):
    process = start_endless(folder)
    process.send_signal(signal.SIGUSR1)
    status, said = finish(process, folder)
    assert status == 75, said
    assert 'SIGUSR1: the state of iteration' in said
    assert (folder / 'scontrol.txt').read_text() == 'requeue 7\n'
    (state,) = (folder / 'experiments/small/training_states').iterdir()
    total = f'train:total_iter={int(state.stem) + 1}'
    status, said = finish(
        start(folder, 'train_slurm.sh', '-opt', 'small.yml', '--force_yml', total, SLURM_RESTART_COUNT='1'), folder
    )
    assert status == 0, said
    assert 'SLURM has restarted this training: restart 1.' in said
    assert f'Resumed after iteration {state.stem} ' in said
    assert (folder / 'scontrol.txt').read_text() == 'requeue 7\n'


def test_slurm_job_keeps_the_status_of_a_task_that_ends_at_once(folder):
    """The task ends before the script, whose `kill` is slow, waits for it again."""
    (folder / 'task').write_text('#!/usr/bin/env bash\ntrap "exit 75" USR1\necho ready\nwhile :; do sleep 0.05; done\n')
    (folder / 'task').chmod(0o755)
    slow = {'BASH_FUNC_kill%%': '() { builtin kill "$@"; local found=$?; sleep 2; return $found; }'}
    process = start(folder, 'train_slurm.sh', '-opt', 'small.yml', PYTHON=str(folder / 'task'), **slow)
    wait_for(folder, process, 'ready')
    process.send_signal(signal.SIGUSR1)
    status, said = finish(process, folder)
    assert status == 75 and (folder / 'scontrol.txt').read_text() == 'requeue 7\n', said


@pytest.mark.parametrize('script', ['train_torchrun.sh', 'train_slurm.sh'])
def test_missing_option_file_is_an_error(folder, script):
    status, said = finish(start(folder, script), folder)
    assert status == 1 and 'no option file' in said


def test_several_machines_without_a_master_are_an_error(folder):
    status, said = finish(start(folder, 'train_torchrun.sh', '-opt', 'small.yml', NODES='2'), folder)
    assert status == 1 and 'MASTER' in said
