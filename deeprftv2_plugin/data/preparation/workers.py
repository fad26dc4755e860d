"""A process pool for image processing."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from typing import TypeVar

import cv2

from deeprftv2_plugin.utils.errors import UserError

Item = TypeVar('Item')
Result = TypeVar('Result')


class Workers:
    """Context manager for one process per available core. The processes also end if this process is killed.

    Entering the context starts the processes, so that no database is open yet: LMDB must not be used across a fork.
    """

    def __init__(self) -> None:
        available = getattr(os, 'sched_getaffinity', None)
        self.count = len(available(0)) if available else os.cpu_count() or 1
        if sys.platform == 'win32':
            self.count = min(self.count, 61)  # Windows cannot wait for more processes
        self._executor = ProcessPoolExecutor(self.count, initializer=_initialize)

    def __enter__(self) -> 'Workers':
        self._executor.submit(os.getpid).result()
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in the order of the items, with at most two items per process in flight.

        Raises:
            UserError: A process was killed.
        """
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(self._executor.submit(function, item))
                if len(pending) == 2 * self.count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                'a worker process was killed, possibly because memory ran out: check the system log and try again'
            ) from error
        finally:
            for future in pending:
                future.cancel()


def _initialize() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the workers
    cv2.setNumThreads(0)  # there is already one process per core
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent process ends. The processes of an executor would otherwise wait for work forever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
