"""Read images and their list from LMDB databases in BasicSR's format."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from deeprftv2_plugin.data.storage.lmdb_pages import Pages
from deeprftv2_plugin.data.storage.text_files import read_lines
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import open_regular

DATA, META_INFO = 'data.mdb', 'meta_info.txt'
"""The files of a database in BasicSR's format: the values, and a list of the images."""


def is_lmdb(root: str) -> bool:
    """Return whether BasicSR treats a data root as an LMDB."""
    return root.rstrip('/').endswith('.lmdb')


def read_keys(folder: str) -> list[str]:
    """Return the sorted keys of a database, read from its meta_info.txt.

    Raises:
        UserError: The database or its meta_info.txt is missing, empty or damaged, or the database is incomplete.
    """
    return sorted(line.split('.')[0] for line in _read_meta_info(folder))


def read_shapes(folder: str) -> dict[str, tuple[int, ...]]:
    """Return height, width and channels of every image by its key, read from meta_info.txt.

    Raises:
        UserError: As for `read_keys`, or a line has no shape.
    """
    shapes = {}
    for line in _read_meta_info(folder):
        found = re.search(r'\((\d+),(\d+),(\d+)\)', line)
        if not found:
            raise UserError(f'{folder}/{META_INFO} has the line {line!r}, expected key.png (height,width,channels)')
        shapes[line.split('.')[0]] = tuple(map(int, found.groups()))
    return shapes


def _read_meta_info(folder: str) -> list[str]:
    for name in (DATA, META_INFO):
        if not os.path.exists(os.path.join(folder, name)):
            raise UserError(f'{folder} is not an LMDB that BasicSR can read: {name} is missing')
    check_length(folder)
    return read_lines(os.path.join(folder, META_INFO), 'the list of images')


def check_length(folder: str) -> None:
    """Check that the file of a database has its full length. LMDB kills the process if it reads a shorter file.

    Raises:
        UserError: The file is too short, missing or not a database.
    """
    with _open(folder):
        pass


def check_structure(folder: str) -> None:
    """Check everything in a database except the values.

    Raises:
        UserError: The database is damaged, incomplete, missing or not a database.
    """
    with _open(folder) as pages:
        pages.check()


def read_value(folder: str, key: str) -> bytes:
    """Return the value stored under a key.

    Raises:
        UserError: The database is missing or damaged, or does not have the key.
    """
    with _open(folder) as pages:
        value = pages.get(key.encode())
    if value is None:
        raise UserError(f'{key} is listed in {folder}/{META_INFO} but is not in the database: write it again')
    return value


@contextmanager
def _open(folder: str) -> Iterator[Pages]:
    """Open a database. It is opened for each value, like an image file, so that processes share no state."""
    path = os.path.join(folder, DATA)
    try:
        with open_regular(path, sys.maxsize) as file:
            yield Pages(file)
    except OSError as error:
        raise UserError(f'cannot read the database {folder}: {error.strerror}') from error
