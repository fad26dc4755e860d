import os
import warnings

import pytest

from deeprftv2_plugin.data.storage import listing
from deeprftv2_plugin.data.storage.listing import list_images
from deeprftv2_plugin.utils.errors import DataWarning, UserError


@pytest.fixture
def touch(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return touch


def names_in(folder):
    return [str(path) for path in list_images(folder)]


def test_search_is_recursive_and_sorted(tmp_path, touch):
    touch('root/b/2.PNG', 'root/b/1.jpg', 'root/a.tif', 'root/readme.txt', 'root/.hidden.png', 'other/3.webp')
    (tmp_path / 'root/c').symlink_to(tmp_path / 'other')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert names_in(tmp_path / 'root') == ['a.tif', 'b/1.jpg', 'b/2.PNG', 'c/3.webp']


def test_each_folder_is_searched_once(tmp_path, touch):
    touch('b/1.png', 'x/2.png', 'y/3.png')
    for link, target in (('a', 'b'), ('b/self', 'b'), ('b/root', ''), ('x/y', 'y'), ('y/x', 'x'), ('z', 'z')):
        (tmp_path / link).symlink_to(tmp_path / target)
    with pytest.warns(DataWarning, match=r'skipped links to folders .*: a, b/root, b/self, \.\.\. \(5 in all\)'):
        assert names_in(tmp_path) == ['b/1.png', 'x/2.png', 'y/3.png']


@pytest.mark.posix
def test_entries_with_image_names_that_are_not_files_are_skipped_with_a_warning(tmp_path, touch):
    touch('a.png', 'd.png/e.png')
    os.mkfifo(tmp_path / 'b.png')
    (tmp_path / 'c.png').symlink_to('/dev/zero')
    with pytest.warns(DataWarning) as caught:
        assert names_in(tmp_path) == ['a.png']
    assert {str(each.message) for each in caught} == {
        f'{tmp_path}: skipped pipes, sockets or devices with names of images: b.png, c.png (2 in all)',
        f'{tmp_path}: skipped folders with names of images: d.png (1 in all)',
    }


def test_other_formats_are_skipped_with_a_warning(tmp_path, touch):
    touch('1.png', '2.HEIC', '3.gif', '4.jp2', '5.dng', '6.ppm', 'notes.txt', '.7.gif')
    with pytest.warns(
        DataWarning, match=r'images in other formats than \.png, .*: 2\.HEIC, 3\.gif, 4\.jp2, \.\.\. \(5 in'
    ):
        assert names_in(tmp_path) == ['1.png']


def test_link_to_a_missing_image_is_listed(tmp_path):
    """Reading it raises an error, so the image is not skipped silently."""
    (tmp_path / 'a.png').symlink_to(tmp_path / 'gone.png')
    (tmp_path / 'b.png').symlink_to(tmp_path / 'b.png')
    assert names_in(tmp_path) == ['a.png', 'b.png']


def test_search_has_a_time_limit_and_shows_progress(tmp_path, touch, monkeypatch, capsys):
    touch('1.png', '2.png')
    monkeypatch.setattr(listing, 'PROGRESS_SECONDS', 0)
    names_in(tmp_path)
    assert f'searching {tmp_path}' in capsys.readouterr().err
    monkeypatch.setattr(listing, 'MAX_SECONDS', 0)
    with pytest.raises(UserError, match='was aborted after 0 seconds, 1 files and 1 folders: use a folder with few'):
        list_images(tmp_path)


def test_folder_that_cannot_be_listed(tmp_path, touch, monkeypatch):
    touch('a/1.png', 'b/2.png')
    with pytest.raises(UserError, match='cannot list the folder .*gone: No such file'):
        list_images(tmp_path / 'gone')
    scandir = os.scandir

    def scan(path):
        if str(path).endswith('b'):  # tests may run as root, to whom permissions do not apply
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', scan)
    with pytest.warns(DataWarning, match=r'skipped folders that cannot be listed \(Permission denied\): b'):
        assert names_in(tmp_path) == ['a/1.png']
