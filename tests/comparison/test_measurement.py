"""Time and memory of processes of their own."""

import gc
import os
import time

import pytest
import torch

from deeprftv2_plugin.comparison.measurement import PeakMemory, in_new_process, time_of


@pytest.mark.parametrize(('seconds', 'calls'), [(0, 1 + 1), (1e-9, 1 + 4)])
def test_the_median_excludes_the_warm_up(seconds, calls):
    durations = iter([0.4, 0.1, 0.1, 0.2, 0.1])
    found = time_of(lambda: time.sleep(next(durations)), seconds)
    assert found['runs'] == calls - 1 and len(list(durations)) == 5 - calls
    assert 0.1 <= found['fastest'] <= found['seconds'] < 0.2


def test_garbage_is_collected_while_a_case_is_measured():
    enabled = []
    time_of(lambda: enabled.append(gc.isenabled()), 0)
    assert all(enabled)


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
    large, small = (in_new_process(memory_of_a_process, megabytes) for megabytes in (400, 40))
    assert large['increase_bytes'] == pytest.approx(400e6, rel=0.1)
    assert small['increase_bytes'] == pytest.approx(40e6, rel=0.3)
    assert small['peak_bytes'] < large['peak_bytes'] - 300e6


def test_failures_are_returned(tmp_path):
    output = tmp_path / 'output.txt'
    found = in_new_process(fail, torch.OutOfMemoryError('9 GiB.'), output=output)
    assert found == {'error': 'out of memory: 9 GiB'}
    assert output.read_text() == 'on the way\n'


@pytest.mark.posix
def test_a_killed_process_is_a_failure():
    assert 'killed' in in_new_process(kill_the_process)['error']
