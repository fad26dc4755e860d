"""Reading from LMDB. A process may open each database only once, so open environments are kept."""

import os
import re
import threading
from pathlib import Path

import lmdb

from deeprftv2_plugin.utils.errors import UserError

_environments: dict[str, lmdb.Environment] = {}
_lock = threading.Lock()


def is_lmdb(root: str) -> bool:
    """Return whether BasicSR treats a data root as an LMDB."""
    return root.rstrip('/').endswith('.lmdb')


def read_keys(folder: str) -> list[str]:
    """Return the sorted keys of a database, read from its meta_info.txt.

    Raises:
        UserError: The database or its meta_info.txt is missing or empty.
    """
    return sorted(line.split('.')[0] for line in _read_meta_info(folder))


def read_shapes(folder: str) -> dict[str, tuple[int, ...]]:
    """Return height, width and channels of every image by its key, read from meta_info.txt.

    Raises:
        UserError: The database or its meta_info.txt is missing or empty, or a line has no shape.
    """
    shapes = {}
    for line in _read_meta_info(folder):
        found = re.search(r'\((\d+),(\d+),(\d+)\)', line)
        if not found:
            raise UserError(f'{folder}/meta_info.txt has the line {line!r}, expected key.png (height,width,channels)')
        shapes[line.split('.')[0]] = tuple(map(int, found.groups()))
    return shapes


def _read_meta_info(folder: str) -> list[str]:
    for name in ('data.mdb', 'meta_info.txt'):
        if not Path(folder, name).is_file():
            raise UserError(f'{folder} is not an LMDB that BasicSR can read: {name} is missing')
    lines = Path(folder, 'meta_info.txt').read_text().splitlines()
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise UserError(f'{folder}/meta_info.txt lists no images')
    return lines


def check_complete(folder: str) -> None:
    """Check that the file of a database has its full length. Reading past the end of a shorter file kills the process.

    Raises:
        UserError: The file is too short or not a database.
    """
    path = Path(folder, 'data.mdb')
    try:
        environment = _environment(folder)
    except lmdb.Error as error:
        raise UserError(f'cannot read the database {folder}: {error}') from error
    expected = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if path.stat().st_size < expected:
        raise UserError(f'{path} has {path.stat().st_size} of {expected} bytes: the copy is incomplete. Copy it again')


def read_value(folder: str, key: str) -> bytes:
    """Return the value stored under a key.

    Raises:
        UserError: The database cannot be opened or does not have the key.
    """
    try:
        with _environment(folder).begin() as transaction:
            value = transaction.get(key.encode('ascii'))
    except lmdb.Error as error:
        raise UserError(f'cannot read the database {folder}: {error}') from error
    if value is None:
        raise UserError(f'{key} is listed in {folder}/meta_info.txt but is not in the database: write it again')
    return value


def _environment(folder: str) -> lmdb.Environment:
    path = os.path.realpath(folder)
    with _lock:
        if path not in _environments:  # opened as BasicSR's LmdbBackend does
            _environments[path] = lmdb.open(path, readonly=True, lock=False, readahead=False)
        return _environments[path]


def close_all() -> None:
    """Close every database that this process has open. The next read opens it again."""
    global _lock
    _lock = threading.Lock()
    for environment in _environments.values():
        environment.close()
    _environments.clear()


# An LMDB environment must not be used across a fork, and lmdb would mistake the parent's environment for its own.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=close_all)
