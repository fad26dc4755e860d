"""Read from LMDB through BasicSR's own backend, which must open a database only once in a process."""

import os
import threading
from pathlib import Path

import lmdb

from deeprftv2_plugin import compat
from deeprftv2_plugin.errors import UserError

_backends = {}
_lock = threading.Lock()


def is_lmdb(root: str) -> bool:
    """Whether a data root names an LMDB, as BasicSR decides it."""
    return root.rstrip('/').endswith('.lmdb')


def read_keys(folder: str) -> list[str]:
    """Keys of a database, sorted, from its meta_info.txt.

    Raises:
        UserError: The database or its meta_info.txt is missing, or lists nothing.
    """
    for name in ('data.mdb', 'meta_info.txt'):
        if not Path(folder, name).is_file():
            raise UserError(f'{folder} is no LMDB that BasicSR can read: {name} is missing')
    lines = Path(folder, 'meta_info.txt').read_text().splitlines()
    keys = sorted(line.split('.')[0] for line in lines if line.strip())
    if not keys:
        raise UserError(f'{folder}/meta_info.txt lists no pictures')
    return keys


def read_value(folder: str, key: str) -> bytes:
    """The stored bytes of a key.

    Raises:
        UserError: The database cannot be opened, or the key is not in it.
    """
    try:
        value = _backend(folder).get(key, 'default')
    except lmdb.Error as error:
        raise UserError(f'cannot read the database {folder}: {error}') from error
    if value is None:
        raise UserError(f'{key}, listed in {folder}/meta_info.txt, is not in the database: write it anew')
    return value


def _backend(folder: str):
    path = os.path.realpath(folder)
    with _lock:
        if path not in _backends:
            compat.apply()
            from basicsr.utils.file_client import LmdbBackend

            _backends[path] = LmdbBackend(path)
        return _backends[path]


def close_all() -> None:
    """Closes every database that this process has open; the next read opens its own again."""
    global _lock
    _lock = threading.Lock()
    for backend in _backends.values():
        for environment in backend._client.values():
            environment.close()
    _backends.clear()


# LMDB forbids the use of an environment across a fork, and lmdb takes the parent's for one that is open here.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=close_all)
