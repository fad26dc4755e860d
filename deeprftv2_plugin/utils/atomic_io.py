"""Atomic file writing."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deeprftv2_plugin.utils.errors import UserError

PARTIAL = '.{}.partial'
"""Name of the temporary file, given the name of the file."""
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of `os.fsync` on file systems without this function."""


def write_whole(path: str | Path, data: bytes | memoryview) -> None:
    """Write a file atomically, replacing an existing one.

    The data is written to a temporary file next to `path`, flushed to disk and renamed. If writing fails, the existing
    file is unchanged and the temporary file is removed. A temporary file left by a killed process is removed by the
    next write. Links are replaced, not followed.

    Raises:
        OSError: The file cannot be written, e.g. because the disk is full, the directory is missing, or another
            process is writing the same file.
    """
    path = Path(path)
    partial = path.with_name(PARTIAL.format(path.name))
    partial.unlink(missing_ok=True)
    file = open(partial, 'xb', opener=_open_without_links)  # noqa: SIM115
    created = os.fstat(file.fileno())
    try:
        with file:
            file.write(data)
            sync(file)
            if not _is_at(partial, created):
                raise OSError(errno.EBUSY, 'another process is writing the same file', str(path))
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            if _is_at(partial, created):
                partial.unlink()
        raise
    sync_folder(path.parent)


def remove_partial(folder: str | Path) -> None:
    """Remove the temporary files that killed processes left in a folder. No other process may write there."""
    for path in list(Path(folder).glob(PARTIAL.format('*'))):
        with contextlib.suppress(OSError):
            path.unlink()


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, 'O_NOFOLLOW', 0), 0o666)


def _is_at(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), status)
    except FileNotFoundError:
        return False


def sync(file: BinaryIO) -> None:
    """Flush a file and fsync it, where the file system supports that.

    Raises:
        OSError: The file cannot be written, e.g. because the disk is full.
    """
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync_folder(folder: Path) -> None:
    """Fsync a directory where the operating system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Convert an OSError in the block to a UserError that says what cannot be written, why, and what to do.

    Args:
        what: The file or folder, for the message.

    Raises:
        UserError: The block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f'cannot write {what}: {error.strerror or error}. {advice(error)}') from error


def is_full(error: OSError) -> bool:
    """Return whether a file cannot be written for lack of space."""
    return error.errno in (errno.ENOSPC, getattr(errno, 'EDQUOT', None), errno.EFBIG)


def advice(error: OSError) -> str:
    """Return a sentence that says what to do about a file that cannot be written."""
    if is_full(error):
        return 'Free disk space'
    if error.errno == errno.ENAMETOOLONG:
        return 'The name is too long: use shorter names'
    if error.errno == errno.EBUSY:
        return 'Stop the other process'
    return 'Check the path and the permissions of its folder'
