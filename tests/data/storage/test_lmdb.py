import os
from random import Random

import lmdb
import numpy as np
import pytest

from deeprftv2_plugin.data.storage import lmdb_writer
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.lmdb_pages import Pages
from deeprftv2_plugin.data.storage.lmdb_reader import check_structure, read_keys, read_shapes, read_value
from deeprftv2_plugin.data.storage.lmdb_writer import GrowingLmdb, LmdbWriter
from deeprftv2_plugin.utils.errors import UserError

SIZES = (0, 1, 500, 1500, 2500, 5000, 20000)
"""Sizes of values that are in a page and on one or more pages of their own."""


def test_images_survive_a_round_trip(tmp_path, write_lmdb):
    images = write_lmdb('a.lmdb', ['b', 'a'])
    root = str(tmp_path / 'a.lmdb')
    assert read_keys(root) == ['a', 'b']
    for key, image in images.items():
        assert np.array_equal(StoredImage(key, root).read(), image)
    assert (tmp_path / 'a.lmdb/meta_info.txt').read_text() == 'b.png (20,24,3) 1\na.png (20,24,3) 1\n'


def test_database_grows_beyond_the_initial_map_size(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(lmdb_writer, 'FIRST_MAP_SIZE', 2**16)
    image = rng.integers(0, 65536, (100, 200, 3), np.uint16)
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        for key in 'abcd':
            writer.add(key, image)
    assert np.array_equal(StoredImage('d', str(tmp_path / 'a.lmdb')).read(), image[..., ::-1])


def test_reopened_database_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_writer, 'FIRST_MAP_SIZE', 2**16)
    for number in range(8):
        database = GrowingLmdb(tmp_path / 'a.lmdb')
        database.keep_only([*map(str, range(number)), 'absent'])
        database.put({str(number): bytes([number]) * 20000, f'{number}-half': bytes(50000)})
        database.close()
    (tmp_path / 'a.lmdb/meta_info.txt').write_text(''.join(f'{number}.png (1,1,1) 1\n' for number in range(8)))
    assert [read_value(str(tmp_path / 'a.lmdb'), str(number))[-1] for number in range(8)] == list(range(8))
    with pytest.raises(UserError, match='6-half is listed in .* but is not in the database'):
        read_value(str(tmp_path / 'a.lmdb'), '6-half')


def test_put_stores_all_values_or_none(tmp_path):
    database = GrowingLmdb(tmp_path / 'a.lmdb')
    database.put({'b': b'1'})
    with pytest.raises(KeyError):
        database.put({'a': b'2', 'b': b'2'}, overwrite=False)
    database.close()
    with pytest.raises(UserError, match='a is listed in'):
        read_value(str(tmp_path / 'a.lmdb'), 'a')


def test_read_shapes(tmp_path, write_lmdb):
    write_lmdb('a.lmdb', ['b', 'a'])
    assert read_shapes(str(tmp_path / 'a.lmdb')) == {'b': (20, 24, 3), 'a': (20, 24, 3)}
    (tmp_path / 'a.lmdb/meta_info.txt').write_text('a.png\n')
    with pytest.raises(UserError, match=r"has the line 'a\.png', expected key\.png \(height,width,channels\)"):
        read_shapes(str(tmp_path / 'a.lmdb'))


@pytest.mark.parametrize('key', ['', 'a.b', 'a/b', 'a b', 'ä', 512 * 'a'])
def test_keys_that_basicsr_cannot_read_are_rejected(tmp_path, key):
    with LmdbWriter(tmp_path / 'a.lmdb') as writer, pytest.raises(ValueError, match='a key is 1 to 511 ASCII'):
        writer.add(key, np.zeros((4, 4, 3), np.uint8))


def test_duplicate_key_is_rejected(tmp_path):
    with LmdbWriter(tmp_path / 'a.lmdb') as writer:
        writer.add('a', np.zeros((4, 4), np.uint8))
        with pytest.raises(ValueError, match='already'):
            writer.add('a', np.zeros((4, 4), np.uint8))
    assert (tmp_path / 'a.lmdb/meta_info.txt').read_text() == 'a.png (4,4,1) 1\n'


def test_writer_needs_a_new_folder_that_ends_in_lmdb(tmp_path):
    with pytest.raises(ValueError, match=r"end in '\.lmdb'"):
        LmdbWriter(tmp_path / 'a')
    (tmp_path / 'a.lmdb').mkdir()
    with pytest.raises(FileExistsError):
        LmdbWriter(tmp_path / 'a.lmdb')


def test_link_to_a_database(tmp_path, write_lmdb):
    write_lmdb('a.lmdb', ['a'])
    (tmp_path / 'b.lmdb').symlink_to(tmp_path / 'a.lmdb')
    assert read_value(str(tmp_path / 'a.lmdb'), 'a') == read_value(str(tmp_path / 'b.lmdb'), 'a')


@pytest.mark.posix
def test_name_of_a_database_does_not_have_to_be_utf_8(tmp_path, write_lmdb):
    name = os.fsdecode(b'caf\xe9.lmdb')
    (image,) = write_lmdb(name, ['a']).values()
    assert np.array_equal(StoredImage('a', str(tmp_path / name)).read(), image)


@pytest.mark.posix
def test_forked_process_reads_the_same_database(tmp_path, write_lmdb):
    write_lmdb('a.lmdb', ['a'])
    root = str(tmp_path / 'a.lmdb')
    value = read_value(root, 'a')
    child = os.fork()
    if not child:
        os._exit(0 if read_value(root, 'a') == value else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert read_value(root, 'a') == value


def test_errors_name_the_faulty_database(tmp_path, write_lmdb):
    with pytest.raises(UserError, match=r'gone\.lmdb is not an LMDB.*data\.mdb is missing'):
        read_keys(str(tmp_path / 'gone.lmdb'))
    write_lmdb('a.lmdb', ['a'])
    root = tmp_path / 'a.lmdb'
    with pytest.raises(UserError, match=r'b is listed in .*a\.lmdb/meta_info\.txt but is not in the database'):
        read_value(str(root), 'b')
    (root / 'meta_info.txt').write_text('')
    with pytest.raises(UserError, match='the list of images .* is empty'):
        read_keys(str(root))
    (root / 'meta_info.txt').unlink()
    with pytest.raises(UserError, match=r'meta_info\.txt is missing'):
        read_keys(str(root))


def test_error_names_the_damaged_database(tmp_path):
    (tmp_path / 'a.lmdb').mkdir()
    (tmp_path / 'a.lmdb/data.mdb').write_bytes(b'nothing' * 1000)
    with pytest.raises(UserError, match=r'a\.lmdb/data\.mdb is damaged or not an LMDB of version 0\.9'):
        read_value(str(tmp_path / 'a.lmdb'), 'a')


@pytest.mark.parametrize('shape', [(20, 24, 3), (400, 300, 3)])
def test_error_says_that_a_database_is_truncated(tmp_path, write_lmdb, shape):
    """LMDB itself would crash the process."""
    write_lmdb('a.lmdb', 'ab', shape)
    path = tmp_path / 'a.lmdb/data.mdb'
    size = path.stat().st_size
    os.truncate(path, size - 4096)
    for read in (read_keys, read_shapes, check_structure, lambda root: read_value(root, 'a'), GrowingLmdb):
        with pytest.raises(UserError, match=rf'data\.mdb has {size - 4096} of {size} bytes: the copy is incomplete'):
            read(str(tmp_path / 'a.lmdb'))


@pytest.mark.posix
def test_only_regular_files_are_opened(tmp_path, write_lmdb):
    write_lmdb('a.lmdb', ['a'])
    for name in ('meta_info.txt', 'data.mdb'):
        (tmp_path / 'a.lmdb' / name).unlink()
        os.mkfifo(tmp_path / 'a.lmdb' / name)
        with pytest.raises(UserError, match=rf'{name} is a named pipe, expected a regular file'):
            read_keys(str(tmp_path / 'a.lmdb'))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.png (20,24,3) 1'.encode('utf-16'), 'the list of images .* is encoded in UTF-16, expected UTF-8: save it'),
        (b'a.png (20,24,3) 1\ncaf\xe9.png (20,24,3) 1', 'is not a UTF-8 text file: line 2 has the byte 0xe9'),
        (b'a\0.\0', 'has null characters'),
    ],
)
def test_other_encodings_of_the_list_are_rejected(tmp_path, write_lmdb, text, message):
    write_lmdb('a.lmdb', ['a'])
    (tmp_path / 'a.lmdb/meta_info.txt').write_bytes(text)
    for read in (read_keys, read_shapes):
        with pytest.raises(UserError, match=message):
            read(str(tmp_path / 'a.lmdb'))


def test_byte_order_mark_of_the_list_is_ignored(tmp_path, write_lmdb):
    write_lmdb('a.lmdb', ['a'])
    (tmp_path / 'a.lmdb/meta_info.txt').write_text('a.png (20,24,3) 1', encoding='utf-8-sig')
    assert read_keys(str(tmp_path / 'a.lmdb')) == ['a']


def test_every_value_is_found_as_by_lmdb(tmp_path):
    """The tree has several levels, and pages that were freed and used again."""
    random = Random(0)
    database, values = GrowingLmdb(tmp_path / 'a.lmdb', durable=False), {}
    for _ in range(4):
        added = {
            str(random.randrange(10**9)) + 'x' * random.choice((0, 20, 400)): random.randbytes(random.choice(SIZES))
            for _ in range(100)
        }
        database.put(added)
        values = {key: value for key, value in (values | added).items() if random.random() < 0.7}
        database.keep_only(values)
    database.close()
    root = str(tmp_path / 'a.lmdb')
    check_structure(root)
    assert {key: read_value(root, key) for key in values} == values
    environment = lmdb.open(root, readonly=True, lock=False)
    with environment.begin() as transaction:
        assert {key.decode(): value for key, value in transaction.cursor()} == values
    environment.close()
    with open(f'{root}/data.mdb', 'rb') as file:
        assert Pages(file).main.depth > 2
    for key in ('', '0', '5', '999999999', 'x', 'é'):
        with pytest.raises(UserError, match='is not in the database'):
            read_value(root, key)


def test_empty_database_has_no_values(tmp_path):
    GrowingLmdb(tmp_path / 'a.lmdb').close()
    check_structure(str(tmp_path / 'a.lmdb'))
    with pytest.raises(UserError, match='is not in the database'):
        read_value(str(tmp_path / 'a.lmdb'), 'a')
