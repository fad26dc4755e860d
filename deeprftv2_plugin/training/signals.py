"""Signals that ask a training to leave: it saves its state first, and says by its exit status that it did."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, SAVED, STOPPED

_received = None


@contextmanager
def watched() -> Iterator[None]:
    """While this lasts SIGTERM, SIGUSR1 and the first Ctrl-C only ask to leave; a second Ctrl-C ends the process."""
    global _received
    _received = None
    former = {each: signal.signal(each, _note) for each in LEAVE_SIGNALS}
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _note(number, frame):
    global _received
    _received = signal.Signals(number)
    if number == signal.SIGINT:
        os.write(2, b'\nCtrl-C: leaving after this step, with the state saved. Press it again to leave at once.\n')
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def requested() -> signal.Signals | None:
    """The last signal that asked to leave."""
    return _received


def status_of(request: signal.Signals | None) -> int:
    """The exit status for a signal that asked to leave; None: another process received it."""
    return STOPPED if request == signal.SIGINT else SAVED
