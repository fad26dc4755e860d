"""Which sample goes into which iteration, whatever the number of processes, of workers and of interruptions.

A training is one endless stream of samples: pass after pass over the data set, each in an order of its own. The
position in this stream decides what is drawn and how it is cropped and turned. So a run that goes on
from a position, with as many processes as there are now, sees what it would have seen.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch


class Draw(NamedTuple):
    """One sample to be made."""

    index: int
    """In the data set."""
    number: int
    """Position in the stream, which seeds whatever is random in it."""
    gt_size: int | list[int] | None
    """Crop in pixels, one number or [height, width]; None leaves it to the data set."""


class Step(NamedTuple):
    """Iterations from `first` on, of equal size, until the next step."""

    first: int
    batch: int
    """Samples that all processes together take in an iteration."""
    gt_size: int | list[int] | None


class Plan:
    """The batches of one process, epoch by epoch; a batch sampler for a `DataLoader`, and BasicSR's sampler.

    An epoch is one pass over the data set, enlarged by BasicSR's `dataset_enlarge_ratio`. A batch at its end may
    reach into the next one; it belongs to the epoch in which it begins.

    Args:
        length: Number of samples in the data set.
        steps: From which iteration on batches and crops are of which size, in the order of their beginnings;
            the first begins at 1. Batches are multiples of `processes`.
        total: The number of iterations.
        processes: How many processes share each batch.
        rank: Which of them this is.
        seed: Decides the order of the samples.
        ratio: How often the data set counts in an epoch.
    """

    def __init__(
        self,
        length: int,
        steps: Sequence[Step],
        total: int,
        processes: int = 1,
        rank: int = 0,
        seed: int = 0,
        ratio: int = 1,
    ):
        self.length, self.epoch_length = length, math.ceil(length * ratio)
        self.steps, self.total = list(steps), total
        self.processes, self.rank, self.seed = processes, rank, seed
        self.done, self.samples_done = 0, 0
        self.iterations = range(1, 1)
        """Those of the present epoch that are still to be done."""
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def go_on_from(self, iteration: int, samples: int) -> None:
        """Begin after an iteration, at the end of which so many samples of the stream had been used."""
        self.done, self.samples_done = iteration, samples

    def samples_until(self, iteration: int) -> int:
        """How many samples of the stream are used at the end of an iteration, not before the one gone on from."""
        samples, ends = self.samples_done, [step.first - 1 for step in self.steps[1:]] + [self.total]
        for step, end in zip(self.steps, ends, strict=True):
            samples += step.batch * max(0, min(iteration, end) - max(self.done, step.first - 1))
        return samples

    def epoch_of(self, iteration: int) -> int:
        """The epoch in which an iteration begins."""
        return self.samples_until(iteration - 1) // self.epoch_length

    def step_of(self, iteration: int) -> Step:
        """Batch and crop of an iteration."""
        return max((step for step in self.steps if step.first <= iteration), key=lambda step: step.first)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration over the plan goes through what of this epoch is still to be done."""
        self.iterations = range(self._first_of(epoch), self._first_of(epoch + 1))

    def _first_of(self, epoch):
        """The first iteration that begins in an epoch or later, by bisection."""
        low, high = self.done + 1, self.total + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.epoch_of(middle) >= epoch else (middle + 1, high)
        return low

    def __len__(self) -> int:
        return len(self.iterations)

    def __iter__(self) -> Iterator[list[Draw]]:
        for iteration in self.iterations:
            step, start = self.step_of(iteration), self.samples_until(iteration - 1)
            share = step.batch // self.processes
            first = start + self.rank * share
            yield [Draw(self.index_of(number), number, step.gt_size) for number in range(first, first + share)]

    def index_of(self, number: int) -> int:
        """The sample of the data set at a position of the stream."""
        epoch, position = divmod(number, self.epoch_length)
        return int(self._order(epoch)[position]) % self.length

    def _shuffled(self, epoch):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))
        return torch.randperm(self.epoch_length, generator=generator)
