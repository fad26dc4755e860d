"""Restore many photographs, on one or several devices."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn
from tqdm import tqdm

from deeprftv2_plugin.inference.outputs import Job
from deeprftv2_plugin.inference.photographs.photograph import Photograph
from deeprftv2_plugin.inference.photographs.reading import read
from deeprftv2_plugin.inference.photographs.writing import check_target, encode
from deeprftv2_plugin.inference.restorer import Restorer
from deeprftv2_plugin.utils.atomic_io import write_whole, writing
from deeprftv2_plugin.utils.errors import describe_error, printable


class Failure(NamedTuple):
    """An image that could not be restored."""

    job: Job
    reason: str

    def __str__(self) -> str:
        name = printable(str(self.job.source))
        return self.reason if name in self.reason else f'{name}: {self.reason}'


def deblur_files(restorers: Sequence[Restorer], jobs: Sequence[Job], compare: bool = False) -> list[Failure]:
    """Restore images and write the results. If an image fails, the others are still restored.

    Each restorer takes the next image as soon as it has finished one. The progress is shown as a bar on a terminal, and
    as a line for each image otherwise.

    Args:
        restorers: One for each device.
        jobs: Paths of the images and of the results. The folders of the results exist.
        compare: Write the blurry image and the result side by side.

    Returns:
        The images that failed.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    failures: list[Failure] = []
    with Progress(len(jobs)) as progress:

        def work(restorer: Restorer) -> None:
            while not progress.stopped:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    start = time.monotonic()
                    with progress.of_image(restorer.net) as expect:
                        before = read(job.source)
                        height, width = before.pixels.shape[:2]
                        expect(restorer.passes(height, width))
                        deblur(restorer, before, job.target, compare)
                except Exception as error:
                    failures.append(Failure(job, failure_reason(error)))
                    progress.say(f'failed: {failures[-1]}')
                else:
                    progress.say(f'{job.target}: {width}x{height} pixels, {time.monotonic() - start:.1f} s')

        threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in restorers[1:]]
        for thread in threads:
            thread.start()
        work(restorers[0])
        for thread in threads:
            thread.join()
    return failures


def side_by_side(before: Photograph, after: Photograph) -> Photograph:
    """Concatenate two photographs of one size horizontally. Both get the transparency of the first one."""
    alpha = None if before.alpha is None else np.hstack([before.alpha, before.alpha])
    return after._replace(pixels=np.hstack([before.pixels, after.pixels]), alpha=alpha)


def deblur(restorer: Restorer, before: Photograph, target: Path, compare: bool = False) -> Photograph:
    """Restore a photograph, write the result and return it.

    Args:
        restorer: The restorer.
        before: The photograph.
        target: Path of the result. The suffix determines the format.
        compare: Write the blurry image and the result side by side.

    Raises:
        UserError: The format cannot store the photograph, or the file cannot be written.
    """
    format = check_target(before, target, 2 if compare else 1)
    after = restorer.photograph(before)
    data = encode(side_by_side(before, after) if compare else after, format)
    with writing(target):
        write_whole(target, data)
    return after


def failure_reason(error: Exception) -> str:
    """Return the reason why an image was not restored, in one sentence."""
    if isinstance(error, MemoryError):
        return 'not enough memory: close other programs, or cut the image into parts'
    return describe_error(error)


@contextmanager
def parts_of_image(net: nn.Module, advance: Callable[[float], None]) -> Iterator[Callable[[int], None]]:
    """Report the forward passes of a network as fractions of an image.

    The remaining fraction is reported at the end of the block, even on failure.

    Args:
        net: The network.
        advance: Called with the fraction of the image restored since the last call, in [0, 1].

    Yields:
        A function that takes the expected number of passes. There can be more if tiles are halved.
    """
    done, part = 0.0, 0.0
    counting = threading.Lock()

    def expect(passes: int) -> None:
        nonlocal part
        part = 1 / passes

    def count(*_: object) -> None:
        nonlocal done
        with counting:  # tiles are restored by several threads
            step = min(part, 1 - done)
            done += step
        advance(step)

    handle = net.register_forward_hook(count)
    try:
        yield expect
    finally:
        handle.remove()
        advance(1 - done)


class Progress:
    """Show a progress bar with the number of images, including fractions for completed tiles, and the remaining time.

    Args:
        total: Number of images.
    """

    def __init__(self, total: int):
        self.stopped = False
        """Whether the work was interrupted."""
        bar_format = '{percentage:3.0f}%|{bar}| {n:.1f}/{total} images [{elapsed}<{remaining}]'
        self._bar = tqdm(total=total, disable=None, dynamic_ncols=True, bar_format=bar_format)
        self._lock = threading.Lock()

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped = True
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the bar. Errors are ignored, since a closed terminal must not end the work."""
        with suppress(OSError):
            tqdm.write(printable(text))

    def of_image(self, net: nn.Module) -> AbstractContextManager[Callable[[int], None]]:
        """Show the progress of an image, see `parts_of_image`."""
        return parts_of_image(net, self._advance)

    def _advance(self, part: float) -> None:
        with self._lock:
            self._bar.update(part)
