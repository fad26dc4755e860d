"""The worst images of a test, saved without holding all images in memory."""

import heapq
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from deeprftv2_plugin.data.storage.images import write_png
from deeprftv2_plugin.evaluation.validation import ImageScore, side_by_side

COUNT = 10
MAX_NAME = 200
"""Maximum number of bytes of an image's name in a file name. Most file systems allow 255 bytes in total."""


class WorstImages:
    """The worst images of a dataset by one metric.

    Each process holds at most `count` images, the worst of its share. At the end, every process knows all scores,
    determines which of its images are among the worst overall, and writes those.

    Args:
        metric: Name of the metric.
        better: 'higher' or 'lower', whichever is better.
        count: Number of images.
    """

    def __init__(self, metric: str, better: str = 'higher', count: int = COUNT):
        self.metric, self.better, self.count = metric, better, count
        self._held: list[tuple[tuple[float, int], str, np.ndarray]] = []

    def consider(self, index: int, score: ImageScore, images: Sequence[np.ndarray]) -> None:
        """Keep the images of a sample if it is among the worst so far.

        Args:
            index: Index in the dataset. Of two images with equal scores, the first counts as worse.
            score: Metrics of the restored image.
            images: Blurry, restored and, if available, sharp image, (H, W, 3), BGR.
        """
        rank = (self._badness(score), -index)
        if len(self._held) == self.count and rank < self._held[0][0]:
            return
        row = side_by_side(images, max(image.shape[0] for image in images))
        heapq.heappush(self._held, (rank, score.name, row))
        if len(self._held) > self.count:
            heapq.heappop(self._held)

    def ranking(self, scores: Sequence[ImageScore]) -> Iterator[ImageScore]:
        """Yield the scores of the worst images of the whole dataset, worst first."""
        return iter(heapq.nsmallest(self.count, scores, lambda score: -self._badness(score)))

    def write(self, folder: Path, scores: Sequence[ImageScore]) -> None:
        """Write the worst images held by this process as PNG files named after rank, score and image.

        Args:
            folder: Folder, created if needed.
            scores: Scores of the whole dataset in its order.

        Raises:
            OSError: A file cannot be written.
        """
        held = {name: image for _, name, image in self._held}
        for rank, score in enumerate(self.ranking(scores), 1):
            if score.name in held:
                name = os.fsdecode(os.fsencode(score.name.replace(os.sep, '_'))[-MAX_NAME:])
                write_png(folder / f'{rank:02d}_{score.metrics[self.metric]:.4f}_{name}.png', held[score.name])

    def _badness(self, score: ImageScore) -> float:
        """Return a number that is greater for worse images. NaN counts as the worst."""
        value = score.metrics[self.metric]
        return math.inf if math.isnan(value) else value if self.better == 'lower' else -value
