"""Read from LMDB. A process may open a database only once, so open environments are kept."""

import os
import re
import threading
from pathlib import Path

import lmdb

from deeprftv2_plugin.utils.errors import UserError

_environments: dict[str, lmdb.Environment] = {}
_lock = threading.Lock()


def is_lmdb(root: str) -> bool:
    """Whether a data root names an LMDB, as BasicSR decides it."""
    return root.rstrip('/').endswith('.lmdb')


def read_keys(folder: str) -> list[str]:
    """Keys of a database, sorted, from its meta_info.txt.

    Raises:
        UserError: The database or its meta_info.txt is missing, or lists nothing.
    """
    return sorted(line.split('.')[0] for line in _lines(folder))


def read_shapes(folder: str) -> dict[str, tuple[int, ...]]:
    """Height, width and channels of every picture, by its key, as meta_info.txt has them.

    Raises:
        UserError: The database or its meta_info.txt is missing, lists nothing, or has a line without them.
    """
    shapes = {}
    for line in _lines(folder):
        found = re.search(r'\((\d+),(\d+),(\d+)\)', line)
        if not found:
            raise UserError(
                f'{folder}/meta_info.txt has the line {line!r}: key.png (height,width,channels) is expected'
            )
        shapes[line.split('.')[0]] = tuple(map(int, found.groups()))
    return shapes


def _lines(folder):
    for name in ('data.mdb', 'meta_info.txt'):
        if not Path(folder, name).is_file():
            raise UserError(f'{folder} is no LMDB that BasicSR can read: {name} is missing')
    lines = Path(folder, 'meta_info.txt').read_text().splitlines()
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise UserError(f'{folder}/meta_info.txt lists no pictures')
    return lines


def require_whole(folder: str) -> None:
    """Sees that the file of a database has its full length: who reads behind the end of a shorter one is killed.

    Raises:
        UserError: It has not, or is no database.
    """
    path = Path(folder, 'data.mdb')
    try:
        environment = _environment(folder)
    except lmdb.Error as error:
        raise UserError(f'cannot read the database {folder}: {error}') from error
    expected = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if path.stat().st_size < expected:
        raise UserError(f'{path} has {path.stat().st_size} of {expected} bytes: it was copied in part. Copy it again')


def read_value(folder: str, key: str) -> bytes:
    """The stored bytes of a key.

    Raises:
        UserError: The database cannot be opened, or the key is not in it.
    """
    try:
        with _environment(folder).begin() as transaction:
            value = transaction.get(key.encode('ascii'))
    except lmdb.Error as error:
        raise UserError(f'cannot read the database {folder}: {error}') from error
    if value is None:
        raise UserError(f'{key}, listed in {folder}/meta_info.txt, is not in the database: write it anew')
    return value


def _environment(folder: str) -> lmdb.Environment:
    path = os.path.realpath(folder)
    with _lock:
        if path not in _environments:  # opened as BasicSR's LmdbBackend does
            _environments[path] = lmdb.open(path, readonly=True, lock=False, readahead=False)
        return _environments[path]


def close_all() -> None:
    """Closes every database that this process has open; the next read opens its own again."""
    global _lock
    _lock = threading.Lock()
    for environment in _environments.values():
        environment.close()
    _environments.clear()


# LMDB forbids the use of an environment across a fork, and lmdb takes the parent's for one that is open here.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=close_all)
