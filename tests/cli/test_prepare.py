"""`basicsr prepare` on the command line."""

import os
from pathlib import Path

import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.data.layouts.known import LAYOUTS
from deeprftv2_plugin.utils.errors import DataWarning
from tests.data.archives import unpack


@pytest.fixture
def gopro(tmp_path):
    return str(unpack('GOPRO_Large', tmp_path / 'GOPRO_Large', (24, 40, 3)))


def test_archive_is_prepared_and_verified(gopro, tmp_path, capsys):
    dest = str(tmp_path / 'crops')
    assert cli.main(['prepare', gopro, dest, '--crop', '16', '--step', '8']) == 0
    assert f'{gopro} is recognized as GoPro: train 4 pairs, test 2 pairs' in capsys.readouterr().out
    assert cli.main(['prepare', dest, '--verify']) == 0
    assert 'all 34 pairs are valid' in capsys.readouterr().out  # 4 frames with 2x4 crops, and 2 test frames
    assert cli.main(['prepare', gopro, dest, '--crop', '16', '--step', '8']) == 1
    assert 'train_blur.lmdb exists and is not overwritten' in capsys.readouterr().err


def test_default_step_is_the_crop_size(gopro, tmp_path):
    assert cli.main(['prepare', gopro, str(tmp_path / 'crops'), '--crop', '16', '--split', 'train', '--folders']) == 0
    assert sorted(path.name for path in (tmp_path / 'crops').iterdir()) == ['train_blur', 'train_sharp']
    assert len(list((tmp_path / 'crops/train_blur').iterdir())) == 4 * 6


def test_invalid_pairs_are_reported_with_status_one(gopro, capsys):
    damaged = f'{gopro}/test/GOPR0384_11_00/blur/000047.png'
    open(damaged, 'w').close()
    assert cli.main(['prepare', gopro, '--verify']) == 1
    output = capsys.readouterr()
    assert f'the image {damaged} is damaged: the file is empty' in output.out
    assert f'error: 1 of 6 pairs in {gopro} are invalid' in output.err


@pytest.mark.posix
def test_names_that_are_not_utf_8_are_printed(gopro, tmp_path, capsys):
    folder = Path(gopro, 'test/GOPR0384_11_00')
    damaged = os.fsdecode(b'caf\xe9.png')
    for kind in ('blur', 'sharp'):
        (folder / kind / '000047.png').rename(folder / kind / damaged)
    (folder / 'blur' / damaged).write_bytes(b'damaged')
    assert cli.main(['prepare', gopro, '--verify']) == 1
    output = capsys.readouterr()
    assert f'GOPR0384_11_00_caf-xe9: OpenCV cannot decode the image {folder}/blur/caf\\udce9.png' in output.out
    assert cli.main(['prepare', gopro, str(tmp_path / 'new')]) == 1
    assert f'cannot decode the image {folder}/blur/caf\\udce9.png' in capsys.readouterr().err


def test_warnings_about_data_are_printed_without_the_line_of_code():
    text = cli.format_warning(DataWarning('a: skipped b'), DataWarning, 'file.py', 1)
    assert text == 'warning: a: skipped b\n'
    assert cli.format_warning(UserWarning('c'), UserWarning, 'file.py', 1).startswith('file.py:1: UserWarning: c')


def test_list_prints_all_layouts(capsys):
    assert cli.main(['prepare', '--list']) == 0
    output = capsys.readouterr().out
    assert all(f'{known.name} ' in output and known.description in output for known in LAYOUTS) and 'skimage' in output


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'name a dataset and a folder to write to'),
        (['SOURCE'], 'name a dataset and a folder to write to'),
        (['SOURCE', 'new', '--step', '8'], '--step 8 needs --crop'),
        (['SOURCE', 'new', '--crop', '0'], '--crop 0 --step 0: expected positive numbers of pixels'),
        (['SOURCE', 'new', '--split', 'val'], "has no split 'val'. It has train, test"),
        (['SOURCE', 'new', '--verify'], '--verify accepts only a folder'),
        (['SOURCE', '--verify', '--folders'], '--verify accepts only a folder'),
        (['--verify'], '--verify accepts only a folder: basicsr prepare DEST --verify'),
        (
            ['skimage', 'new', '--crop', '8', '--folders'],
            'skimage does not support --crop, --folders',
        ),
        (['imagenet', 'new'], 'the dataset imagenet does not exist'),
    ],
)
def test_errors_explain_conflicting_arguments(gopro, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['prepare', *(gopro if word == 'SOURCE' else word for word in argv)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
