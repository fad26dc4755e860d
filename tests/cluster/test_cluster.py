"""Disturbed trainings on two hosts, with torchrun and SLURM: the weights equal those of an undisturbed one.

These tests change the network of the machine and take about ten minutes, so they only run on request, as root:

    pytest -m cluster tests/cluster

They need iproute2 and util-linux. The SLURM tests need Debian's slurm-wlm and munge.
"""

import functools
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from tests.cli.runs import options, write, write_images
from tests.cluster import hosts as network
from tests.cluster import slurm as scheduler
from tests.cluster.hosts import ADDRESSES, Hosts
from tests.cluster.slurm import Slurm

ROOT = Path(__file__).parents[2]
VARIABLES = {'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
ITERATIONS, DISTURBED, LONG = 60, 20, 400
FINAL = ('COMPLETED', 'CANCELLED', 'FAILED', 'TIMEOUT', 'NODE_FAIL')

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(network.missing() is not None, reason=str(network.missing())),
]
needs_slurm = pytest.mark.skipif(scheduler.missing() is not None, reason=str(scheduler.missing()))


@pytest.fixture
def folder():
    """A folder that all hosts share. Its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix='cluster-') as name:
        folder = Path(name)
        make_training(folder)
        yield folder


@pytest.fixture
def hosts(folder):
    with Hosts(folder) as found:
        yield found


@pytest.fixture
def slurm(hosts, folder):
    with Slurm(hosts, folder) as found:
        yield found


@pytest.fixture(scope='module')
def quiet_weights(tmp_path_factory):
    """Return a function that returns the weights of an undisturbed training on one host, with two processes."""

    @functools.cache
    def trained(iterations):
        folder = tmp_path_factory.mktemp('quiet')
        make_training(folder, iterations, seconds=0)
        with Hosts(folder) as hosts:
            status = train(hosts, 'node0', PROCESSES='2', NODES='1').wait(600)
            assert status == 0, hosts.read('node0.txt')
        return weights(folder)

    return trained


def make_training(folder, iterations=ITERATIONS, seconds=0.2):
    """Write images and options of a training whose steps take `seconds`."""
    if not (folder / 'lq').exists():
        write_images(folder)
    opt = options()
    opt.update(model_type='DeepRFTv2Model', custom_imports=['tests.cluster.slow'])
    data = opt['datasets']['train']
    data.update(type='SlowDataset', seconds=seconds, use_flip=data.pop('use_hflip'))
    del data['io_backend'], opt['val'], opt['datasets']['val']
    opt['train']['total_iter'] = iterations
    opt['logger']['save_checkpoint_freq'] = 10
    write(folder, opt)


def weights(folder):
    """Return the weights at the end of the training."""
    return torch.load(folder / 'experiments/small/models/net_g_latest.pth', weights_only=True)['params']


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def train(hosts, name, *argv, cwd=None, **variables):
    """Start a user's command on a host. Its output goes to NAME.txt."""
    script = str(ROOT / 'scripts/train_torchrun.sh')
    environment = {**VARIABLES, 'NODES': '2', 'MASTER': 'node0', 'PROCESSES': '1', **variables}
    return hosts.start(name, 'bash', script, '-opt', 'small.yml', *argv, output=f'{name}.txt', cwd=cwd, **environment)


def train_on_both(hosts, *argv):
    return [train(hosts, name, *argv) for name in ADDRESSES]


def outputs(hosts):
    return '\n'.join(f'--- {name}\n{hosts.read(f"{name}.txt")[-5000:]}' for name in ADDRESSES)


def wait_for(condition, what, seconds=120):
    """Wait until a condition is true. `what` returns the message for a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def wait_for_step(read, step, seconds=180):
    wait_for(lambda: f'iter: {step:>7}' in read(), read, seconds)


def assert_both_end(hosts, runs, seconds=300):
    statuses = [run.wait(seconds) for run in runs]
    assert statuses == [0, 0], outputs(hosts)


def test_two_hosts_train_like_one(hosts, folder, quiet_weights):
    assert_both_end(hosts, train_on_both(hosts))
    assert_same(weights(folder), quiet_weights(ITERATIONS))


def test_host_without_network_for_a_minute(hosts, folder, quiet_weights):
    runs = train_on_both(hosts)
    wait_for_step(lambda: hosts.read('node0.txt'), DISTURBED)
    hosts.link('node1', up=False)
    time.sleep(60)
    hosts.link('node1', up=True)
    assert_both_end(hosts, runs)
    assert_same(weights(folder), quiet_weights(ITERATIONS))


def test_processes_of_the_second_host_are_killed(hosts, folder, quiet_weights):
    """The first host waits until the same command is started again on the second."""
    first, second = train_on_both(hosts)
    wait_for_step(lambda: hosts.read('node0.txt'), DISTURBED)
    hosts.stop(second, signal.SIGKILL)
    time.sleep(5)
    assert first.poll() is None, outputs(hosts)
    assert_both_end(hosts, [first, train(hosts, 'node1')])
    assert 'torchrun has restarted this training' in hosts.read('node0.txt')
    assert_same(weights(folder), quiet_weights(ITERATIONS))


def test_processes_of_the_master_are_killed(hosts, folder, quiet_weights):
    """The processes on the other host end too. Both are started again with --auto_resume."""
    first, second = train_on_both(hosts)
    wait_for_step(lambda: hosts.read('node0.txt'), DISTURBED)
    hosts.stop(first, signal.SIGKILL)
    assert second.wait(120) != 0
    assert_both_end(hosts, train_on_both(hosts, '--auto_resume'))
    assert_same(weights(folder), quiet_weights(ITERATIONS))


def test_host_that_sees_other_data(hosts, folder):
    other = folder / 'other'
    other.mkdir()
    make_training(other)
    for part in ('lq', 'gt'):
        (other / part / '3.png').unlink()
    runs = [train(hosts, 'node0', RESTARTS='0'), train(hosts, 'node1', RESTARTS='0', cwd=other)]
    assert all(run.wait(120) != 0 for run in runs), outputs(hosts)
    assert 'node1 differs from process 0 on node0' in outputs(hosts), outputs(hosts)
    assert not list(folder.glob('experiments/*/models/*.pth'))


def submit(slurm, folder, *argv):
    """Submit a user's job on both hosts and return its number. Its output goes to job.txt."""
    size = ('--nodes=2', '--ntasks-per-node=1', '--gpus-per-node=0', '--cpus-per-task=1', '--output=job.txt')
    script = str(ROOT / 'scripts/train_slurm.sh')
    said = slurm.run('sbatch', *size, *argv, script, '-opt', 'small.yml', cwd=folder, **VARIABLES)
    return said.split()[-1]


def wait_for_job(slurm, job, state, seconds=300):
    """Wait until a job is in a final state."""
    wait_for(lambda: slurm.state(job) in FINAL, lambda: slurm.hosts.read('job.txt'), seconds)
    assert slurm.state(job) == state, slurm.hosts.read('job.txt')


@needs_slurm
def test_slurm_time_limit_requeues_and_resumes(slurm, hosts, folder, quiet_weights):
    """With the limit of two minutes, SLURM sends the signal after 80 seconds, in the middle of the training."""
    make_training(folder, LONG)
    job = submit(slurm, folder, '--time=2', '--signal=B:USR1@40')
    wait_for_job(slurm, job, 'COMPLETED', 600)
    said = hosts.read('job.txt')
    assert f'requeueing job {job}' in said and 'SLURM has restarted this training' in said, said
    assert_same(weights(folder), quiet_weights(LONG))


@needs_slurm
def test_scancel_saves_the_state(slurm, hosts, folder, quiet_weights):
    job = submit(slurm, folder, '--time=10')
    wait_for_step(lambda: hosts.read('job.txt'), DISTURBED + 3)
    slurm.run('scancel', job)
    wait_for_job(slurm, job, 'CANCELLED')
    newest = max(int(path.stem) for path in (folder / 'experiments/small/training_states').glob('*.state'))
    assert newest >= DISTURBED + 3, hosts.read('job.txt')
    job = submit(slurm, folder, '--time=10')
    wait_for_job(slurm, job, 'COMPLETED')
    assert f'Resumed after iteration {newest} ' in hosts.read('job.txt')
    assert_same(weights(folder), quiet_weights(ITERATIONS))
