"""Functions that run in new processes."""

import os
import signal
import sys
import time
from multiprocessing.context import SpawnProcess

import pytest
import torch

from deeprftv2_plugin.comparison.measurement import PeakMemory
from deeprftv2_plugin.comparison.processes import in_new_process
from deeprftv2_plugin.utils.errors import SAVED, Interrupted


def memory_of_a_process(megabytes):
    memory = PeakMemory('cpu')
    torch.ones(megabytes * 250_000).sum()
    return memory.used()


def kill_the_process():
    os.kill(os.getpid(), 9)


def fail(error):
    print('on the way')
    raise error


def test_every_process_has_its_own_memory():
    pytest.importorskip('resource', reason='the memory of a process is not known on Windows')
    large, small = (in_new_process(memory_of_a_process, megabytes) for megabytes in (800, 40))
    # Linux counts pages per core and adds them up rarely, and it can drop those of libraries at any time
    assert large['increase_bytes'] == pytest.approx(800e6, rel=0.3)
    assert small['increase_bytes'] < 300e6
    assert small['peak_bytes'] < large['peak_bytes'] - 400e6


def test_failures_are_returned(tmp_path):
    output = tmp_path / 'output.txt'
    found = in_new_process(fail, torch.OutOfMemoryError('9 GiB.'), output=output)
    assert found == {'error': 'out of memory: 9 GiB'}
    assert output.read_text() == 'on the way\n'


@pytest.mark.parametrize('leave', [sys.exit, os._exit])
def test_a_process_that_ends_without_a_result_is_a_failure(leave):
    assert 'the process ended with exit status 3' in in_new_process(leave, 3)['error']


@pytest.mark.posix
def test_a_killed_process_is_a_failure():
    assert 'killed' in in_new_process(kill_the_process)['error']


def wait_for_a_signal(saves):
    """Send SIGTERM to the parent process, as a cluster does, and wait until it is forwarded."""
    if saves:

        def save(*_):
            raise Interrupted(SAVED, 'saved')

        signal.signal(signal.SIGTERM, save)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)


@pytest.mark.posix
def test_signals_are_forwarded():
    before = signal.getsignal(signal.SIGTERM)
    assert in_new_process(wait_for_a_signal, True) == {'error': 'saved', 'status': SAVED}
    with pytest.raises(Interrupted, match='stopped by SIGTERM') as caught:
        in_new_process(wait_for_a_signal, False)
    assert caught.value.status == SAVED and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.posix
def test_a_signal_that_arrives_while_the_process_starts_is_forwarded(monkeypatch):
    start, started = SpawnProcess.start, []

    def signal_and_start(self):
        started.append(self)
        os.kill(os.getpid(), signal.SIGTERM)
        start(self)

    monkeypatch.setattr(SpawnProcess, 'start', signal_and_start)
    with pytest.raises(Interrupted, match='stopped by SIGTERM'):
        in_new_process(time.sleep, 60)
    assert started[0].exitcode == -signal.SIGTERM


@pytest.mark.posix
def test_a_signal_that_arrives_when_the_process_has_ended_is_recorded(monkeypatch):
    join = SpawnProcess.join

    def join_and_signal(self, timeout=None):
        join(self, timeout)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SpawnProcess, 'join', join_and_signal)
    with pytest.raises(Interrupted, match='stopped by SIGTERM'):
        in_new_process(dict)
