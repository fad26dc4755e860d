"""The command line without `fork` and POSIX signals and modules, as on Windows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runs import options, write
from tests.data.archives import unpack

ROOT = Path(__file__).parents[2]
WITHOUT_POSIX = """
import multiprocessing
import os
import signal
import sys

for module, names in (
    (os, ('fork', 'forkpty', 'killpg', 'sched_getaffinity', 'setpgrp')),
    (signal, ('SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2')),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.modules.update(fcntl=None, resource=None)
multiprocessing.set_start_method('spawn')
"""


@pytest.fixture
def command(folder):
    """Run the command in the folder, without POSIX features in any of its processes."""
    (folder / 'site').mkdir()
    (folder / 'site/sitecustomize.py').write_text(WITHOUT_POSIX)
    path = os.pathsep.join((str(folder / 'site'), str(ROOT)))

    def run(*argv):
        process = subprocess.run(
            [sys.executable, '-m', 'deeprftv2_plugin', *argv],
            env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout + process.stderr

    return run


def test_training_with_worker_processes(folder, command):
    opt = options()
    opt['model_type'] = 'DeepRFTv2Model'
    opt['datasets']['train']['num_worker_per_gpu'] = 1
    text = command('train', '-opt', write(folder, opt))
    assert 'iter:       4' in text
    assert text.count('small cannot be locked') == 1, text
    assert (folder / 'experiments/small/models/net_g_4.pth').is_file()


def test_preparation_with_worker_processes(folder, command):
    unpack('GOPRO_Large', folder / 'GoPro', (24, 40, 3))
    text = command('prepare', 'GoPro', 'crops', '--crop', '16', '--split', 'train')
    assert text.count('crops cannot be locked') == 1, text
    assert len((folder / 'crops/train_sharp.lmdb/meta_info.txt').read_text().splitlines()) == 4 * 6
