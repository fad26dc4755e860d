"""Initialization of torch.distributed, and communication between processes."""

import os
import subprocess
import types

import pytest
import torch

from deeprftv2_plugin.basicsr_bridge import distributed
from deeprftv2_plugin.utils.errors import UserError

LAUNCH = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
SLURM = ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID')


@pytest.fixture
def environment(monkeypatch):
    """An environment without the variables of a launcher."""
    for name in (*LAUNCH, *SLURM):
        monkeypatch.setenv(name, '')  # so that changes by the test are undone
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def started(environment):
    """The calls of torch.distributed, which is not initialized."""
    calls = []

    def init_process_group(backend, timeout, **settings):
        calls.append((backend, settings))

    environment.setattr(torch.distributed, 'init_process_group', init_process_group)
    environment.setattr(torch.cuda, 'set_device', calls.append)
    environment.setattr(torch.cuda, 'device_count', lambda: 0)
    return calls


def test_without_a_gpu_the_backend_is_gloo(environment, started):
    for name in LAUNCH:
        environment.setenv(name, '1')
    distributed.init_dist('pytorch', backend='nccl')
    assert started == [('gloo', {})]


def test_the_local_rank_decides_the_gpu(environment, started):
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    for name, value in zip(LAUNCH, ('6', '8', '2', 'host', '1'), strict=True):
        environment.setenv(name, value)
    distributed.init_dist('pytorch', backend='nccl')
    assert started == [2, ('nccl', {'device_id': torch.device('cuda', 2)})]


def test_the_cpu_can_be_requested_on_a_machine_with_gpus(environment, started):
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    for name in LAUNCH:
        environment.setenv(name, '1')
    distributed.init_dist('pytorch', use_gpu=False)
    assert started == [('gloo', {})]


def test_more_processes_than_gpus_are_refused(environment, started):
    environment.setattr(torch.cuda, 'device_count', lambda: 1)
    for name in LAUNCH:
        environment.setenv(name, '1')
    with pytest.raises(UserError, match='process 1 of this node has no GPU: 1 visible'):
        distributed.init_dist('pytorch')


def test_a_launcher_without_its_environment_is_refused(environment, started):
    with pytest.raises(UserError, match='RANK, WORLD_SIZE, MASTER_ADDR not set.*torchrun'):
        distributed.init_dist('pytorch')
    with pytest.raises(UserError, match='SLURM_PROCID is not set.*srun'):
        distributed.init_dist('slurm')


def test_the_environment_of_slurm_is_translated(environment, started):
    for name, value in zip(SLURM, ('5', '8', 'node[1-2]', '1'), strict=True):
        environment.setenv(name, value)
    hosts = types.SimpleNamespace(stdout='node1\nnode2\n')
    environment.setattr(subprocess, 'run', lambda *args, **kwargs: hosts)
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    distributed.init_dist('slurm', port=12345)
    found = [os.environ[name] for name in LAUNCH]
    assert found == ['5', '8', '1', 'node1', '12345']
    assert started == [1, ('nccl', {'device_id': torch.device('cuda', 1)})]


@pytest.mark.posix
def test_without_hosts_of_slurm_the_error_says_what_to_set(environment, started, tmp_path):
    for name, value in zip(SLURM, ('0', '1', 'node[1-', '0'), strict=True):
        environment.setenv(name, value)
    environment.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match=r'scontrol show hostname node\[1- failed \(.*No such file.*Set MASTER_ADDR'):
        distributed.init_dist('slurm')
    (tmp_path / 'scontrol').write_text('#!/bin/sh\necho Invalid hostlist >&2\nexit 1\n')
    (tmp_path / 'scontrol').chmod(0o755)
    with pytest.raises(UserError, match=r'failed \(Invalid hostlist\). Set MASTER_ADDR'):
        distributed.init_dist('slurm')


def test_processes_of_srun_that_see_one_gpu_each_use_it(environment, started):
    for name, value in zip(SLURM, ('5', '8', 'node[1-2]', '1'), strict=True):
        environment.setenv(name, value)
    environment.setenv('MASTER_ADDR', 'node1')
    environment.setattr(torch.cuda, 'device_count', lambda: 1)
    distributed.init_dist('slurm')
    assert started[0] == 0
    assert not distributed.is_first_of_node()


@pytest.mark.parametrize(
    ('variables', 'first'),
    [
        ({}, True),
        ({'LOCAL_RANK': '0', 'SLURM_LOCALID': '0'}, True),
        ({'LOCAL_RANK': '1', 'SLURM_LOCALID': '0'}, False),
        ({'SLURM_LOCALID': '1'}, False),
    ],
)
def test_the_first_process_of_a_node_is_known_from_the_launcher(environment, variables, first):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert distributed.is_first_of_node() == first


def test_an_error_of_the_first_process_is_raised():
    def fail():
        raise UserError('in use')

    assert distributed.in_first_process(lambda: 1, {'dist': False, 'rank': 0}) == 1
    assert distributed.in_first_process(fail, {'dist': False, 'rank': 1}) is None
    with pytest.raises(UserError, match='in use'):
        distributed.in_first_process(fail, {'dist': False, 'rank': 0})


def test_a_single_process_has_the_values_of_the_first():
    opt = {'dist': False}
    assert distributed.from_first_process({'a': 1}, opt) == {'a': 1}
    assert distributed.any_process(True, opt) and not distributed.any_process(False, opt)


def test_lost_connections_are_explained(environment):
    environment.setenv('RANK', '3')
    expected = 'process 3 on .*: another process has ended, .* reason .connection reset'
    with pytest.raises(UserError, match=expected), distributed.lost_connections_explained():
        raise torch.distributed.DistNetworkError('connection reset')
    with pytest.raises(RuntimeError, match='shapes differ'), distributed.lost_connections_explained():
        raise RuntimeError('shapes differ')
