"""Messages that C libraries print to the standard error stream. Some decoders report damage only there."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2

STDERR = 2
"""The file descriptor that C libraries write to, independent of `sys.stderr`."""

_logging: Any = getattr(cv2.utils, 'logging', cv2)  # OpenCV 4 has these functions in its main module
LEVEL = 5 if _logging is cv2 else 3
"""OpenCV's log level in a capture: OpenCV 4 reports damage of TIFF files at level DEBUG, later versions at WARNING."""

_lock = threading.Lock()
# A process forked during a capture would otherwise keep writing to the file of the capture.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Capture what OpenCV and other code in the block write to the standard error stream of the process.

    Other threads may write to it too. Pass lines that the caller does not handle on to `show`.

    Yields:
        A list that contains the lines after the block. It stays empty if the stream is closed.
    """
    lines: list[str] = []
    with _lock, contextlib.ExitStack() as stack:
        level = _logging.getLogLevel()
        if level < LEVEL:
            _logging.setLogLevel(LEVEL)
            stack.callback(_logging.setLogLevel, level)
        with contextlib.suppress(OSError):
            original = os.dup(STDERR)
            stack.callback(os.close, original)
            file = stack.enter_context(_memory_file())
            os.dup2(file.fileno(), STDERR)
            stack.callback(_read_lines, file, lines)
            stack.callback(os.dup2, original, STDERR)
        yield lines


def _memory_file() -> BinaryIO:
    if hasattr(os, 'memfd_create'):
        return os.fdopen(os.memfd_create('stderr'), 'w+b', buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _read_lines(file: BinaryIO, lines: list[str]) -> None:
    file.seek(0)
    lines += file.read().decode(errors='replace').splitlines()


def show(lines: list[str]) -> None:
    """Write captured lines to the standard error stream of the process."""
    if lines:
        with contextlib.suppress(OSError):
            os.write(STDERR, '\n'.join([*lines, '']).encode())
