"""Temporary folders that are removed by the next process if their own process is killed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MARK = 'deeprftv2_plugin-'
"""Part of the name of every temporary folder, which distinguishes it from folders of the user."""


@contextlib.contextmanager
def temporary_folder(parent: str | Path | None = None, prefix: str = '') -> Iterator[Path]:
    """Create a private folder, and remove it at the end of the block unless it was moved.

    Folders of killed processes with the same parent and prefix are removed first.

    Args:
        parent: Existing folder to create it in. Default: the operating system's folder for temporary files.
        prefix: Start of the name.

    Raises:
        OSError: The folder cannot be created.
    """
    parent = Path(parent or tempfile.gettempdir())
    remove_abandoned(parent, prefix)
    with contextlib.ExitStack() as stack:
        folder = _make(parent, prefix, stack)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path, prefix: str = '') -> None:
    """Remove the temporary folders of processes that were killed.

    Each process locks its folders. Nothing is removed if the operating system or the file system does not support
    locks.

    Args:
        parent: Folder that contains them.
        prefix: Start of their names.
    """
    with contextlib.suppress(OSError):
        for path in [path for path in parent.iterdir() if path.name.startswith(prefix + MARK)]:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                if _lock(path, stack, wait=False):
                    shutil.rmtree(path, ignore_errors=True)


def _make(parent: Path, prefix: str, stack: contextlib.ExitStack) -> Path:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix + MARK, dir=parent))
        _lock(folder, stack, wait=True)
        if folder.exists():  # otherwise another process removed it before it was locked
            return folder


def _lock(folder: Path, stack: contextlib.ExitStack, wait: bool) -> bool:
    """Lock a folder of this user until the stack is closed. Return whether it could be locked."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    stack.callback(os.close, descriptor)
    if os.fstat(descriptor).st_uid != os.geteuid():
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # locked by its process, or a file system without locks
        return False
    return True
