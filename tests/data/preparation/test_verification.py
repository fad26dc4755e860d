import shutil

import cv2
import lmdb
import numpy as np
import pytest

from deeprftv2_plugin.data.preparation import prepare_archive, verify
from deeprftv2_plugin.data.preparation.pieces import Crops
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import ARCHIVES, unpack

FRAME = 'train/GOPR0372_07_00/blur/000047.png'


@pytest.fixture
def gopro(tmp_path):
    return unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3))


def report(root):
    """What is said about a folder that is broken, and the sentence at the end."""
    said = []
    with pytest.raises(UserError) as caught:
        verify(root, progress=False, say=said.append)
    return [text for text in said if 'pairs' not in text], str(caught.value)


@pytest.mark.parametrize('archive', sorted(set(ARCHIVES) - {'RealBlur'}))
def test_a_sound_archive_and_what_is_made_of_it(tmp_path, archive):
    source = unpack(archive, tmp_path / archive)
    said = []
    # Blurry frames of REDS pair with the same sharp ones twice, compressed and not; val_300 are frames of val.
    assert verify(source, progress=False, say=said.append) == {'REDS': 16}.get(archive, said_pairs(said))
    assert said[-1].endswith('pairs are sound')
    for form, folders in (('lmdb', False), ('folders', True)):
        prepare_archive(source, tmp_path / form, folders=folders, progress=False)
        said.clear()
        assert verify(tmp_path / form, progress=False, say=said.append) == said_pairs(said)


def said_pairs(said):
    return sum(int(text.split()[-2]) for text in said if not text.startswith('all'))


def test_every_broken_pair_of_an_archive_is_named(gopro):
    (gopro / FRAME).write_bytes((gopro / FRAME).read_bytes()[:100])
    (gopro / FRAME.replace('blur', 'sharp').replace('47', '48')).write_bytes(b'')
    cv2.imwrite(str(gopro / 'test/GOPR0384_11_00/sharp/000047.png'), np.zeros((20, 40, 3), np.uint8))
    cv2.imwrite(str(gopro / 'test/GOPR0384_11_00/sharp/000048.png'), np.zeros((24, 40, 3), np.uint16))
    faults, end = report(gopro)
    assert end == f'4 of 6 pairs in {gopro} are broken' and len(faults) == 4
    assert faults[0].startswith('GOPR0372_07_00_000047: the image') and f'{FRAME} is damaged' in faults[0]
    assert 'GOPR0372_07_00_000048: ' in faults[1] and 'the file is empty' in faults[1]
    assert faults[2].endswith('000047: the blurry picture has 40x24 pixels, the sharp one 40x20')
    assert faults[3].endswith('000048: the blurry picture holds uint8, the sharp one uint16')


@pytest.fixture
def database(gopro, tmp_path):
    prepare_archive(gopro, tmp_path / 'prepared', ['train'], Crops(16, 12), progress=False)
    return tmp_path / 'prepared/train_blur.lmdb'


def test_every_broken_pair_of_a_database_is_named(database):
    with lmdb.open(str(database)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'GOPR0372_07_00_000047_s001', b'nothing')
        transaction.delete(b'GOPR0372_07_00_000047_s002')
    meta = database / 'meta_info.txt'
    meta.write_text(meta.read_text().replace('s003.png (16,16,3)', 's003.png (16,18,3)', 1))
    faults, end = report(database.parent)
    assert end == f'3 of 24 pairs in {database.parent} are broken'
    assert [fault.split(':')[0][-4:] for fault in faults] == ['s001', 's002', 's003']
    assert 'cannot decode' in faults[0] and 'is not in the database' in faults[1]
    assert 'has 16x16 pixels, its meta_info.txt says 18x16' in faults[2]


def test_a_database_that_was_copied_in_part_is_no_crash(database):
    data = (database / 'data.mdb').read_bytes()
    (database / 'data.mdb').write_bytes(data[: len(data) // 2])
    faults, end = report(database.parent)
    assert not faults and 'data.mdb has ' in end and 'the copy is incomplete' in end


def test_half_a_pair_of_databases_is_told(database):
    shutil.rmtree(database.with_name('train_sharp.lmdb'))
    assert 'train_sharp.lmdb is missing' in report(database.parent)[1]


def test_what_is_not_finished_is_told(gopro, tmp_path):
    (gopro / 'test/GOPR0384_11_00/blur/000047.png').write_bytes(b'')
    with pytest.raises(UserError, match='the file is empty'):
        prepare_archive(gopro, tmp_path / 'prepared', progress=False)
    assert report(tmp_path / 'prepared')[1].endswith(
        'prepared is not finished: repeat the command that was to prepare it'
    )


def test_folders_that_are_none(tmp_path):
    assert 'gone does not exist' in report(tmp_path / 'gone')[1]
    assert 'has no known dataset layout' in report(tmp_path)[1]
