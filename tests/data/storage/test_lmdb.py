import os

import lmdb
import numpy as np
import pytest

from deeprftv2_plugin.data.storage import lmdb_writer
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.lmdb_reader import read_keys, read_shapes, read_value
from deeprftv2_plugin.data.storage.lmdb_writer import GrowingLmdb, LmdbWriter
from deeprftv2_plugin.utils.errors import UserError


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


def test_links_to_a_database_share_one_environment(tmp_path, write_lmdb):
    write_lmdb('a.lmdb', ['a'])
    (tmp_path / 'b.lmdb').symlink_to(tmp_path / 'a.lmdb')
    assert read_value(str(tmp_path / 'a.lmdb'), 'a') == read_value(str(tmp_path / 'b.lmdb'), 'a')


@pytest.mark.posix
def test_forked_process_opens_its_own_environment(tmp_path, write_lmdb):
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
    with pytest.raises(UserError, match='lists no images'):
        read_keys(str(root))
    (root / 'meta_info.txt').unlink()
    with pytest.raises(UserError, match=r'meta_info\.txt is missing'):
        read_keys(str(root))


def test_error_names_the_damaged_database(tmp_path):
    (tmp_path / 'a.lmdb').mkdir()
    (tmp_path / 'a.lmdb/data.mdb').write_bytes(b'nothing' * 1000)
    with pytest.raises(UserError, match=r'cannot read the database .*a\.lmdb') as caught:
        read_value(str(tmp_path / 'a.lmdb'), 'a')
    assert isinstance(caught.value.__cause__, lmdb.Error)
