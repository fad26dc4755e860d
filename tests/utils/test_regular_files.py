"""Opening regular files only."""

import os
import socket

import pytest

from deeprftv2_plugin.utils import regular_files
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import ABSENT, open_regular, open_to_append, why_absent


def test_a_file_up_to_the_limit_is_opened(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'12345')
    (tmp_path / 'link').symlink_to(path)
    for name in (path, str(path), tmp_path / 'link'):
        with open_regular(name, limit=5) as file:
            assert file.read() == b'12345'
    with pytest.raises(UserError, match=r'file has 5 bytes, expected at most 4'):
        open_regular(path, limit=4)


def test_errors_of_the_operating_system_are_raised(tmp_path):
    (tmp_path / 'loop').symlink_to('loop')
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / 'missing', limit=1)
    with pytest.raises(OSError):
        open_regular(tmp_path / 'loop', limit=1)


@pytest.mark.posix
def test_a_path_is_absent_or_cannot_be_accessed(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'loop').symlink_to('loop')
    for name in ('missing', 'file/below', 'x' * 300, '\0'):
        assert why_absent(tmp_path / name) == ABSENT
    assert why_absent(tmp_path / 'loop') == 'cannot be accessed (Too many levels of symbolic links)'


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.posix
@pytest.mark.parametrize(
    ('make', 'kind'),
    [
        (os.mkdir, 'a folder'),
        (lambda path: os.mkfifo(path), 'a named pipe'),
        (make_socket, 'a socket'),
        (lambda path: os.symlink('/dev/zero', path), 'a device'),
    ],
    ids=['folder', 'pipe', 'socket', 'device'],
)
def test_anything_else_is_refused(monkeypatch, tmp_path, make, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket is limited to about 100 bytes
    make('x.png')
    with pytest.raises(UserError, match=f'x.png is {kind}, expected a regular file'):
        open_regular('x.png', limit=1)


@pytest.mark.posix
def test_a_file_replaced_by_a_pipe_before_it_is_opened(monkeypatch, tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'')
    before = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(regular_files.os, 'stat', lambda path: before)
    descriptors = len(os.listdir('/proc/self/fd')) if os.path.exists('/proc/self/fd') else None
    with pytest.raises(UserError, match='named pipe'):
        open_regular(path, limit=1)
    if descriptors is not None:
        assert len(os.listdir('/proc/self/fd')) == descriptors


def test_lines_are_appended_and_can_be_read(tmp_path):
    for line in (b'one', b'two'):
        with open_to_append(tmp_path / 'log') as file:
            file.write(line)
            file.seek(0)
            assert file.read().endswith(line)
    assert (tmp_path / 'log').read_bytes() == b'onetwo'


@pytest.mark.posix
def test_an_appended_file_has_ordinary_permissions(tmp_path):
    with open_to_append(tmp_path / 'log'), open(tmp_path / 'ordinary', 'w'):
        assert os.stat(tmp_path / 'log').st_mode == os.stat(tmp_path / 'ordinary').st_mode


@pytest.mark.posix
@pytest.mark.parametrize(
    ('kind', 'words'), [('link', 'a link'), ('dangling', 'a link'), ('pipe', 'a named pipe'), ('folder', 'a folder')]
)
def test_only_regular_files_are_appended_to(tmp_path, plant, kind, words):
    if kind == 'folder':
        (tmp_path / 'log').mkdir()
    else:
        plant(tmp_path / 'log', kind)
    with pytest.raises(OSError, match=f'it is {words}, expected a regular file') as caught:
        open_to_append(tmp_path / 'log')
    assert caught.value.filename == str(tmp_path / 'log')


@pytest.mark.posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_a_file_replaced_before_it_is_appended_to(monkeypatch, tmp_path, plant, kind):
    path = tmp_path / 'log'
    path.touch()
    before = os.lstat(path)
    plant(path, kind)
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(regular_files.os, 'lstat', lambda path: before)
        open_to_append(path)
