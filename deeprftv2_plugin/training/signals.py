"""Signals on which training saves its state and stops."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, SAVED, STOPPED

_received: signal.Signals | None = None


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


def _record(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
    if number == signal.SIGINT:
        os.write(2, b'\nCtrl-C: saving the state after this step. Press Ctrl-C again to stop immediately.\n')
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def requested() -> signal.Signals | None:
    """Return the last recorded signal, or None."""
    return _received


def exit_status(request: signal.Signals | None) -> int:
    """Return the exit status for a recorded signal; None if another process received it."""
    return STOPPED if request == signal.SIGINT else SAVED
