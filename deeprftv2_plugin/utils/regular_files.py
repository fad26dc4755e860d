"""Opening files that the user names, which can turn out to be something other than files."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from deeprftv2_plugin.utils.errors import UserError

_KINDS = (
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a named pipe'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
)


def open_regular(path: str | Path, limit: int) -> BinaryIO:
    """Open a regular file for reading in binary mode.

    Reading a pipe or a device can wait forever or fill the memory. They are refused without reading, or waiting for
    a writer.

    Args:
        path: Path of the file. Links are followed.
        limit: Largest accepted size in bytes.

    Raises:
        UserError: The path is a folder, a pipe, a socket or a device, or the file is larger than the limit.
        OSError: The file is missing or cannot be opened.
    """
    _check_regular(path, os.stat(path).st_mode)  # before it is opened: opening a device can already act on it
    file = open(path, 'rb', opener=_without_waiting)  # noqa: SIM115
    try:
        status = os.fstat(file.fileno())
        _check_regular(path, status.st_mode)  # again: the path can have been replaced since
        if status.st_size > limit:
            raise UserError(
                f'{path} has {status.st_size:,} bytes, expected at most {limit:,}: check that it is the right file'
            )
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(path, mode):
    if not stat.S_ISREG(mode):
        kind = next((kind for test, kind in _KINDS if test(mode)), 'something else')
        raise UserError(f'{path} is {kind}, expected a regular file')


def _without_waiting(path, flags):
    return os.open(
        path, flags | getattr(os, 'O_NONBLOCK', 0)
    )  # Windows has neither the flag nor named pipes in folders
