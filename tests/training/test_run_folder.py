"""Folders of runs: which ones may be used, archiving, and the lock."""

import multiprocessing
import os
import re
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


def test_a_link_is_renamed_and_not_what_it_points_to(folder, experiment):
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
        ('experiments/small', False, True),
        ('experiments', False, True),
        ('experiments', True, False),
        ('.', False, False),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(folder, experiment, monkeypatch, closed, resume, refused):
    """Without permissions, which do not exist for root."""
    closed = folder / closed
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != closed)
    problem = run_folder.problem_with(experiment, resume)
    assert (problem is not None and f'{closed} cannot be written' in problem) == refused
    assert refused or problem is None


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
    assert ours.poll(10)
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
def test_the_lock_ends_with_a_killed_process(experiment, other):
    other.kill()
    other.join()
    run_folder.take(experiment).release()


@pytest.mark.posix
def test_the_lock_is_not_inherited_by_workers(experiment):
    """A worker that outlives a killed run must not block the next one."""
    lock = run_folder.take(experiment, resume=True)
    worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    lock.release()
    run_folder.take(experiment, resume=True).release()
    assert worker.is_alive()
    worker.kill()
    worker.join()
