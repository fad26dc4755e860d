"""The assignment of samples to iterations, independent of the number of processes, workers and interruptions.

Training uses one endless stream of samples: epochs over the dataset, each in a different random order. The
position in the stream determines which sample is drawn and how it is augmented. A run that resumes from a position,
with any number of processes, therefore uses the same samples as an uninterrupted run.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch


class Draw(NamedTuple):
    """A sample to load."""

    sample: int
    """Index in the dataset."""
    position: int
    """Position in the stream, which seeds the augmentation."""
    gt_size: int | list[int] | None
    """Crop in pixels, a number or [height, width]. None leaves the option of the dataset unchanged."""


class Step(NamedTuple):
    """A range of iterations with equal batches and crops, from `first` to the start of the next range."""

    first: int
    batch: int
    """Samples per iteration over all processes."""
    gt_size: int | list[int] | None


class Plan:
    """The batches of one process, epoch by epoch: a batch sampler for `DataLoader` that replaces BasicSR's sampler.

    An epoch is one pass over the dataset, enlarged by BasicSR's `dataset_enlarge_ratio`. The last batch of an epoch may
    continue into the next epoch. It belongs to the epoch in which it begins.

    Args:
        length: Number of samples in the dataset.
        steps: Sizes of batches and crops by iteration, in ascending order, starting at iteration 1. Batch sizes are
            multiples of `processes`.
        total: Number of iterations.
        processes: Number of processes that share each batch.
        rank: Rank of this process.
        seed: Seed of the sample order.
        ratio: Number of passes over the dataset per epoch.
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
        self.length, self.ratio, self.epoch_length = length, ratio, math.ceil(length * ratio)
        self.steps, self.total = list(steps), total
        self.processes, self.rank, self.seed = processes, rank, seed
        self.done, self.samples_done = 0, 0
        self.iterations = range(1, 1)
        """The remaining iterations of the current epoch."""
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def resume_after(self, iteration: int, samples: int) -> None:
        """Continue after an iteration, at the end of which `samples` samples of the stream have been used."""
        self.done, self.samples_done = iteration, samples

    def samples_until(self, iteration: int) -> int:
        """Return the number of samples used by the end of an iteration, which must not precede the resumed one."""
        samples, ends = self.samples_done, [step.first - 1 for step in self.steps[1:]] + [self.total]
        for step, end in zip(self.steps, ends, strict=True):
            samples += step.batch * max(0, min(iteration, end) - max(self.done, step.first - 1))
        return samples

    def epoch_of(self, iteration: int) -> int:
        """Return the epoch in which an iteration begins."""
        return self.samples_until(iteration - 1) // self.epoch_length

    def step_of(self, iteration: int) -> Step:
        """Return the batch and crop size of an iteration."""
        return max((step for step in self.steps if step.first <= iteration), key=lambda step: step.first)

    def set_epoch(self, epoch: int) -> None:
        """Select the remaining iterations of an epoch for the next `iter()`."""
        self.iterations = range(self._first_of(epoch), self._first_of(epoch + 1))

    def _first_of(self, epoch: int) -> int:
        """Return the first remaining iteration that begins in an epoch or later, by bisection."""
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
            yield [Draw(self.sample_at(position), position, step.gt_size) for position in range(first, first + share)]

    def sample_at(self, position: int) -> int:
        """Return the index in the dataset of the sample at a position of the stream."""
        epoch, offset = divmod(position, self.epoch_length)
        return int(self._order(epoch)[offset]) % self.length

    def _shuffled(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))
        return torch.randperm(self.epoch_length, generator=generator)
