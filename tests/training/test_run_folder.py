"""Folders of runs: checks, archiving, and the lock."""

import errno
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path

import pytest

from deeprftv2_plugin.training import run_folder
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture
def experiment(folder):
    """The folder of an earlier training."""
    path = folder / 'experiments/small'
    (path / 'training_states').mkdir(parents=True)
    return path


def content(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob('*')}


@pytest.mark.parametrize('mark', run_folder.MARKS)
def test_folder_with_a_mark_of_a_run_is_archived(folder, mark):
    path = folder / 'experiments/small'
    path.mkdir(parents=True)
    (path / mark.replace('*', '1')).touch()
    (path / 'notes.txt').write_text('mine')
    run_folder.take(path).release()
    (archived,) = folder.glob('experiments/small_archived_*')
    assert (archived / 'notes.txt').read_text() == 'mine'
    assert os.listdir(path) == [run_folder.LOCK]


def test_folder_without_a_mark_is_refused_and_kept(folder):
    path = folder / 'experiments/pretrained_models'
    path.mkdir(parents=True)
    (path / 'net.pth').touch()
    before = content(folder)
    for attempt in (run_folder.take, run_folder.replace):
        with pytest.raises(UserError, match='pretrained_models exists, but it is not the folder of an earlier run'):
            attempt(path)
    assert content(folder) == before


def test_every_earlier_run_is_kept(folder):
    path = folder / 'experiments/small'
    for number in range(4):
        run_folder.take(path).release()
        (path / 'number').write_text(str(number))
    assert sorted(each.read_text() for each in path.parent.glob('small*/number')) == ['0', '1', '2', '3']
    assert (path / 'number').read_text() == '3'


def test_an_empty_folder_is_used(folder):
    path = folder / 'experiments/small'
    path.mkdir(parents=True)
    run_folder.take(path).release()
    assert os.listdir(path.parent) == ['small']


def test_a_resumed_folder_is_not_archived(experiment):
    run_folder.take(experiment, resume=True).release()
    assert os.listdir(experiment.parent) == ['small']


def test_a_link_is_renamed_and_not_its_target(folder, experiment):
    (folder / 'disk').mkdir()
    elsewhere = experiment.rename(folder / 'disk/small')
    experiment.symlink_to(elsewhere)
    run_folder.take(experiment).release()
    assert elsewhere.is_dir() and not experiment.is_symlink()


def make_dangling(path):
    path.symlink_to('nowhere')


@pytest.mark.parametrize('place', ['experiments', 'experiments/small'])
@pytest.mark.parametrize(
    ('make', 'words'),
    [(make_dangling, 'is a link to nowhere, which does not exist'), (Path.touch, 'is not a folder')],
)
def test_a_dangling_link_and_a_file_are_refused(folder, place, make, words):
    path = folder / place
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(UserError, match=f'{re.escape(str(path))} {words}'):
        run_folder.take(folder / 'experiments/small')
    assert os.path.lexists(path)


@pytest.mark.parametrize(
    ('closed', 'resume', 'refused'),
    [
        ('experiments/small', True, True),
        ('experiments/small/training_states', True, True),
        ('experiments/small/training_states', False, False),
        ('experiments/small', False, True),
        ('experiments', False, True),
        ('experiments', True, False),
        ('.', False, False),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(folder, experiment, monkeypatch, closed, resume, refused):
    """The folder has no write permission, which does not apply to root."""
    closed = folder / closed
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != closed)
    problem = run_folder.problem_with(experiment, resume)
    assert (problem is not None and f'{closed} cannot be written' in problem) == refused
    assert refused or problem is None


@pytest.mark.parametrize('resume', [False, True])
def test_a_lock_of_another_user_is_reported(experiment, monkeypatch, resume):
    run_folder.Lock(experiment).release()
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path).name != run_folder.LOCK)
    assert 'run.lock cannot be written' in (run_folder.problem_with(experiment, resume) or '')


def hold(path, pipe):
    lock = run_folder.take(path, resume=True)
    pipe.send('locked')
    pipe.recv()
    lock.release()


@pytest.fixture
def other(experiment):
    """A process that holds the lock."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(experiment, theirs), daemon=True)
    process.start()
    assert ours.poll(120)
    yield process
    process.kill()
    process.join()


@pytest.mark.posix
@pytest.mark.parametrize('resume', [False, True])
def test_a_folder_in_use_is_refused_and_unchanged(experiment, other, resume):
    before = content(experiment.parent)
    with pytest.raises(UserError, match=rf'small is in use by another run \(process {other.pid} on .*, since 20'):
        run_folder.take(experiment, resume=resume)
    assert content(experiment.parent) == before


def test_subfolders_that_cannot_be_created_are_named(experiment):
    (experiment / 'models').touch()
    with pytest.raises(UserError, match='models cannot be written: .* Check the path'):
        run_folder.take(experiment, ['models'], resume=True)


@pytest.mark.posix
@pytest.mark.parametrize(('kind', 'words'), [('link', 'a link'), ('dangling', 'a link'), ('pipe', 'a named pipe')])
@pytest.mark.parametrize('resume', [False, True])
def test_a_lock_must_be_a_regular_file(experiment, plant, kind, words, resume):
    plant(experiment / run_folder.LOCK, kind)
    with pytest.raises(UserError, match=rf'run\.lock is {words}, expected a regular file.* remove'):
        run_folder.take(experiment, resume=resume)
    assert run_folder.problem_with(experiment, resume)
    with pytest.raises(OSError, match=f'it is {words}'):
        run_folder.Lock(experiment)


def test_a_large_lock_file_is_an_error(experiment):
    (experiment / run_folder.LOCK).write_bytes(bytes(10**4))
    with pytest.raises(UserError, match=r'run\.lock has 10,000 bytes, expected at most'):
        run_folder.take(experiment, resume=True)


def lock_and_report(path, pipe):
    try:
        run_folder.Lock(path)
        pipe.send('locked')
    except UserError as error:
        pipe.send(str(error))


@pytest.mark.posix
@pytest.mark.parametrize('place', ['small', 'link', 'hard'])
def test_checking_a_lock_of_this_process_does_not_release_it(folder, experiment, place):
    """POSIX releases the locks of a process on a file when the process closes any descriptor of the file."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    lock = run_folder.take(experiment, resume=True)
    (folder / 'link').symlink_to(experiment)
    (folder / 'hard').mkdir()
    os.link(experiment / run_folder.LOCK, folder / 'hard' / run_folder.LOCK)
    looked_at = {'small': experiment}.get(place, folder / place)
    assert 'in use by another run of this process' in run_folder.problem_with(looked_at, resume=True)
    process = context.Process(target=lock_and_report, args=(experiment, theirs), daemon=True)
    process.start()
    assert ours.poll(120) and f'in use by another run (process {os.getpid()}' in ours.recv()
    process.join()
    lock.release()
    assert run_folder.problem_with(looked_at, resume=True) is None


@pytest.fixture(params=['ENOLCK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'Windows'])
def no_locks(request, monkeypatch):
    """A file system without locks, or an operating system without them, which does not rename open files either."""
    if request.param == 'Windows':
        monkeypatch.setitem(sys.modules, 'fcntl', None)
    else:
        fcntl = pytest.importorskip('fcntl')
        code = getattr(errno, request.param)

        def fail(*args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, 'lockf', fail)
    rename = os.rename

    def rename_closed(*paths):
        assert not run_folder._held, 'a file in the folder is open'
        rename(*paths)

    monkeypatch.setattr(os, 'rename', rename_closed)


@pytest.mark.parametrize('resume', [False, True])
def test_without_locks_the_folder_is_used(experiment, no_locks, resume):
    lock = run_folder.take(experiment, ['models'], resume=resume)
    assert not lock.is_effective and (experiment / 'models').is_dir()
    assert len(os.listdir(experiment.parent)) == (1 if resume else 2)
    lock.release()
    assert run_folder.problem_with(experiment, resume=True) is None


def test_temporary_files_of_a_killed_run_are_removed(experiment):
    leftovers = [experiment / name for name in ('training_states/.9.state.partial', 'models/.net_g_9.pth.partial')]
    (experiment / 'models').mkdir()
    for path in leftovers:
        path.write_bytes(b'half')
    (experiment / 'models/net_g_9.pth').write_bytes(b'whole')
    run_folder.take(experiment, ['models', 'training_states'], resume=True).release()
    assert not any(path.exists() for path in leftovers)
    assert (experiment / 'models/net_g_9.pth').read_bytes() == b'whole'


@pytest.mark.posix
def test_temporary_files_of_a_live_run_are_kept(experiment, other):
    path = experiment / 'training_states/.9.state.partial'
    path.write_bytes(b'half')
    with pytest.raises(UserError, match='in use'):
        run_folder.take(experiment, ['training_states'], resume=True)
    assert path.exists()


@pytest.mark.posix
def test_the_lock_of_a_killed_process_is_released(experiment, other):
    other.kill()
    other.join()
    run_folder.take(experiment).release()


@pytest.mark.posix
def test_the_lock_is_not_inherited_by_workers(experiment):
    """A worker that outlives a killed run must not block the next one."""
    lock = run_folder.take(experiment, resume=True)
    worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,), daemon=True)
    worker.start()
    lock.release()
    run_folder.take(experiment, resume=True).release()
    assert worker.is_alive()
    worker.kill()
    worker.join()
