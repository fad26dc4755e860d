"""Two processes on a machine without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import deeprftv2_plugin
from tests.cli.runs import options, write


def torchrun(*argv):
    package = str(Path(deeprftv2_plugin.__file__).parents[1])  # found in other folders also where it is not installed
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': package}
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command = [*launcher, '-m', 'deeprftv2_plugin', *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_two_processes_train_without_a_launcher_flag(folder):
    result = torchrun('train', '-opt', write(folder, options()))
    assert result.returncode == 0, result.stderr
    log = next((folder / 'experiments/small').glob('*.log')).read_text()
    assert 'dist: True' in log
    assert 'world_size: 2' in log
    assert result.stderr.count('Start training from') == 1


def test_wrong_options_are_told_once_and_end_all_processes(folder):
    result = torchrun('train', '-opt', write(folder, options()), '--force_yml', 'train:total_iters=9')
    assert result.returncode != 0
    assert result.stderr.count('train.total_iters is unknown') == 1, result.stderr
    assert not (folder / 'experiments').exists()
