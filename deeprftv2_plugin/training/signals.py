"""Requests to save the state and stop the training: signals, the end of the launcher, and faults of a process."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from deeprftv2_plugin.utils.errors import FAILED, LEAVE_SIGNALS, SAVED, STOPPED, UserError

Request = signal.Signals | UserError
"""A signal, or the error that keeps a process from continuing."""
_received: Request | None = None
_launcher: int | None = None


@contextmanager
def watched() -> Iterator[None]:
    """Record SIGTERM, SIGHUP, SIGUSR1 and the first Ctrl-C instead of stopping the process. A second Ctrl-C stops it.

    SIGHUP, which is sent when a terminal is closed, remains ignored under ``nohup``.
    """
    global _received
    _received = None
    former = {each: signal.signal(each, _record) for each in LEAVE_SIGNALS if not _under_nohup(each)}
    try:
        yield
    finally:
        _received = None
        for each, handler in former.items():
            signal.signal(each, handler)


def _under_nohup(number: signal.Signals) -> bool:
    return number.name == 'SIGHUP' and signal.getsignal(number) == signal.SIG_IGN


@contextmanager
def launcher_watched(parent: int) -> Iterator[None]:
    """Treat the end of torchrun like SIGTERM within the block, since a killed torchrun cannot stop its processes.

    Args:
        parent: The parent process. It is watched only if it is torchrun.
    """
    global _launcher
    _launcher = parent if 'TORCHELASTIC_RUN_ID' in os.environ else None
    try:
        yield
    finally:
        _launcher = None


def _record(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    if number == signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with suppress(OSError):  # the terminal may be closed
            os.write(2, b'\nCtrl-C: saving the state after this step. Press Ctrl-C again to stop immediately.\n')


def request(fault: UserError) -> None:
    """Ask all processes to save the state after this step and stop, because this process cannot continue."""
    global _received
    _received = fault


def requested() -> Request | None:
    """Return the last request, or None."""
    global _received
    if _received is None and launcher_is_gone():
        with suppress(OSError):
            os.write(2, b'torchrun, which started this process, has ended: saving the state after this step.\n')
        _received = signal.SIGTERM
    return _received


def launcher_is_gone() -> bool:
    """Return whether torchrun started this process and has ended since, so that the process has another parent."""
    return _launcher is not None and os.getppid() != _launcher


def exit_status(request: Request | None) -> int:
    """Return the exit status for a request, which is None if only another process has received it."""
    if isinstance(request, UserError):
        return FAILED
    return STOPPED if request == signal.SIGINT else SAVED
