"""Check, archive and lock the folder of a run."""

import glob
import os
import socket
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from deeprftv2_plugin.utils.atomic_io import advice, remove_partial
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.locks import acquire
from deeprftv2_plugin.utils.regular_files import open_regular, open_to_append

LOCK = 'run.lock'
LARGEST_LOCK = 1000
"""Maximum number of bytes that are read from a lock file."""
TRAINING = ('models', 'training_states', 'visualization')
"""Subfolders of a training."""
MARKS = (LOCK, 'training_states', 'train_*.log', 'test_*.log', 'events.out.tfevents.*')
"""The folder of an earlier run contains at least one of these files. Other folders are never renamed."""


def problem_with(folder: str | Path, resume: bool = False) -> str | None:
    """Return why a run cannot use a folder, or None if it can. Nothing is changed.

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
    written = written[: 2 if renamed else 1]
    if resume:
        written += [folder / name for name in TRAINING if os.path.isdir(folder / name)]
    for path in written:
        if not os.access(path, os.W_OK | os.X_OK):
            return f'{path} cannot be written: check its permissions, or run from another folder'
    if not _is_empty(folder) and not is_of_run(folder):
        return (
            f'{folder} exists, but it is not the folder of an earlier run, since it contains none of '
            f'{", ".join(MARKS)}: choose another name, or rename the folder'
        )
    return _used_by(folder)


def is_of_run(folder: str | Path) -> bool:
    """Return whether a folder contains files of an earlier run."""
    return any(glob.glob(os.path.join(glob.escape(str(folder)), mark)) for mark in MARKS)


class Lock:
    """An advisory lock on the folder of a run. It is released by `release` or when the process ends for any reason.

    It is a POSIX record lock, since worker processes inherit other locks and can outlive a killed run. Where there are
    no locks, `is_effective` is false, and other runs are not kept from using the folder.

    Args:
        folder: An existing folder.

    Raises:
        UserError: Another process holds the lock.
        OSError: The lock file cannot be written.
    """

    def __init__(self, folder: str | Path):
        self._file = open_to_append(Path(folder, LOCK))
        locked = acquire(self._file)
        self.is_effective = locked is not None
        if locked is False:
            with self._file:
                raise UserError(_in_use(folder, self._file))
        self._file.truncate(0)
        owner = f'process {os.getpid()} on {socket.gethostname()}, since {time.strftime("%Y-%m-%d %H:%M:%S")}'
        self._file.write(owner.encode())
        self._file.flush()
        _held.add(self)

    def is_on(self, file: str | Path) -> bool:
        """Return whether a path is that of this lock file."""
        return os.path.samestat(os.fstat(self._file.fileno()), os.stat(file))

    def release(self) -> None:
        """Release the lock. The file remains."""
        _held.discard(self)
        self._file.close()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()
"""The locks of this process."""


def take(folder: str | Path, within: Iterable[str] = (), resume: bool = False) -> Lock:
    """Create the folder of a run and lock it. The folder of an earlier run is renamed, unless it is resumed.

    Temporary files that a killed run left in the subfolders are removed.

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
            if not lock.is_effective:
                lock.release()  # Windows does not rename folders with open files
            archive(folder)
            lock.release()
        os.makedirs(folder, exist_ok=True)
        lock = Lock(folder)
        for name in within:
            os.makedirs(Path(folder, name), exist_ok=True)
            remove_partial(Path(folder, name))
        return lock
    except OSError as error:
        raise UserError(f'{error.filename or folder} cannot be written: {error.strerror}. {advice(error)}') from error


def replace(folder: str | Path) -> None:
    """Create a folder that is not locked. The folder of an earlier run is renamed, see :func:`archive`.

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
    print(f'{folder} already exists. It is renamed to {new}', flush=True)
    os.rename(folder, new)


def unused(path: str | Path) -> Path:
    """Return a path that does not exist, by appending a number if necessary."""
    number, found = 1, Path(path)
    while os.path.lexists(found):
        number += 1
        found = Path(f'{path}_{number}')
    return found


def _is_empty(folder: str | Path) -> bool:
    return not os.path.isdir(folder) or not os.listdir(folder)


def _used_by(folder: Path) -> str | None:
    path = folder / LOCK
    if path.is_symlink():
        return f'{path} is a link, expected a regular file: remove the link'
    if path.is_file() and not os.access(path, os.W_OK):
        return f'{path} cannot be written: check its permissions, or choose another name'
    try:
        if any(lock.is_on(path) for lock in list(_held)):  # closing the file would release a lock of this process
            return f'{folder} is in use by another run of this process: wait for it, or choose another name'
        with open_regular(path, LARGEST_LOCK) as file:
            return _in_use(folder, file) if acquire(file, shared=True) is False else None
    except UserError as error:
        return f'{error}, or remove it'
    except OSError:
        return None


def _in_use(folder: str | Path, file: BinaryIO) -> str:
    file.seek(0)
    owner = file.read(LARGEST_LOCK).decode(errors='replace').strip()
    return f'{folder} is in use by another run ({owner}): wait for it, stop it, or choose another name'
