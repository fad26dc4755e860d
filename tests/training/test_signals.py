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


def test_other_signals_are_recorded_even_if_they_were_ignored(default_handlers):
    """Some launchers ignore SIGUSR1 and pass that on to the processes that they start."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with signals.watched():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.requested() == signal.SIGUSR1


def test_a_second_ctrl_c_works_when_it_is_announced(default_handlers, monkeypatch):
    handlers = []
    monkeypatch.setattr(os, 'write', lambda *_: handlers.append(signal.getsignal(signal.SIGINT)))
    with signals.watched():
        os.kill(os.getpid(), signal.SIGINT)
    assert handlers == [signal.SIG_DFL]


@pytest.mark.parametrize('by_torchrun', [False, True])
def test_only_the_end_of_torchrun_is_a_request(default_handlers, monkeypatch, capfd, by_torchrun):
    """This process is not its own parent, as if its parent had ended."""
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)
    if by_torchrun:
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', '1')
    with signals.watched():
        with signals.launcher_watched(os.getppid()):
            assert signals.requested() is None
        with signals.launcher_watched(os.getpid()):
            assert signals.requested() == (signal.SIGTERM if by_torchrun else None)
    assert ('torchrun, which started this process, has ended' in capfd.readouterr().err) == by_torchrun


def test_fault_is_a_request_that_ends_with_an_error(default_handlers):
    with signals.watched():
        signals.request(UserError('no memory'))
        assert str(signals.requested()) == 'no memory'
        assert signals.exit_status(signals.requested()) == 1
