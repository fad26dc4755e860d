"""Work on pictures by as many processes as there are cores."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from typing import TypeVar

import cv2

from deeprftv2_plugin.utils.errors import UserError

Item = TypeVar('Item')
Result = TypeVar('Result')


class Workers:
    """A process for every core that this one may use; they end with this process, however it does.

    They are there when the context is entered, before any database is open: LMDB forbids to take one across a fork.
    """

    def __init__(self):
        available = getattr(os, 'sched_getaffinity', None)
        self.count = len(available(0)) if available else os.cpu_count() or 1
        if sys.platform == 'win32':
            self.count = min(self.count, 61)  # Windows cannot wait for more processes
        self._executor = ProcessPoolExecutor(self.count, initializer=_begin)

    def __enter__(self) -> 'Workers':
        self._executor.submit(os.getpid).result()
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, of which at most two for every process are under way or waiting.

        Raises:
            UserError: A process was killed.
        """
        waiting = deque()
        try:
            for item in items:
                waiting.append(self._executor.submit(function, item))
                if len(waiting) == 2 * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                'a process that worked on the pictures was killed, as happens where memory is short: see the log of '
                'the system, and start again'
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _begin():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the workers
    cv2.setNumThreads(0)  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """An executor's processes would wait for work for ever after their parent was killed."""
    connection.wait([parent_process().sentinel])
    os._exit(1)
