"""Atomic file writing."""

import contextlib
import errno
import os
from pathlib import Path


def write_whole(path: str | Path, data: bytes | memoryview) -> None:
    """Write a file atomically, replacing an existing one.

    The data is written to a temporary file next to `path`, synced to disk and renamed. If writing fails, the existing
    file is unchanged and the temporary file is removed. A temporary file left by a killed process is overwritten by
    the next write.

    Raises:
        OSError: The file cannot be written, e.g. because the disk is full or the directory is missing.
    """
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with open(partial, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Fsync a directory where the operating system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def advice(error: OSError) -> str:
    """Return a sentence that says what to do about a file that cannot be written."""
    if error.errno == errno.ENAMETOOLONG:
        return 'The name is too long: choose shorter names'
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return 'Check the permissions of the folder'
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return 'Check the path'
    return 'Free disk space'
