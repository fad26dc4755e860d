import os

import pytest

from deeprftv2_plugin.data.preparation.crops import Entry
from deeprftv2_plugin.data.preparation.journal import Journal
from deeprftv2_plugin.utils.errors import UserError

SETTINGS = {'crop': 8, 'splits': ['train']}
ENTRY = Entry('a_s001', '.png', (8, 8, 3))


@pytest.fixture
def written(tmp_path):
    """The path of a journal with two stored pairs and a finished split."""
    journal = Journal(tmp_path / 'journal', SETTINGS)
    journal.add('train', {'a': [ENTRY]})
    journal.add('train', {'b': [ENTRY, ENTRY]})
    journal.finish('test')
    journal.close()
    return journal.path


def read(path, settings=SETTINGS):
    journal = Journal(path, settings)
    journal.close()
    return journal.stored.get('train', {}), journal.finished


def test_journal_survives_a_round_trip(written):
    assert read(written) == ({'a': [ENTRY], 'b': [ENTRY, ENTRY]}, {'test'})


@pytest.mark.parametrize('keep', range(0, 200, 7))
def test_truncated_journal_resumes_from_its_last_complete_line(written, keep):
    text = written.read_bytes()
    written.write_bytes(text[:keep])
    lines = text[:keep].count(b'\n')
    stored, finished = [
        ({}, set()),
        ({}, set()),
        ({'a': [ENTRY]}, set()),
        ({'a': [ENTRY], 'b': [ENTRY, ENTRY]}, set()),
        ({'a': [ENTRY], 'b': [ENTRY, ENTRY]}, {'test'}),
    ][lines]
    assert read(written) == (stored, finished)
    journal = Journal(written, SETTINGS)
    journal.finish('val')
    journal.close()
    assert read(written) == (stored, finished | {'val'})


def test_other_settings_are_reported(written):
    with pytest.raises(UserError, match=r'\(crop was 8, is 9\): rerun that command .* or remove the folder'):
        read(written, SETTINGS | {'crop': 9})


@pytest.mark.parametrize('text', [b'[[[\n', b'5\n', b'null\n', b'\xff\n', b'\n'])
def test_a_journal_of_something_else_is_damaged(written, text):
    written.write_bytes(text)
    with pytest.raises(UserError, match='journal is damaged: remove .* to start over'):
        read(written)


@pytest.mark.parametrize('place', range(0, 200, 3))
def test_damage_of_any_byte_is_reported(written, place):
    """Otherwise another name would be recorded as stored."""
    data = bytearray(written.read_bytes())
    data[place % (len(data) - 1)] ^= 1
    written.write_bytes(data)
    with pytest.raises(UserError, match='journal is damaged: remove .* to start over'):
        read(written)


@pytest.mark.posix
def test_open_journal_is_locked_against_other_processes(tmp_path):
    journal = Journal(tmp_path / 'journal', SETTINGS)
    child = os.fork()
    if not child:
        try:
            Journal(tmp_path / 'journal', SETTINGS)
        except UserError as error:
            os._exit('another process is writing to' in str(error))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    journal.close()
    assert read(journal.path) == ({}, set())


@pytest.mark.posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_a_journal_must_be_a_regular_file(tmp_path, plant, kind):
    plant(tmp_path / 'journal', kind)
    with pytest.raises(OSError, match='expected a regular file'):
        Journal(tmp_path / 'journal', SETTINGS)
