"""Damaged databases. Many of them would crash LMDB itself."""

import shutil

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.lmdb_reader import DATA, META_INFO, check_structure, read_keys, read_shapes
from deeprftv2_plugin.data.storage.lmdb_writer import GrowingLmdb, LmdbWriter

from . import check, damaged

PAGE = 4096


@pytest.fixture
def images(tmp_path):
    """Images that are stored on pages of keys or, if larger, on separate pages, with keys that need three levels."""
    rng = np.random.default_rng(0)
    sizes = [8, 20, 40, 70] * 12
    images = {
        f'{number:03d}' + 400 * 'x': rng.integers(0, 256, (size, size, 3), np.uint8)
        for number, size in enumerate(sizes)
    }
    with LmdbWriter(tmp_path / 'whole.lmdb') as writer:
        for key, image in images.items():
            writer.add(key, image)
    return {key: cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for key, image in images.items()}


@pytest.fixture
def root(tmp_path, images):
    """A database of the images, to be damaged."""
    return shutil.copytree(tmp_path / 'whole.lmdb', tmp_path / 'a.lmdb')


def damage_pages(data, random):
    """Damage any part of a file, or only the start of a page, which contains its structure."""
    if random.random() < 0.2:
        return damaged(data, random)
    start = PAGE * random.choice([0, 1, random.randrange(len(data) // PAGE)])
    end = start + random.choice([32, 160, PAGE])
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        changed[random.randrange(start, min(end, len(data)))] ^= 1 << random.randrange(8)
    return bytes(changed)


def test_damaged_databases(root, images):
    whole = (root / DATA).read_bytes()

    def trial(random):
        (root / DATA).write_bytes(damage_pages(whole, random))
        keys = read_keys(str(root))
        found = {key: StoredImage(key, str(root)).read() for key in keys}
        return all(np.array_equal(found[key], image) for key, image in images.items())

    assert check('reading of databases', trial, short=60)['clear'] > 10


def test_damaged_databases_are_not_written_to(root, images):
    """An interrupted preparation is only resumed if its database has a valid structure."""
    whole = (root / DATA).read_bytes()

    def trial(random):
        (root / DATA).write_bytes(damage_pages(whole, random))
        database = GrowingLmdb(root, durable=False)
        database.put({f'new{number}': random.randbytes(random.randrange(20000)) for number in range(20)})
        database.keep_only([key for key in images if random.random() < 0.5])
        database.close()
        check_structure(str(root))
        return True

    assert check('writing to databases', trial, short=60)['clear'] > 10


def test_damaged_lists_of_images(root, images):
    whole = (root / META_INFO).read_bytes()

    def trial(random):
        encoding = random.choice([None, None, 'utf-16', 'utf-8-sig', 'utf-32'])
        data = whole if encoding is None else whole.decode().encode(encoding)
        (root / META_INFO).write_bytes(damaged(data, random))
        for key in read_shapes(str(root)):
            StoredImage(key, str(root)).read()
        return True

    assert check('lists of images', trial, short=30)['clear'] > 5
