"""The training data loader. Batches do not depend on the number of workers, and damaged images are replaced."""

import contextlib
import logging
import multiprocessing
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data._utils import signal_handling

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.data.loading.plan import Draw, Plan
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, UserError


def seed_everything(*numbers: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch with nonnegative integers."""
    first, second, third = np.random.SeedSequence(numbers).generate_state(3).tolist()
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)


class DrawnDataset(Dataset):
    """Samples of a dataset, indexed by the draws of a plan, each with its own random seed.

    A sample that cannot be loaded is replaced by another one, which depends only on the draw.

    Args:
        dataset: A map-style dataset. If it crops, it reads ``dataset.opt['gt_size']`` for every sample.
        seed: Seeds the global generators, together with the position of the draw.
        max_damaged: Number of different samples that may fail for one draw.
        setup: A module-level function that a worker process calls before it unpickles the dataset, for example to
            register its class. Forked workers unpickle nothing and do not call it.
    """

    def __init__(self, dataset: SizedDataset, seed: int, max_damaged: int, setup: Callable[[], None] | None = None):
        self.dataset, self.seed, self.max_damaged, self.setup = dataset, seed, max_damaged, setup

    def __getstate__(self) -> dict[str, Any]:
        first = {'called': _CallWhenUnpickled(self.setup)} if self.setup else {}
        return {**first, **self.__dict__}  # unpickled in this order

    def __getitem__(self, draw: Draw) -> tuple[dict[str, Any], list[str]]:
        """Return the sample and, if it replaces others, an error message for each sample that failed.

        Raises:
            UserError: More than `max_damaged` samples failed.
        """
        if draw.gt_size is not None:
            self.dataset.opt['gt_size'] = draw.gt_size
        errors: dict[int, str] = {}
        index = draw.sample
        while True:
            seed_everything(self.seed, draw.position, len(errors))
            try:
                sample = self.dataset[index]
                break
            except Exception as error:  # datasets of other packages can raise any exception
                errors[index] = self._describe(index, error)
            remaining = [each for each in range(len(self.dataset)) if each not in errors]
            damaged = len(set(errors.values()))
            if damaged > self.max_damaged or not remaining:
                raise too_many_damaged(errors[index], damaged, self.max_damaged)
            index = random.choice(remaining)
        if draw.gt_size is not None:
            self._check_crop(sample, draw.gt_size)
        return sample, list(errors.values())

    def _describe(self, index: int, error: Exception) -> str:
        if isinstance(error, UserError):
            return str(error)
        paths = getattr(self.dataset, 'paths', None)  # attributes with the file names in BasicSR's datasets
        name = paths[index] if isinstance(paths, list) and index < len(paths) else f'sample {index}'
        name = name.get('lq_path', name) if isinstance(name, dict) else name
        return f'{name} cannot be read: {type(error).__name__}: {error}'

    def _check_crop(self, sample: dict[str, Any], gt_size: int | list[int]) -> None:
        expected = crop_size(gt_size)
        if 'gt' in sample and tuple(sample['gt'].shape[-2:]) != expected:
            raise UserError(
                f'a stage needs crops of {expected[0]}x{expected[1]} pixels, but {type(self.dataset).__name__} returns '
                '{}x{}'.format(*sample['gt'].shape[-2:])
            )


class _CallWhenUnpickled:
    """Call a function in the process that unpickles this object."""

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def __reduce__(self):
        return self.function, ()


class TrainLoader:
    """Iterable over the batches of the current epoch of a plan.

    Args:
        dataset: A map-style dataset.
        plan: Determines the samples and crops of each batch.
        seed: Seed of the augmentation.
        max_damaged: Number of different samples that may fail in the whole training.
        announcements: Messages to log at the start of iterations.
        on_killed_worker: Called with an explanatory error when a worker process was killed. It may raise.
            Otherwise, this process loads the remaining batches of the epoch.
        log: Logs the announcements, and a warning when a sample fails for the first time.
        loader: The loader class.
        setup: Prepares a worker process that is not forked, see :class:`DrawnDataset`.
        settings: Further arguments of the loader: `num_workers`, `pin_memory`, ...
    """

    def __init__(
        self,
        dataset: SizedDataset,
        plan: Plan,
        seed: int,
        max_damaged: int = 0,
        announcements: Mapping[int, str] | None = None,
        on_killed_worker: Callable[[UserError], object] | None = None,
        log: logging.Logger | None = None,
        loader: Callable[..., DataLoader] = DataLoader,
        setup: Callable[[], None] | None = None,
        **settings: Any,
    ):
        self.dataset, self.plan, self.max_damaged = dataset, plan, max_damaged
        self.announcements, self.log = announcements or {}, log or logging.getLogger(__name__)
        self.on_killed_worker = on_killed_worker or _raise
        self.damaged: set[str] = set()
        Finalize(None, _kill_workers, exitpriority=1)
        if settings.get('num_workers') and multiprocessing.get_start_method() == 'forkserver':
            # With 'forkserver', the default on Linux since Python 3.14, signals that stop a training also kill the
            # server and the workers, and each worker imports PyTorch again.
            settings.setdefault('multiprocessing_context', 'fork')
        self.workers = settings.get('num_workers', 0)
        self._processes: list[Any] = []
        self._drawn = DrawnDataset(dataset, seed, max_damaged, setup)
        self._loader = loader(
            dataset=self._drawn,
            batch_sampler=plan,
            collate_fn=_collate,
            worker_init_fn=_ignore_signals,
            **settings,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for iteration, (batch, errors) in zip(self.plan.iterations, self._batches(), strict=True):
            for reason in errors:
                self._record_damage(reason)
            if iteration in self.announcements:
                self.log.info(self.announcements[iteration])
            yield batch

    def _batches(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        made = 0
        try:
            for batch in self._start():
                made += 1
                yield batch
            return
        except (RuntimeError, EOFError, OSError) as error:
            reason = self._loss_of_worker(error)
            if reason is None:
                raise
        self.on_killed_worker(
            UserError(
                f'a process that loads training data failed ({reason}), most likely because memory or shared memory '
                f'(/dev/shm) ran out. Lower datasets.train.num_worker_per_gpu, which starts {self.workers} processes '
                'here, or provide more memory'
            )
        )
        for draws in islice(self.plan, made, None):
            yield _collate([self._drawn[draw] for draw in draws])

    def _start(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        _do_not_raise_in_steps()
        with _signals_held_back():
            batches = iter(self._loader)
        # not multiprocessing.active_children(), which leaves out a worker that was killed already
        self._processes = getattr(getattr(batches, 'generator', batches), '_workers', [])
        return batches

    def _loss_of_worker(self, error: Exception) -> str | None:
        """Return how a worker process ended if that explains an error of PyTorch, or None."""
        if str(error).startswith('Caught '):  # an error of the dataset in a worker
            return str(error).strip().splitlines()[-1] if 'shared memory' in str(error) else None
        if not self._processes:
            return None
        ended = wait([process.sentinel for process in self._processes], timeout=10)
        for process in self._processes:
            if process.sentinel in ended:
                process.join(10)  # its files are closed before its exit status is known
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        if not codes:
            return None
        return signal.Signals(-codes[0]).name if codes[0] < 0 else f'exit status {codes[0]}'

    def _record_damage(self, reason: str) -> None:
        if reason in self.damaged:
            return
        self.damaged.add(reason)
        if len(self.damaged) > self.max_damaged:
            raise too_many_damaged(reason, len(self.damaged), self.max_damaged)
        self.log.warning(f'{reason}. It is skipped ({len(self.damaged)} of at most {self.max_damaged} damaged images)')


def first_batch(dataset: SizedDataset, plan: Plan, seed: int, max_damaged: int = 0) -> dict[str, Any] | None:
    """Load the first remaining batch of a plan in this process; return None if no batch remains.

    Args:
        dataset: A map-style dataset.
        plan: Determines the samples and crops of the batch.
        seed: Seed of the augmentation.
        max_damaged: Number of different samples that may fail for one draw.

    Raises:
        UserError: More than `max_damaged` samples failed for one draw.
    """
    plan.set_epoch(plan.epoch_of(plan.done + 1))
    samples = DrawnDataset(dataset, seed, max_damaged)
    return next((_collate([samples[draw] for draw in draws])[0] for draws in plan), None)


def too_many_damaged(reason: str, number: int, allowed: int) -> UserError:
    """Return the error for the sample that exceeds the limit."""
    return UserError(
        f'{reason}. That is damaged image number {number}, and datasets.train.max_damaged is {allowed}: '
        'repair the data, or increase max_damaged'
    )


def _collate(samples: list[tuple[dict[str, Any], list[str]]]) -> tuple[dict[str, Any], list[str]]:
    return default_collate([sample for sample, _ in samples]), [error for _, errors in samples for error in errors]


def _raise(error: UserError) -> None:
    raise error


def _do_not_raise_in_steps() -> None:
    """Let PyTorch install no handler of SIGCHLD, which raises an error about a killed worker in the middle of a step.

    The loader still detects a killed worker within seconds when it waits for a batch.
    """
    signal_handling._SIGCHLD_handler_set = True
    if hasattr(signal, 'SIGCHLD') and threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, '__module__', '') == signal_handling.__name__:  # of another loader
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Deliver signals that are sent to all processes of a run after the block, and never to processes started in it.

    PyTorch lets SIGTERM kill a worker until `_ignore_signals` is called there.
    """
    if not hasattr(signal, 'pthread_sigmask'):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_workers() -> None:
    """Kill the workers at exit. They ignore SIGTERM, which multiprocessing sends before it waits for them."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _ignore_signals(worker: int) -> None:
    """Ignore signals that are sent to all processes of a run, so that workers run until the parent has saved."""
    for number in LEAVE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
