"""Temporary folders, including those of killed processes."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeprftv2_plugin.utils import temporary
from deeprftv2_plugin.utils.temporary import remove_abandoned, temporary_folder

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from deeprftv2_plugin.utils.temporary import temporary_folder
with temporary_folder(sys.argv[1], '.data.') as folder:
    (folder / 'file').write_text('text')
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_folder_is_removed_at_the_end_of_the_block(tmp_path):
    with temporary_folder(tmp_path, '.data.') as folder:
        assert folder.parent == tmp_path and folder.name.startswith('.data.')
        assert os.name == 'nt' or stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / 'deep').mkdir()
        (folder / 'deep' / 'file').write_text('text')
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_moved_folder_is_kept(tmp_path):
    with temporary_folder(tmp_path) as folder:
        (folder / 'file').write_text('text')
        folder.rename(tmp_path / 'data')
    assert (tmp_path / 'data' / 'file').read_text() == 'text'


def test_the_default_is_the_folder_for_temporary_files(monkeypatch, tmp_path):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path


@pytest.mark.posix
def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_live_one_kept(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', HOLD, str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with process, process.stdout:
        folder = Path(process.stdout.readline().strip())
        with temporary_folder(tmp_path, '.data.') as mine:
            assert {*tmp_path.iterdir()} == {folder, mine}
        process.send_signal(signal.SIGKILL)
    assert (folder / 'file').exists()
    remove_abandoned(tmp_path, '.other.')
    assert folder.exists()
    with temporary_folder(tmp_path, '.data.') as mine:
        assert {*tmp_path.iterdir()} == {mine}


@pytest.mark.posix
def test_entries_that_are_not_temporary_folders_are_kept(tmp_path):
    """This applies to other names, files, and links to folders of the user."""
    (tmp_path / '.data.backup').mkdir()
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'precious' / 'file').write_text('text')
    (tmp_path / f'.data.{temporary.MARK}link').symlink_to(tmp_path / 'precious')
    (tmp_path / f'.data.{temporary.MARK}file').write_text('text')
    (abandoned := tmp_path / f'.data.{temporary.MARK}folder').mkdir()
    (abandoned / 'link').symlink_to(tmp_path / 'precious')
    before = {*tmp_path.iterdir()}
    remove_abandoned(tmp_path, '.data.')
    assert {*tmp_path.iterdir()} == before - {abandoned}
    assert (tmp_path / 'precious' / 'file').read_text() == 'text'


@pytest.mark.posix
def test_the_folder_of_another_user_is_kept(monkeypatch, tmp_path):
    (tmp_path / f'{temporary.MARK}x').mkdir()
    monkeypatch.setattr(temporary.os, 'geteuid', lambda: os.getuid() + 1)
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.posix
def test_a_folder_removed_as_abandoned_is_created_again(monkeypatch, tmp_path):
    """Another process can start between the creation of a folder and its lock."""
    mkdtemp, made = temporary.tempfile.mkdtemp, []

    def make_and_lose_the_first(**arguments):
        made.append(mkdtemp(**arguments))
        if len(made) == 1:
            remove_abandoned(tmp_path)
        return made[-1]

    monkeypatch.setattr(temporary.tempfile, 'mkdtemp', make_and_lose_the_first)
    with temporary_folder(tmp_path) as folder:
        assert folder == Path(made[1]) and folder.exists()


def test_without_locks_nothing_is_removed(monkeypatch, tmp_path):
    (tmp_path / f'{temporary.MARK}x').mkdir()
    monkeypatch.setitem(sys.modules, 'fcntl', None)
    with temporary_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f'{temporary.MARK}x']


@pytest.mark.posix
def test_descriptors_are_closed(tmp_path):
    if not os.path.exists('/proc/self/fd'):
        pytest.skip('no /proc')
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(3):
        (tmp_path / f'{temporary.MARK}{time.monotonic_ns()}').mkdir()
        with temporary_folder(tmp_path):
            pass
    assert len(os.listdir('/proc/self/fd')) == before
