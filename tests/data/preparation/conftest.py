import os
from pathlib import Path

import lmdb
import pytest

from deeprftv2_plugin.data.preparation import prepare_archive


def content_of(folder: Path) -> dict[str, object]:
    """Return the content of a prepared folder: the bytes of files, and the keys and values of databases, by path."""
    content = {}
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        if path.name == 'data.mdb':
            with lmdb.open(str(path.parent), readonly=True, lock=False) as environment, environment.begin() as reading:
                content[name] = dict(reading.cursor())
        elif path.is_file() and path.name != 'lock.mdb':
            content[name] = path.read_bytes()
    return content


@pytest.fixture
def prepare(tmp_path):
    """Return a function that calls `prepare_archive` with tmp_path / 'prepared' and returns that path."""

    def prepare(source, *args, **settings):
        prepare_archive(source, tmp_path / 'prepared', *args, progress=False, **settings)
        return tmp_path / 'prepared'

    return prepare


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Limit the number of processes, independently of the machine."""
    if hasattr(os, 'sched_getaffinity'):
        monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1})
