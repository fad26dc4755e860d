"""The folder of a run: whether a run may use it, archiving, and the lock of a live run."""

import contextlib
import glob
import os
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from deeprftv2_plugin.utils.atomic_io import advice
from deeprftv2_plugin.utils.errors import UserError

if sys.platform != 'win32':
    import fcntl

LOCK = 'run.lock'
MARKS = (LOCK, 'training_states', 'train_*.log', 'test_*.log', 'events.out.tfevents.*')
"""Files of which the folder of an earlier run has at least one. Other folders are never renamed."""


def problem_with(folder: str | Path, resume: bool = False) -> str | None:
    """Return why a run cannot use a folder; None if it can. Nothing is changed.

    Args:
        folder: The folder of the run, such as experiments/NAME. It may be missing.
        resume: Whether the run continues in the folder. If not, a folder of an earlier run is renamed.
    """
    folder = Path(folder)
    for path in (folder.parent, folder):
        if os.path.islink(path) and not os.path.exists(path):
            return f'{path} is a link to {os.readlink(path)}, which does not exist: remove the link'
        if os.path.exists(path) and not os.path.isdir(path):
            return f'{path} is not a folder: rename or remove it'
    written = [path for path in (folder, folder.parent, folder.parent.parent) if os.path.isdir(path)]
    renamed = not resume and folder in written  # which changes the parent
    for path in written[: 2 if renamed else 1]:
        if not os.access(path, os.W_OK | os.X_OK):
            return f'{path} cannot be written: check its permissions, or run from another folder'
    if not _is_empty(folder) and not is_of_run(folder):
        return (
            f'{folder} exists, but it is not the folder of an earlier run, since it contains none of '
            f'{", ".join(MARKS)}: choose another name, or rename the folder'
        )
    return _used_by(folder)


def is_of_run(folder: str | Path) -> bool:
    """Return whether a folder has the marks of an earlier run."""
    return any(glob.glob(os.path.join(glob.escape(str(folder)), mark)) for mark in MARKS)


class Lock:
    """An advisory lock on the folder of a run. It ends with `release` or with the process, however that ends.

    A POSIX record lock, because worker processes inherit other locks and could outlive a killed run.

    Args:
        folder: An existing folder.

    Raises:
        UserError: Another process holds the lock.
        OSError: The file of the lock cannot be written.
    """

    def __init__(self, folder: str | Path):
        self._file: IO[str] = open(Path(folder, LOCK), 'a+', encoding='utf-8')  # noqa: SIM115  # until it is released
        if not _acquire(self._file, shared=False):
            with self._file:
                raise UserError(_in_use(folder, self._file))
        self._file.truncate(0)
        self._file.write(f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")}')
        self._file.flush()

    def release(self) -> None:
        """End the lock. The file remains."""
        self._file.close()


def take(folder: str | Path, within: Iterable[str] = (), resume: bool = False) -> Lock:
    """Create the folder of a run and lock it. The folder of an earlier run is renamed, unless it is resumed.

    Args:
        folder: The folder.
        within: Names of subfolders to create.
        resume: Whether the run continues in the folder.

    Raises:
        UserError: The folder cannot be used, see :func:`problem_with`. It is unchanged.
    """
    problem = problem_with(folder, resume)
    if problem is not None:
        raise UserError(problem)
    try:
        if not resume and not _is_empty(folder):
            lock = Lock(folder)
            archive(folder)
            lock.release()
        os.makedirs(folder, exist_ok=True)
        lock = Lock(folder)
        for name in within:
            os.makedirs(Path(folder, name), exist_ok=True)
        return lock
    except OSError as error:
        raise UserError(f'{error.filename or folder} cannot be written: {error.strerror}. {advice(error)}') from error


def replace(folder: str | Path) -> None:
    """Create a folder that is not locked. That of an earlier run is renamed, see :func:`archive`.

    Raises:
        UserError: The folder cannot be used, see :func:`problem_with`.
    """
    problem = problem_with(folder)
    if problem is not None:
        raise UserError(problem)
    if not _is_empty(folder):
        archive(folder)
    os.makedirs(folder, exist_ok=True)


def archive(folder: str | Path) -> None:
    """Rename a folder to NAME_archived_TIME."""
    new = unused(f'{folder}_archived_{time.strftime("%Y%m%d_%H%M%S")}')
    print(f'{folder} exists already. It is renamed to {new}', flush=True)
    os.rename(folder, new)


def unused(path: str | Path) -> Path:
    """Return a path, with a number appended if it exists."""
    number, found = 1, Path(path)
    while os.path.lexists(found):
        number += 1
        found = Path(f'{path}_{number}')
    return found


def _is_empty(folder: str | Path) -> bool:
    return not os.path.isdir(folder) or not os.listdir(folder)


def _used_by(folder: Path) -> str | None:
    with contextlib.suppress(OSError), open(folder / LOCK, encoding='utf-8') as file:
        if not _acquire(file, shared=True):
            return _in_use(folder, file)
    return None


def _in_use(folder: str | Path, file: IO[str]) -> str:
    file.seek(0)
    return f'{folder} is in use by another run ({file.read().strip()}): wait for it, stop it, or choose another name'


def _acquire(file: IO[str], shared: bool) -> bool:
    """Lock a file. Return False if another process holds a lock on it."""
    if sys.platform == 'win32':
        return True
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # file systems without locks
        return True
    return True
