"""File locks that are released when the process ends for any reason."""

from typing import BinaryIO


def acquire(file: BinaryIO, shared: bool = False) -> bool:
    """Lock an open file for this process until the file is closed. Forked processes do not inherit the lock.

    Args:
        file: The file; open for writing unless the lock is shared.
        shared: Whether other processes may hold shared locks too.

    Returns:
        False if another process holds a lock on the file. True, without a lock, if the operating system or the file
        system does not support locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # file systems without locks
        return True
    return True
