"""Requests to stop."""

import os
import signal

import pytest

from deeprftv2_plugin.training import signals
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, UserError

pytestmark = pytest.mark.posix


@pytest.fixture
def default_handlers():
    """Set the handlers of a process that is started from a terminal."""
    former = {each: signal.getsignal(each) for each in LEAVE_SIGNALS}
    for each in LEAVE_SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    yield
    for each, handler in former.items():
        signal.signal(each, handler)


@pytest.mark.parametrize('number', LEAVE_SIGNALS, ids=lambda number: number.name)
def test_signals_are_recorded_within_the_block(default_handlers, number):
    with signals.watched():
        assert signals.requested() is None
        os.kill(os.getpid(), number)
        assert signals.requested() == number
        assert signals.exit_status(number) == (130 if number == signal.SIGINT else 75)
    assert signals.requested() is None
    assert all(signal.getsignal(each) == signal.SIG_DFL for each in LEAVE_SIGNALS)


def test_closing_the_terminal_is_ignored_under_nohup(default_handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.watched():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.requested() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested() == signal.SIGTERM
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_fault_is_a_request_that_ends_with_an_error(default_handlers):
    with signals.watched():
        signals.request(UserError('no memory'))
        assert str(signals.requested()) == 'no memory'
        assert signals.exit_status(signals.requested()) == 1
