import os
import random
import signal
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import deeprftv2_plugin
from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.data.datasets.mixed import MixedDataset
from deeprftv2_plugin.data.loading.loader import TrainLoader
from deeprftv2_plugin.data.loading.plan import Plan, Step
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, UserError


class RandomSamples(Dataset):
    """Samples with random numbers from all global generators. Some samples fail."""

    def __init__(self, damaged=(), length=6):
        self.opt, self.damaged, self.length = {'gt_size': 4}, damaged, length
        self.paths = [{'lq_path': f'{index}.png'} for index in range(length)]

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.damaged:
            raise AttributeError("'NoneType' object has no attribute 'astype'")
        size = self.opt['gt_size']
        height, width = size if isinstance(size, list) else (size, size)
        numbers = [random.random(), np.random.rand(), torch.rand(()).item()]
        return {'gt': torch.full((1, height, width), index), 'numbers': torch.tensor(numbers)}


def mark_process():
    """Record that a worker process was set up."""
    os.environ['PREPARED'] = 'yes'


class Prepared(RandomSamples):
    """Samples that tell whether the process was set up before the dataset was unpickled."""

    def __setstate__(self, state):
        vars(self).update(state, prepared='PREPARED' in os.environ)

    def __getitem__(self, index):
        return {'prepared': self.prepared}


def loader(dataset=None, steps=None, done=0, **settings):
    dataset = dataset or RandomSamples()
    plan = Plan(len(dataset), steps or [Step(1, 2, None)], total=6, seed=1)
    plan.resume_after(done, 2 * done)
    return TrainLoader(dataset, plan, seed=1, **settings)


def batches(loader):
    found = []
    for epoch in range(3):
        loader.plan.set_epoch(epoch)
        found += list(loader)
    return found


def numbers(batches):
    return torch.cat([batch['numbers'] for batch in batches])


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('start', [pytest.param('fork', marks=pytest.mark.posix), 'spawn'])
def test_samples_do_not_depend_on_the_number_of_workers(workers, start):
    expected = numbers(batches(loader()))
    assert len(expected.unique()) == expected.numel()
    found = loader(num_workers=workers, persistent_workers=True, multiprocessing_context=start)
    torch.testing.assert_close(numbers(batches(found)), expected, rtol=0, atol=0)


def test_a_worker_that_is_not_forked_is_set_up_first():
    assert 'PREPARED' not in os.environ
    made = loader(Prepared(), num_workers=1, multiprocessing_context='spawn', setup=mark_process)
    assert all(batch['prepared'].all() for batch in batches(made))


def test_resumed_loader_matches_an_uninterrupted_one():
    torch.testing.assert_close(numbers(batches(loader(done=2))), numbers(batches(loader()))[4:], rtol=0, atol=0)


@pytest.mark.parametrize('workers', [0, 1])
def test_prefetching_loader_returns_the_same_batches(workers):
    """The loader that BasicSR uses for ``prefetch_mode: cpu``."""
    patches.apply()
    from basicsr.data.prefetch_dataloader import PrefetchDataLoader

    found = batches(loader(loader=partial(PrefetchDataLoader, 1), num_workers=workers))
    torch.testing.assert_close(numbers(found), numbers(batches(loader())), rtol=0, atol=0)


@pytest.mark.parametrize('workers', [0, 1])
def test_crops_follow_the_plan(workers):
    steps = [Step(1, 2, 4), Step(3, 2, [6, 8]), Step(6, 2, 2)]
    found = batches(loader(steps=steps, num_workers=workers))
    assert [tuple(batch['gt'].shape[-2:]) for batch in found] == [(4, 4)] * 2 + [(6, 8)] * 3 + [(2, 2)]


def test_dataset_that_ignores_the_crop_size_is_rejected():
    dataset = RandomSamples()
    dataset.opt = {'gt_size': 4}.copy()
    dataset.__class__ = type(
        'Stubborn', (RandomSamples,), {'__getitem__': lambda self, index: {'gt': torch.zeros(1, 5, 5)}}
    )
    with pytest.raises(UserError, match='crops of 4x4 pixels, but Stubborn returns 5x5'):
        batches(loader(dataset, steps=[Step(1, 2, 4)]))


@pytest.mark.parametrize('workers', [0, 1])
def test_damaged_samples_are_replaced_deterministically(caplog, workers):
    made = loader(RandomSamples(damaged=[2, 5]), max_damaged=2, num_workers=workers)
    found = batches(made)
    assert len(made.damaged) == 2
    assert not torch.isin(torch.cat([batch['gt'] for batch in found]), torch.tensor([2, 5])).any()
    assert caplog.text.count('2.png') == 1 and 'AttributeError' in caplog.text
    torch.testing.assert_close(
        numbers(found), numbers(batches(loader(RandomSamples([2, 5]), max_damaged=2))), rtol=0, atol=0
    )


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('damaged, allowed', [([2, 5], 1), ([3], 0), (range(6), 99)])
def test_too_many_damaged_samples_stop_the_training(workers, damaged, allowed):
    with pytest.raises(UserError, match=r'\d.png.*cannot be read.*max_damaged is'):
        batches(loader(RandomSamples(damaged), max_damaged=allowed, num_workers=workers))


class Deadly(RandomSamples):
    """Samples, one of which kills the worker process that loads it for the first time."""

    def __init__(self, marker):
        super().__init__()
        self.marker = marker

    def __getitem__(self, index):
        if index == 3 and torch.utils.data.get_worker_info() and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.fixture
def impatient(monkeypatch):
    """Let the loader check ten times per second whether its workers are alive."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, '__defaults__', (0.1,))


@pytest.mark.posix
@pytest.mark.parametrize('prefetching', [False, True])
def test_batches_of_a_killed_worker_are_loaded_in_this_process(tmp_path, impatient, prefetching):
    patches.apply()
    from basicsr.data.prefetch_dataloader import PrefetchDataLoader

    faults = []
    settings = {'loader': partial(PrefetchDataLoader, 1)} if prefetching else {}
    made = loader(Deadly(tmp_path / 'killed'), num_workers=1, on_killed_worker=faults.append, **settings)
    found = batches(made)
    (fault,) = faults
    assert isinstance(fault, UserError) and 'Lower datasets.train.num_worker_per_gpu, which starts 1 pro' in str(fault)
    torch.testing.assert_close(numbers(found), numbers(batches(loader())), rtol=0, atol=0)


@pytest.mark.posix
def test_a_worker_may_be_killed_before_the_first_batch_is_read(tmp_path, impatient):
    marker = tmp_path / 'killed'

    class Late(DataLoader):
        def __iter__(self):
            first, found = not marker.exists(), super().__iter__()
            if first:
                found._workers[0].join()
            return found

    faults = []
    settings = {'loader': Late, 'prefetch_factor': 3}  # all samples of an epoch
    found = batches(loader(Deadly(marker), num_workers=1, on_killed_worker=faults.append, **settings))
    assert len(faults) == 1 and 'SIGKILL' in str(faults[0])
    torch.testing.assert_close(numbers(found), numbers(batches(loader())), rtol=0, atol=0)


@pytest.mark.posix
@pytest.mark.parametrize('number', LEAVE_SIGNALS, ids=lambda number: number.name)
def test_a_signal_to_a_worker_that_starts_is_ignored(monkeypatch, number):
    set_handlers = signal_handling._set_worker_signal_handlers

    def set_handlers_and_signal():
        set_handlers()
        os.kill(os.getpid(), number)

    monkeypatch.setattr(signal_handling, '_set_worker_signal_handlers', set_handlers_and_signal)
    found = batches(loader(num_workers=1, multiprocessing_context='fork'))
    torch.testing.assert_close(numbers(found), numbers(batches(loader())), rtol=0, atol=0)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(LEAVE_SIGNALS)


@pytest.mark.posix
def test_a_worker_may_close_its_files_before_its_exit_status_is_known():
    class Dying:
        exitcode = None

        def __init__(self):
            self.sentinel, writer = os.pipe()
            os.close(writer)

        def join(self, timeout):
            self.exitcode = -signal.SIGTERM

    made = loader()
    made._processes = [process := Dying()]
    assert made._loss_of_worker(RuntimeError('connection refused')) == 'SIGTERM'
    os.close(process.sentinel)


@pytest.mark.posix
def test_killed_worker_is_an_error_between_two_batches(monkeypatch, tmp_path, impatient):
    monkeypatch.setattr(signal_handling, '_SIGCHLD_handler_set', False)
    signal_handling._set_SIGCHLD_handler()  # as another loader in this process may have done
    made = loader(Deadly(tmp_path / 'killed'), num_workers=1)
    with pytest.raises(UserError, match=r'process that loads training data failed \(SIGKILL\), .*memory'):
        batches(made)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL  # otherwise PyTorch raises the error at any time


@pytest.mark.posix
def test_lack_of_shared_memory_is_explained(monkeypatch):
    text = 'RuntimeError: unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)'

    def fail(self):
        raise RuntimeError('Caught RuntimeError in DataLoader worker process 0.\nTraceback\n' + text)
        yield

    monkeypatch.setattr(torch.utils.data.DataLoader, '__iter__', fail)
    with pytest.raises(UserError, match=r'No space left on device .*/dev/shm'):
        batches(loader())


def test_announcements_are_logged_at_their_iteration(caplog):
    caplog.set_level('INFO')
    made = loader(announcements={4: 'larger crops'})
    made.plan.set_epoch(1)
    stream = iter(made)
    next(stream)
    assert 'larger crops' in caplog.text


class Watched(Dataset):
    """Samples of a dataset, with the ID of the loading process."""

    def __init__(self, dataset):
        self.dataset, self.opt = dataset, dataset.opt

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        sample = self.dataset[index]
        return {'lq': sample['lq'], 'gt': sample['gt'], 'process': os.getpid()}


@pytest.fixture
def from_databases(tmp_path, write_lmdb):
    """A mixture of pairs, synthetic blur and a nested mixture of both: twelve samples from two databases."""
    for name in ('blur', 'sharp'):
        write_lmdb(f'{name}.lmdb', 'ab')
    roots = {'dataroot_lq': f'{tmp_path}/blur.lmdb', 'dataroot_gt': f'{tmp_path}/sharp.lmdb'}
    pairs = {'type': 'PairedDeblurDataset', **roots}
    shaken = {'type': 'SyntheticBlurDataset', 'dataroot_gt': roots['dataroot_gt'], 'samples_per_image': 1}
    deeprftv2_plugin.register()
    parts = [pairs, shaken, {'type': 'MixedDataset', 'parts': [pairs, shaken]}]
    return MixedDataset({'name': 'Toy', 'phase': 'train', 'gt_size': 8, 'parts': parts})


@pytest.mark.parametrize('start', [pytest.param('fork', marks=pytest.mark.posix), 'spawn'])
def test_processes_read_the_same_databases(from_databases, start):
    """The parent process reads from them first. The samples are the same as without workers."""
    dataset = Watched(from_databases)
    steps = [Step(1, 2, 8), Step(4, 2, [6, 10])]
    expected = batches(loader(dataset, steps))
    made = loader(dataset, steps, num_workers=2, persistent_workers=True, multiprocessing_context=start)
    found = batches(made)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours['lq'], theirs['lq']) and torch.equal(ours['gt'], theirs['gt'])
    assert len(dataset) == sum(len(batch['lq']) for batch in found)
    processes = {process for batch in found for process in batch['process'].tolist()}
    assert len(processes) == 2 and os.getpid() not in processes
