"""File locks that are released when the process ends for any reason."""

from typing import BinaryIO

UNLOCKED = '{} cannot be locked, since there are no locks on this file system: do not start a second run there'
"""Warning where another process cannot be detected."""


def acquire(file: BinaryIO, shared: bool = False) -> bool | None:
    """Lock an open file for this process until the file is closed. Forked processes do not inherit the lock.

    Args:
        file: The file; open for writing unless the lock is shared.
        shared: Whether other processes may hold shared locks too.

    Returns:
        True if the file is locked. False if another process holds a lock on it. None if the operating system or the
        file system does not support locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # file systems without locks
        return None
    return True
