"""BasicSR on today's libraries."""

import importlib.util
import sys
import types

import pytest
import torch

from deeprftv2_plugin.basicsr_bridge import patches as compat
from deeprftv2_plugin.utils.errors import UserError

LAUNCH = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
SLURM = ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST', 'SLURM_LOCALID')


@pytest.fixture(autouse=True, scope='module')
def mended():
    compat.apply()


@pytest.fixture
def environment(monkeypatch):
    """The environment of one process, without what a launcher would have put there."""
    for name in (*LAUNCH, *SLURM):
        monkeypatch.setenv(name, '')  # so that what the test sets is undone
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def started(environment):
    """What torch.distributed is asked for, instead of starting it."""
    calls = []

    def init_process_group(backend, timeout, **settings):
        calls.append((backend, settings))

    environment.setattr(torch.distributed, 'init_process_group', init_process_group)
    environment.setattr(torch.cuda, 'set_device', calls.append)
    environment.setattr(torch.cuda, 'device_count', lambda: 0)
    return calls


def test_applying_twice_mends_once():
    from basicsr import train

    mended = train.load_resume_state
    compat.apply()
    assert train.load_resume_state is mended


def test_what_torchvision_dropped_is_there():
    from torchvision.transforms import functional, functional_tensor

    assert functional_tensor.rgb_to_grayscale is functional.rgb_to_grayscale


def test_distutils_stands_in_during_the_import_only(monkeypatch):
    monkeypatch.setattr(compat, '_importable', lambda name: False)
    for name in ('distutils', 'distutils.version'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with compat.distutils_for_import():
        from distutils.version import LooseVersion

        assert LooseVersion('0.28.0+cpu') >= LooseVersion('0.9.0')
    assert 'distutils' not in sys.modules


def test_a_distutils_that_is_there_stays(monkeypatch):
    real = types.ModuleType('distutils')
    monkeypatch.setattr(compat, '_importable', lambda name: True)
    monkeypatch.setitem(sys.modules, 'distutils', real)
    with compat.distutils_for_import():
        assert sys.modules['distutils'] is real
    assert sys.modules['distutils'] is real


def test_a_missing_basicsr_is_told_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='not installed.*pip install'):
        compat.require_basicsr()


def test_a_package_that_hides_basicsr_is_told_with_its_place(monkeypatch, tmp_path):
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr/train.py').touch()
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / 'basicsr')], origin=None)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
    with pytest.raises(UserError) as caught:
        compat.require_basicsr()
    assert str(tmp_path / 'basicsr') in str(caught.value)
    assert 'utils/registry.py' in str(caught.value)


def test_without_a_gpu_the_backend_is_gloo(environment, started):
    for name in LAUNCH:
        environment.setenv(name, '1')
    compat.init_dist('pytorch', backend='nccl')
    assert started == [('gloo', {})]


def test_the_local_rank_decides_the_gpu(environment, started):
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    for name, value in zip(LAUNCH, ('6', '8', '2', 'host', '1'), strict=True):
        environment.setenv(name, value)
    compat.init_dist('pytorch', backend='nccl')
    assert started == [2, ('nccl', {'device_id': torch.device('cuda', 2)})]


def test_the_cpu_can_be_asked_for_where_there_are_gpus(environment, started):
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    for name in LAUNCH:
        environment.setenv(name, '1')
    compat.init_dist('pytorch', use_gpu=False)
    assert started == [('gloo', {})]


def test_more_processes_than_gpus_are_refused(environment, started):
    environment.setattr(torch.cuda, 'device_count', lambda: 1)
    for name in LAUNCH:
        environment.setenv(name, '1')
    with pytest.raises(UserError, match='process 1 of this node has no GPU: 1 visible'):
        compat.init_dist('pytorch')


def test_a_launcher_that_did_not_launch_is_refused(environment, started):
    with pytest.raises(UserError, match='RANK, WORLD_SIZE, MASTER_ADDR not set.*torchrun'):
        compat.init_dist('pytorch')
    with pytest.raises(UserError, match='SLURM_PROCID is not set.*srun'):
        compat.init_dist('slurm')


def test_slurm_says_the_same_in_other_words(environment, started):
    for name, value in zip(SLURM, ('5', '8', 'node[1-2]', '1'), strict=True):
        environment.setenv(name, value)
    hosts = types.SimpleNamespace(stdout='node1\nnode2\n')
    environment.setattr(compat.subprocess, 'run', lambda *args, **kwargs: hosts)
    environment.setattr(torch.cuda, 'device_count', lambda: 4)
    compat.init_dist('slurm', port=12345)
    found = [compat.os.environ[name] for name in LAUNCH]
    assert found == ['5', '8', '1', 'node1', '12345']
    assert started == [1, ('nccl', {'device_id': torch.device('cuda', 1)})]


def test_an_error_of_the_data_reaches_the_training_through_the_prefetcher():
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    def batches():
        yield 1
        raise UserError('frame_7 is damaged')

    prefetched = PrefetchGenerator(batches(), 2)
    assert next(prefetched) == 1
    with pytest.raises(UserError, match='frame_7'):
        next(prefetched)
