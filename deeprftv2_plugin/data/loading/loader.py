"""Batches by a plan, made by worker processes: the same whatever their number, and not stopped by a damaged picture."""

import logging
import multiprocessing
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.util import Finalize

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.data.loading.plan import Draw, Plan
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, UserError


def seed_everything(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's own generators by whole numbers from 0 up."""
    first, second, third = np.random.SeedSequence(numbers).generate_state(3).tolist()
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)


class DrawnDataset(Dataset):
    """Samples of a data set as a plan draws them, each with randomness of its own.

    In the place of a sample that cannot be made comes another one, which its draw decides.

    Args:
        dataset: Gives samples by index. Its crop, if any, is ``dataset.opt['gt_size']`` whenever it makes a sample.
        seed: Seeds, with the number of the draw, the generators from which the data set takes its random numbers.
        max_damaged: How many may fail in the place of one, for different reasons: these name the pictures.
        setup: A module's function that a worker process calls before it unpickles the data set, for example to
            register its class. Forked workers unpickle nothing and do not call it.
    """

    def __init__(self, dataset: Dataset, seed: int, max_damaged: int, setup: Callable[[], None] | None = None):
        self.dataset, self.seed, self.max_damaged, self.setup = dataset, seed, max_damaged, setup

    def __getstate__(self) -> dict:
        first = {'called': _CallWhenUnpickled(self.setup)} if self.setup else {}
        return {**first, **self.__dict__}  # unpickled in this order

    def __getitem__(self, draw: Draw) -> tuple[dict, list[str]]:
        """The sample, and the reason for each one that failed in its place.

        Raises:
            UserError: More of them failed than are allowed.
        """
        if draw.gt_size is not None:
            self.dataset.opt['gt_size'] = draw.gt_size
        faults, index = {}, draw.index
        while True:
            seed_everything(self.seed, draw.number, len(faults))
            try:
                sample = self.dataset[index]
                break
            except Exception as error:  # data sets of other packages raise what they like
                faults[index] = self._describe(index, error)
            whole = [each for each in range(len(self.dataset)) if each not in faults]
            damaged = len(set(faults.values()))
            if damaged > self.max_damaged or not whole:
                raise too_many_damaged(faults[index], damaged, self.max_damaged)
            index = random.choice(whole)
        if draw.gt_size is not None:
            self._check_crop(sample, draw.gt_size)
        return sample, list(faults.values())

    def _describe(self, index, error):
        if isinstance(error, UserError):
            return str(error)
        paths = getattr(self.dataset, 'paths', None)  # BasicSR's data sets keep the names there
        name = paths[index] if isinstance(paths, list) and index < len(paths) else f'sample {index}'
        name = name.get('lq_path', name) if isinstance(name, dict) else name
        return f'{name} cannot be read: {type(error).__name__}: {error}'

    def _check_crop(self, sample, gt_size):
        wanted = crop_size(gt_size)
        if 'gt' in sample and tuple(sample['gt'].shape[-2:]) != wanted:
            raise UserError(
                f'a stage asks for crops of {wanted[0]}x{wanted[1]} pixels, but {type(self.dataset).__name__} gives '
                '{}x{}'.format(*sample['gt'].shape[-2:])
            )


class _CallWhenUnpickled:
    """Call a function in the process that unpickles this object."""

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def __reduce__(self):
        return self.function, ()


class TrainLoader:
    """Iterates over the batches that a plan has for an epoch.

    Args:
        dataset: Gives samples by index.
        plan: Says what is drawn.
        seed: Seeds what is random in the samples.
        max_damaged: How many different samples may fail; one more ends the training.
        announcements: What is to be said when an iteration begins.
        log: Takes the announcements, and a sentence for each sample that fails for the first time.
        loader: Class of the loader.
        setup: Prepares a worker process that is not forked, see :class:`DrawnDataset`.
        settings: Further arguments of it: `num_workers`, `pin_memory`, ...
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: Plan,
        seed: int,
        max_damaged: int = 0,
        announcements: Mapping[int, str] | None = None,
        log: logging.Logger | None = None,
        loader: Callable[..., DataLoader] = DataLoader,
        setup: Callable[[], None] | None = None,
        **settings: object,
    ):
        self.dataset, self.plan, self.max_damaged = dataset, plan, max_damaged
        self.announcements, self.log = announcements or {}, log or logging.getLogger(__name__)
        self.damaged = set()
        Finalize(None, _kill_workers, exitpriority=1)
        if settings.get('num_workers') and multiprocessing.get_start_method() == 'forkserver':
            # Linux' default from Python 3.14 on. Its server dies of the signals that ask a training to leave, and takes
            # the workers along; it also imports PyTorch anew in each of them.
            settings.setdefault('multiprocessing_context', 'fork')
        drawn = DrawnDataset(dataset, seed, max_damaged, setup)
        self._loader = loader(
            dataset=drawn,
            batch_sampler=plan,
            collate_fn=_collate,
            worker_init_fn=_leave_signals_to_parent,
            **settings,
        )

    def __iter__(self) -> Iterator[dict]:
        for iteration, (batch, faults) in zip(self.plan.iterations, self._loader, strict=True):
            for reason in faults:
                self._note(reason)
            if iteration in self.announcements:
                self.log.info(self.announcements[iteration])
            yield batch

    def _note(self, reason):
        if reason in self.damaged:
            return
        self.damaged.add(reason)
        if len(self.damaged) > self.max_damaged:
            raise too_many_damaged(reason, len(self.damaged), self.max_damaged)
        self.log.warning(
            f'{reason}. It is left out ({len(self.damaged)} of at most {self.max_damaged} damaged pictures)'
        )


def too_many_damaged(reason: str, number: int, allowed: int) -> UserError:
    """The error about the sample that is one too many."""
    return UserError(
        f'{reason}. That is damaged picture number {number}, and datasets.train.max_damaged is {allowed}: mend the '
        'data, or raise the number of those that may be left out'
    )


def _collate(samples):
    return default_collate([sample for sample, _ in samples]), [fault for _, faults in samples for fault in faults]


def _kill_workers():
    """Before multiprocessing waits for its children: the workers do not heed the signal by which it ends them."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _leave_signals_to_parent(_):
    """What ends a run is sent to all its processes; the workers have to live on while the parent saves its state."""
    for each in LEAVE_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
