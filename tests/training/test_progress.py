"""Progress bar on a terminal and without one."""

import io
import logging

import pytest
from basicsr.utils import get_root_logger

from deeprftv2_plugin.training.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fake_terminal(monkeypatch):
    """Replace stderr, to which BasicSR's logger also writes, by a fake terminal."""
    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    logger = get_root_logger()
    handler = logging.StreamHandler()
    monkeypatch.setattr(logger, 'handlers', [handler])
    monkeypatch.setattr(logger, 'level', logging.INFO)
    monkeypatch.setattr(logger, '_cache', {})
    return terminal


def test_bar_shows_loss_rate_and_remaining_time(monkeypatch):
    terminal = fake_terminal(monkeypatch)
    bar = ProgressBar(total=4, done=1)
    for current_iter in (2, 3, 4):
        bar.advance(current_iter, loss=0.25, learning_rate=1e-3)
    last = terminal.getvalue().rstrip('\n').split('\r')[-1]
    assert '4/4' in last and 'loss 0.2500, lr 1.00e-03' in last
    assert '<' in last  # elapsed < remaining
    assert terminal.getvalue().endswith('\n')


def test_log_lines_are_separate_from_the_bar(monkeypatch):
    terminal = fake_terminal(monkeypatch)
    bar = ProgressBar(total=2)
    bar.advance(1, 0.5, 0.1)
    get_root_logger().info('first line')
    bar.advance(2, 0.5, 0.1)
    get_root_logger().info('second line')
    lines = terminal.getvalue().replace('\r', '\n').split('\n')
    assert [line for line in lines if 'line' in line] == ['first line', 'second line']


@pytest.mark.parametrize('done', [0, 5])
def test_bar_starts_at_the_resumed_iteration(monkeypatch, done):
    terminal = fake_terminal(monkeypatch)
    bar = ProgressBar(total=10, done=done)
    bar.advance(done + 1, 0.5, 0.1)
    bar.close()
    assert f'{done + 1}/10' in terminal.getvalue()


def test_nothing_is_written_without_a_terminal(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr('sys.stderr', file)
    bar = ProgressBar(total=2)
    bar.advance(1, 0.5, 0.1)
    bar.advance(2, 0.5, 0.1)
    assert file.getvalue() == ''


def test_hidden_bar_writes_nothing(monkeypatch):
    terminal = fake_terminal(monkeypatch)
    ProgressBar(total=1, visible=False).advance(1, 0.5, 0.1)
    assert terminal.getvalue() == ''
