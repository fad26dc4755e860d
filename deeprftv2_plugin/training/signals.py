"""Signals on which training saves its state and stops, and the end of the launcher, which counts as one."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, SAVED, STOPPED

_received: signal.Signals | None = None
_launcher: int | None = None


@contextmanager
def watched() -> Iterator[None]:
    """Record SIGTERM, SIGUSR1 and the first Ctrl-C instead of ending the process. A second Ctrl-C ends it."""
    global _received
    _received = None
    former = {each: signal.signal(each, _record) for each in LEAVE_SIGNALS}
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


@contextmanager
def launcher_watched(parent: int) -> Iterator[None]:
    """Within the block, let the end of torchrun count as SIGTERM. Its other processes would live on after SIGKILL.

    Args:
        parent: The process that has started this one. It is watched only if it is torchrun.
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
        os.write(2, b'\nCtrl-C: saving the state after this step. Press Ctrl-C again to stop immediately.\n')
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def requested() -> signal.Signals | None:
    """Return the last recorded signal, or None."""
    global _received
    if _received is None and launcher_is_gone():
        os.write(2, b'torchrun, which started this process, has ended: saving the state after this step.\n')
        _received = signal.SIGTERM
    return _received


def launcher_is_gone() -> bool:
    """Return whether torchrun started this process and has ended since. The process then has another parent."""
    return _launcher is not None and os.getppid() != _launcher


def exit_status(request: signal.Signals | None) -> int:
    """Return the exit status for a recorded signal; None if another process received it."""
    return STOPPED if request == signal.SIGINT else SAVED
