"""`basicsr prepare` on the command line."""

import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.data.layouts.known import LAYOUTS
from tests.data.archives import unpack


@pytest.fixture
def gopro(tmp_path):
    return str(unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3)))


def test_an_archive_is_prepared_and_verified(gopro, tmp_path, capsys):
    dest = str(tmp_path / 'crops')
    assert cli.main(['prepare', gopro, dest, '--crop', '16', '--step', '8']) == 0
    assert f'{gopro} is recognized as GoPro: train 4 pairs, test 2 pairs' in capsys.readouterr().out
    assert cli.main(['prepare', dest, '--verify']) == 0
    assert 'all 34 pairs are sound' in capsys.readouterr().out  # 4 times 2x4 crops, and 2
    assert cli.main(['prepare', gopro, dest, '--crop', '16', '--step', '8']) == 1
    assert 'train_blur.lmdb is there already and is not overwritten' in capsys.readouterr().err


def test_crops_lie_side_by_side_without_a_step(gopro, tmp_path):
    assert cli.main(['prepare', gopro, str(tmp_path / 'crops'), '--crop', '16', '--split', 'train', '--folders']) == 0
    assert sorted(path.name for path in (tmp_path / 'crops').iterdir()) == ['train_blur', 'train_sharp']
    assert len(list((tmp_path / 'crops/train_blur').iterdir())) == 4 * 6


def test_what_is_broken_is_printed_with_status_one(gopro, capsys):
    broken = f'{gopro}/test/GOPR0384_11_00/blur/000047.png'
    open(broken, 'w').close()
    assert cli.main(['prepare', gopro, '--verify']) == 1
    said = capsys.readouterr()
    assert f'the image {broken} is damaged: the file is empty' in said.out
    assert f'error: 1 of 6 pairs in {gopro} are broken' in said.err


def test_the_layouts_are_listed(capsys):
    assert cli.main(['prepare', '--list']) == 0
    said = capsys.readouterr().out
    assert all(f'{known.name} ' in said and known.description in said for known in LAYOUTS) and 'skimage' in said


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'name the data set and the folder to write into'),
        (['SOURCE'], 'name the data set and the folder to write into'),
        (['SOURCE', 'new', '--step', '8'], '--step 8 goes from one crop to the next, but --crop is missing'),
        (['SOURCE', 'new', '--crop', '0'], '--crop 0 --step 0: positive numbers of pixels are expected'),
        (['SOURCE', 'new', '--split', 'val'], "has no split 'val'. It has train, test"),
        (['SOURCE', 'new', '--verify'], '--verify takes one folder and nothing else'),
        (['SOURCE', '--verify', '--folders'], '--verify takes one folder and nothing else'),
        (['--verify'], '--verify takes one folder and nothing else: basicsr prepare DEST --verify'),
        (
            ['skimage', 'new', '--crop', '8', '--folders'],
            '--crop, --folders is for data sets on disk, skimage is written',
        ),
        (['imagenet', 'new'], 'the dataset imagenet does not exist'),
    ],
)
def test_requests_that_do_not_fit_get_a_sentence(gopro, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['prepare', *(gopro if word == 'SOURCE' else word for word in argv)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
