"""Loggers that fail cause a warning."""

import logging
import os
import threading

import pytest
from basicsr import train
from basicsr.utils import get_root_logger

from deeprftv2_plugin.basicsr_bridge import loggers
from deeprftv2_plugin.basicsr_bridge.start import forget_logger


@pytest.fixture
def log(caplog, monkeypatch):
    """Capture BasicSR's log, without its handlers."""
    forget_logger()
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    yield caplog
    forget_logger()


class FullDisk:
    """A file on a full disk."""

    name = 'full'

    def write(self, text):
        raise OSError(28, 'No space left on device')

    flush = close = lambda self: self.write('')


class Writer:
    """TensorBoard's writer, which fails at the second value."""

    def __init__(self):
        self.values = []

    def add_scalar(self, tag, value, step):
        if self.values:
            raise OSError(28, 'No space left on device')
        self.values.append(value)


def test_board_is_switched_off_after_an_error(log):
    writer = Writer()
    board = loggers.Board(lambda: writer)
    assert board  # as BasicSR asks
    for step in range(4):
        board.add_scalar('loss', 0.5, step)
    board.close()
    assert writer.values == [0.5]
    assert log.text.count('TensorBoard failed: OSError: [Errno 28] No space left on device.') == 1


def test_board_that_cannot_be_opened_is_switched_off(log, tmp_path):
    (tmp_path / 'file').touch()
    board = loggers.Board((tmp_path / 'file' / 'events').read_text)
    board.add_image('image', None, 1, dataformats='HWC')
    assert log.text.count('TensorBoard failed: NotADirectoryError') == 1


def test_errors_in_tensorboards_thread_are_not_printed(capsys):
    class Thread(threading.Thread):
        def run(self):
            raise OSError('as on a full disk')

    ours = type('Ours', (Thread,), {'__module__': 'tensorboard.summary.writer.event_file_writer'})
    with loggers.tolerated_failures(train), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, 'excepthook', loggers._hide_errors_of_board(threading.__excepthook__))
        for kind in (ours, Thread):
            thread = kind(name=kind.__name__)
            thread.start()
            thread.join()
    printed = capsys.readouterr().err
    assert 'in thread Thread' in printed and 'in thread Ours' not in printed


def test_wandb_that_fails_is_a_warning(log, monkeypatch):
    def fail(opt):
        raise ConnectionError('no route to host')

    monkeypatch.setattr(loggers, 'init_wandb_logger', fail)
    with loggers.tolerated_failures(train):
        train.init_wandb_logger({})
    assert 'wandb failed: ConnectionError: no route to host. The run continues without it.' in log.text


def test_lines_of_the_log_that_cannot_be_written_are_written_later(log, tmp_path, capsys):
    with loggers.tolerated_failures(train):
        forget_logger()
        logger = train.get_root_logger(log_level=logging.INFO, log_file=str(tmp_path / 'a.log'))
    file = next(each for each in logger.handlers if isinstance(each, logging.FileHandler))
    whole, file.stream = file.stream, FullDisk()
    logger.info('first')
    logger.info('second')
    file.stream = whole
    logger.info('third ä')
    assert (tmp_path / 'a.log').read_text('utf-8').endswith('INFO: third ä\n')
    printed = capsys.readouterr().err
    assert printed.count('a.log cannot be written: No space left on device. The run continues.') == 1
    assert 'Traceback' not in printed
    file.stream = FullDisk()
    file.close()


def test_log_file_that_cannot_be_created_is_a_warning(log, tmp_path, capsys):
    forget_logger()
    logger = loggers.open_log(log_level=logging.INFO, log_file=str(tmp_path / 'missing/a.log'))
    logger.info('shown')
    printed = capsys.readouterr().err
    assert 'a.log cannot be created: No such file or directory. The run continues without it.' in printed
    assert 'INFO: shown' in printed


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes on this system')
@pytest.mark.parametrize('kind', ['link', 'named pipe'])
def test_log_file_is_never_opened_through_a_link_or_as_a_pipe(log, tmp_path, capsys, kind):
    (tmp_path / 'precious').write_text('unchanged')
    path = tmp_path / 'a.log'
    path.symlink_to('precious') if kind == 'link' else os.mkfifo(path)
    forget_logger()
    loggers.open_log(log_level=logging.INFO, log_file=str(path)).info('shown')
    printed = capsys.readouterr().err
    assert f'a.log cannot be created: it is a {kind}, expected a regular file. The run continues without it.' in printed
    assert 'INFO: shown' in printed and (tmp_path / 'precious').read_text() == 'unchanged'
