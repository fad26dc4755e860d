import shutil

import cv2
import lmdb
import numpy as np
import pytest

from deeprftv2_plugin.data.preparation import prepare_archive, verify
from deeprftv2_plugin.data.preparation.crops import CropGrid
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import ARCHIVES, unpack

FRAME = 'train/GOPR0372_07_00/blur/000047.png'


@pytest.fixture
def gopro(tmp_path):
    return unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3))


def report(root):
    """Return the messages about invalid pairs and the final error."""
    messages = []
    with pytest.raises(UserError) as caught:
        verify(root, progress=False, say=messages.append)
    return [text for text in messages if 'pairs' not in text], str(caught.value)


@pytest.mark.parametrize('archive', sorted(set(ARCHIVES) - {'RealBlur'}))
def test_intact_archives_and_their_prepared_versions_are_valid(tmp_path, archive):
    source = unpack(archive, tmp_path / archive)
    messages = []
    # REDS has two blurry versions of each sharp frame, and val_300 is part of val.
    assert verify(source, progress=False, say=messages.append) == {'REDS': 16}.get(archive, count_pairs(messages))
    assert messages[-1].endswith('pairs are valid')
    for form, folders in (('lmdb', False), ('folders', True)):
        prepare_archive(source, tmp_path / form, folders=folders, progress=False)
        messages.clear()
        assert verify(tmp_path / form, progress=False, say=messages.append) == count_pairs(messages)


def count_pairs(messages):
    return sum(int(text.split()[-2]) for text in messages if not text.startswith('all'))


def test_every_invalid_pair_of_an_archive_is_reported(gopro):
    (gopro / FRAME).write_bytes((gopro / FRAME).read_bytes()[:100])
    (gopro / FRAME.replace('blur', 'sharp').replace('47', '48')).write_bytes(b'')
    cv2.imwrite(str(gopro / 'test/GOPR0384_11_00/sharp/000047.png'), np.zeros((20, 40, 3), np.uint8))
    cv2.imwrite(str(gopro / 'test/GOPR0384_11_00/sharp/000048.png'), np.zeros((24, 40, 3), np.uint16))
    problems, end = report(gopro)
    assert end == f'4 of 6 pairs in {gopro} are invalid' and len(problems) == 4
    assert problems[0].startswith('GOPR0372_07_00_000047: the image') and f'{FRAME} is damaged' in problems[0]
    assert 'GOPR0372_07_00_000048: ' in problems[1] and 'the file is empty' in problems[1]
    assert problems[2].endswith('000047: the blurry image has 40x24 pixels, the sharp image 40x20')
    assert problems[3].endswith('000048: the blurry image has type uint8, the sharp image uint16')


@pytest.fixture
def database(gopro, tmp_path):
    prepare_archive(gopro, tmp_path / 'prepared', ['train'], CropGrid(16, 12), progress=False)
    return tmp_path / 'prepared/train_blur.lmdb'


def test_every_invalid_pair_of_a_database_is_reported(database):
    with lmdb.open(str(database)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'GOPR0372_07_00_000047_s001', b'nothing')
        transaction.delete(b'GOPR0372_07_00_000047_s002')
    meta = database / 'meta_info.txt'
    meta.write_text(meta.read_text().replace('s003.png (16,16,3)', 's003.png (16,18,3)', 1))
    problems, end = report(database.parent)
    assert end == f'3 of 24 pairs in {database.parent} are invalid'
    assert [problem.split(':')[0][-4:] for problem in problems] == ['s001', 's002', 's003']
    assert 'cannot decode' in problems[0] and 'but is not in the database' in problems[1]
    assert 'has 16x16 pixels, but meta_info.txt lists 18x16' in problems[2]


def test_truncated_database_is_reported(database):
    data = (database / 'data.mdb').read_bytes()
    (database / 'data.mdb').write_bytes(data[: len(data) // 2])
    problems, end = report(database.parent)
    assert not problems and 'data.mdb has ' in end and 'the copy is incomplete' in end


def test_missing_database_is_reported(database):
    shutil.rmtree(database.with_name('train_sharp.lmdb'))
    assert 'train_sharp.lmdb is missing' in report(database.parent)[1]


def test_unfinished_preparation_is_reported(gopro, tmp_path):
    (gopro / 'test/GOPR0384_11_00/blur/000047.png').write_bytes(b'')
    with pytest.raises(UserError, match='the file is empty'):
        prepare_archive(gopro, tmp_path / 'prepared', progress=False)
    assert report(tmp_path / 'prepared')[1].endswith('prepared is not finished: rerun the command that prepares it')


def test_folders_without_a_dataset_are_rejected(tmp_path):
    assert 'gone does not exist' in report(tmp_path / 'gone')[1]
    assert 'has no known dataset layout' in report(tmp_path)[1]
