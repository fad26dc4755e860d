"""Atomic file writing."""

import errno
import os
import stat

import pytest

from deeprftv2_plugin.utils import atomic_io
from deeprftv2_plugin.utils.atomic_io import advice, remove_partial, write_whole


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'results' / 'scores.csv'
    path.parent.mkdir()
    return path


@pytest.fixture
def before_sync(monkeypatch):
    """Call a function once after the data is written, but before it is synced and renamed."""

    def at_next_sync(action):
        fsync = os.fsync

        def act_and_sync(descriptor):
            monkeypatch.setattr(atomic_io.os, 'fsync', fsync)
            action()
            fsync(descriptor)

        monkeypatch.setattr(atomic_io.os, 'fsync', act_and_sync)

    return at_next_sync


def raise_disk_full():
    raise OSError(28, 'No space left on device')


def partial_of(path):
    return path.with_name(f'.{path.name}.partial')


def test_a_file_is_replaced_as_a_whole(path, before_sync):
    write_whole(path, b'old')
    seen = []
    before_sync(lambda: seen.append(path.read_bytes()))
    write_whole(path, b'new')
    assert (seen, path.read_bytes()) == ([b'old'], b'new')
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('code', ['EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'])
def test_file_systems_without_fsync(path, monkeypatch, code):
    def fail(descriptor):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, 'fsync', fail)
    write_whole(path, b'new')
    assert path.read_bytes() == b'new' and os.listdir(path.parent) == [path.name]


@pytest.mark.posix
def test_permissions_follow_the_umask(path):
    before = os.umask(0o027)
    try:
        write_whole(path, b'')
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize('old', [None, b'old'])
def test_a_failed_write_leaves_the_folder_as_it_was(path, before_sync, old):
    if old is not None:
        path.write_bytes(old)
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    before_sync(raise_disk_full)
    with pytest.raises(OSError, match='No space left'):
        write_whole(path, b'new')
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(path):
    path.mkdir()
    with pytest.raises(OSError):
        write_whole(path, b'new')
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('place', [lambda path: path, partial_of], ids=['path', 'temporary file'])
@pytest.mark.parametrize('dangling', [False, True])
def test_a_planted_link_is_not_followed(path, tmp_path, place, dangling):
    victim = tmp_path / 'victim'
    if not dangling:
        victim.write_text('precious')
    place(path).symlink_to(victim)
    write_whole(path, b'new')
    assert victim.exists() != dangling and (dangling or victim.read_text() == 'precious')
    assert list(path.parent.iterdir()) == [path] and not path.is_symlink() and path.read_bytes() == b'new'


@pytest.mark.posix
def test_a_link_planted_between_two_calls_is_not_followed(monkeypatch, path, tmp_path):
    (tmp_path / 'victim').write_text('precious')
    unlink = type(path).unlink

    def unlink_and_plant(self, missing_ok=False):
        unlink(self, missing_ok)
        self.symlink_to(tmp_path / 'victim')

    monkeypatch.setattr(type(path), 'unlink', unlink_and_plant)
    with pytest.raises(FileExistsError):
        write_whole(path, b'new')
    assert (tmp_path / 'victim').read_text() == 'precious'


def test_the_temporary_file_of_a_killed_process_is_removed(path):
    partial_of(path).write_bytes(b'longer than the new data')
    os.link(partial_of(path), path.with_name('other'))  # must not be followed
    write_whole(path, b'new')
    assert path.read_bytes() == b'new' and not partial_of(path).exists()
    assert path.with_name('other').read_bytes() == b'longer than the new data'


def test_the_temporary_files_of_killed_processes_are_removed(path, tmp_path):
    write_whole(path, b'')
    kept = [path, path.with_name('notes.partial'), path.with_name('.hidden'), partial_of(path.with_name('folder'))]
    for each in kept[1:3]:
        each.touch()
    kept[3].mkdir()
    (tmp_path / 'victim').write_text('precious')
    for name in ('10.state', 'net_g_10.pth'):
        partial_of(path.with_name(name)).write_bytes(b'half')
    partial_of(path.with_name('link')).symlink_to(tmp_path / 'victim')
    remove_partial(path.parent)
    assert sorted(path.parent.iterdir()) == sorted(kept)
    assert (tmp_path / 'victim').read_text() == 'precious'


def test_two_writers_of_one_file_do_not_mix(path, before_sync):
    """The second one succeeds, the first one gets an error, and the file is never incomplete."""
    before_sync(lambda: write_whole(path, b'second'))
    with pytest.raises(OSError, match='another process is writing the same file'):
        write_whole(path, b'first')
    assert path.read_bytes() == b'second'
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_file_of_a_running_writer_is_not_removed(path, before_sync):
    def start_anew():
        partial_of(path).unlink()
        partial_of(path).write_bytes(b'of another process')

    before_sync(start_anew)
    with pytest.raises(OSError, match='another process'):
        write_whole(path, b'first')
    assert partial_of(path).read_bytes() == b'of another process' and not path.exists()


@pytest.mark.parametrize(
    ('name', 'words'),
    [('x' * 300, 'too long: use shorter names'), ('missing/file', 'Check the path'), ('/dev/full', 'disk space')],
)
def test_the_advice_depends_on_the_error(tmp_path, name, words):
    with pytest.raises(OSError) as caught, open(tmp_path / name, 'w') as file:
        file.write('x' * 100000)
    assert words in advice(caught.value)
