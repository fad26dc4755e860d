"""Safely open paths that may be links, pipes or devices."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deeprftv2_plugin.utils.errors import UserError

ABSENT = 'does not exist'
"""The result of `why_absent` for a path that does not exist."""
_ERRORS_OF_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_KINDS = (
    (stat.S_ISLNK, 'a link'),
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a named pipe'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
)


def open_regular(path: str | Path, limit: int) -> BinaryIO:
    """Open a regular file for reading in binary mode.

    Reading a pipe or a device can wait forever or fill the memory. They are refused without reading from them or
    waiting for a writer.

    Args:
        path: Path of the file. Links are followed.
        limit: Largest accepted size in bytes.

    Raises:
        UserError: The path is a folder, a pipe, a socket or a device, or the file is larger than the limit.
        OSError: The file is missing or cannot be opened.
    """
    _check_regular(path, os.stat(path).st_mode)  # before it is opened, since opening a device can have side effects
    file = open(path, 'rb', opener=_without_waiting)  # noqa: SIM115
    try:
        status = os.fstat(file.fileno())
        _check_regular(path, status.st_mode)  # checked again, since the path may have been replaced
        if status.st_size > limit:
            raise UserError(
                f'{path} has {status.st_size:,} bytes, expected at most {limit:,}: check that it is the right file'
            )
    except BaseException:
        file.close()
        raise
    return file


def why_absent(path: str | Path) -> str:
    """Return why a path does not exist for this process: `ABSENT`, or a reason such as a lack of permissions."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in _ERRORS_OF_ABSENT:
            return f'cannot be accessed ({error.strerror})'
    except ValueError:  # a null character
        pass
    return ABSENT


@contextlib.contextmanager
def reading(path: str | Path, limit: int, kind: str) -> Iterator[BinaryIO]:
    """Within the block, a file is open for reading as with `open_regular`.

    Args:
        path: Path of the file.
        limit: Largest accepted size in bytes.
        kind: Kind of the file in the error message.

    Raises:
        UserError: As `open_regular`, or the file cannot be opened or read.
    """
    try:
        with open_regular(path, limit) as file:
            yield file
    except OSError as error:
        raise UserError(f'cannot read {kind} {path}: {error.strerror}') from error


def open_to_append(path: str | Path) -> BinaryIO:
    """Open a regular file for reading and appending in binary mode. Create it if it is missing.

    Links are not followed, since in a folder from someone else they could point to any file of the user. Pipes and
    devices are refused without waiting for a reader.

    Raises:
        OSError: The path is a link, a folder, a pipe, a socket or a device, or it cannot be opened.
    """
    with contextlib.suppress(FileNotFoundError):
        _check_appendable(path, os.lstat(path).st_mode)  # before it is opened, as in `open_regular`
    file = open(path, 'a+b', opener=_without_waiting_or_links)  # noqa: SIM115
    try:
        _check_appendable(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(path, mode):
    if not stat.S_ISREG(mode):
        raise UserError(f'{path} is {_kind(mode)}, expected a regular file')


def _check_appendable(path, mode):
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f'it is {_kind(mode)}, expected a regular file', str(path))


def _kind(mode):
    return next((kind for test, kind in _KINDS if test(mode)), 'something else')


# Windows has none of these flags, and no named pipes in folders.
def _without_waiting(path, flags):
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def _without_waiting_or_links(path, flags):
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_NOFOLLOW', 0), 0o666)
