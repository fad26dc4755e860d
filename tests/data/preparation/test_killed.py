"""A preparation that is killed at any time and rerun has the same result as an uninterrupted one."""

import io
import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from deeprftv2_plugin.data.preparation import archive
from deeprftv2_plugin.data.preparation.crops import CropGrid
from deeprftv2_plugin.data.storage.lmdb_writer import GrowingLmdb
from tests.data.archives import unpack
from tests.data.preparation.conftest import content_of

pytestmark = pytest.mark.posix

CALLS = (
    (os, 'fsync'),
    (os, 'replace'),
    (GrowingLmdb, 'put'),
    (GrowingLmdb, 'close'),
    (Path, 'unlink'),
    (Path, 'rmdir'),
)


def run(source, dest, splits=('test',), folders=False, die_at=0):
    """Prepare in a process that kills itself before the given call of `CALLS`. Return its exit code."""
    process = multiprocessing.get_context('fork').Process(target=prepare, args=(source, dest, splits, folders, die_at))
    process.start()
    process.join()
    return process.exitcode


def prepare(source, dest, splits, folders, die_at):
    left = [die_at]

    def dying(original):
        def act(*args, **settings):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **settings)

        return act

    for owner, name in CALLS:
        setattr(owner, name, dying(getattr(owner, name)))
    archive.BATCH = 1  # one pair at a time
    sys.stderr = io.StringIO()
    crops = CropGrid(16, 12) if 'train' in splits else None
    archive.prepare_archive(source, dest, splits, crops, folders, progress=False)


@pytest.mark.parametrize('folders', [False, True], ids=['LMDB', 'folders'])
@pytest.mark.parametrize('number', range(2))
def test_preparation_killed_at_random_calls(tmp_path, folders, number):
    source = unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3))
    splits = ('train', 'test')
    assert run(source, tmp_path / 'uninterrupted', splits, folders) == 0
    chance, kills = random.Random(number), 0
    while status := run(source, tmp_path / 'killed', splits, folders, chance.randint(1, 60 if folders else 12)):
        kills += 1
        assert status == -signal.SIGKILL and kills < 50
    assert kills
    assert content_of(tmp_path / 'killed') == content_of(tmp_path / 'uninterrupted')


def test_preparation_killed_at_every_call(tmp_path):
    """This includes calls between the two databases, between the renames, and before the journal is removed."""
    source = unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3))
    run(source, tmp_path / 'uninterrupted')
    expected, call = content_of(tmp_path / 'uninterrupted'), 1
    while run(source, dest := tmp_path / f'killed-{call}', die_at=call) == -signal.SIGKILL:
        finished = (dest / 'test_sharp.lmdb').exists() and not (dest / archive.JOURNAL).exists()
        assert run(source, dest) == (1 if finished else 0)
        assert content_of(dest) == expected
        call += 1
    assert call > 15
