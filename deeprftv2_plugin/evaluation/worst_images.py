"""The worst pictures of a test, kept as pictures, without holding all of them in memory."""

import heapq
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from deeprftv2_plugin.evaluation.validation import Scored, beside
from deeprftv2_plugin.utils.atomic_io import write_whole

COUNT = 10


class Worst:
    """The worst pictures of a data set, by one metric.

    Every process holds at most as many as are wanted: the worst of its own. Since the scores of all pictures become
    known to all processes, each can tell in the end which of its own are among the worst of all, and writes those.

    Args:
        metric: The name of the metric.
        better: 'higher' or 'lower', whichever is better.
        count: How many are wanted.
    """

    def __init__(self, metric: str, better: str = 'higher', count: int = COUNT):
        self.metric, self.better, self.count = metric, better, count
        self._held = []

    def consider(self, index: int, scored: Scored, pictures: Sequence[np.ndarray]) -> None:
        """Hold pictures (H, W, 3), BGR, side by side, if this one is among the worst so far.

        Args:
            index: Of the picture in the data set. Of two that are equally bad, the first counts as worse.
            scored: Its metrics.
            pictures: Blurry, restored and, where it is known, sharp.
        """
        rank = (self._badness(scored), -index)
        if len(self._held) == self.count and rank < self._held[0][0]:
            return
        heapq.heappush(self._held, (rank, beside(pictures, max(picture.shape[0] for picture in pictures))))
        if len(self._held) > self.count:
            heapq.heappop(self._held)

    def ranking(self, found: Sequence[Scored]) -> Iterator[tuple[int, Scored]]:
        """Index and metrics of the worst of a whole data set, the worst first."""
        indices = heapq.nsmallest(self.count, range(len(found)), lambda i: (-self._badness(found[i]), i))
        return ((index, found[index]) for index in indices)

    def write(self, folder: Path, found: Sequence[Scored]) -> None:
        """Write those of the worst that this process holds, as PNG named by rank, score and picture.

        Args:
            folder: Is made where one is written.
            found: The metrics of the whole data set, in its order.

        Raises:
            OSError: The disk is full, ...
        """
        held = {-negative: picture for (_, negative), picture in self._held}
        for rank, (index, scored) in enumerate(self.ranking(found), 1):
            if index in held:
                folder.mkdir(parents=True, exist_ok=True)
                name = f'{rank:02d}_{scored.metrics[self.metric]:.4f}_{scored.name.replace(os.sep, "_")}.png'
                write_whole(folder / name, cv2.imencode('.png', held[index])[1].data)

    def _badness(self, scored):
        """The greater, the worse; what is no number is worst of all."""
        value = scored.metrics[self.metric]
        return math.inf if math.isnan(value) else value if self.better == 'lower' else -value
