"""Safe reading of files of torch.save: no code, no other objects, and only tensors with values."""

import pickle
import re
import zipfile

import numpy as np
import pytest
import torch

from deeprftv2_plugin.checkpoints import (
    containers,
    read_weights,
)
from deeprftv2_plugin.utils.errors import UserError
from tests.checkpoints.samples import Harmful, quantized, same


@pytest.mark.parametrize('save', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_rejected_and_not_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save({'params': Harmful()}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='refused, because'):
        read_weights(tmp_path / 'net.pth')
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize('kind', [np.float64, np.float32, np.int64, np.bool_, np.uint8])
def test_numpy_scalars_become_numbers(tmp_path, kind):
    torch.save({'best': kind(1), 'params': {'a': torch.ones(2)}}, tmp_path / 'net.pth')
    best = containers.load(tmp_path / 'net.pth')['best']
    assert best == 1 and type(best) in (int, float, bool)
    assert same(read_weights(tmp_path / 'net.pth'), {'a': torch.ones(2)})


@pytest.mark.parametrize('value', [np.ones(3), np.str_('a'), np.void(b'abc'), np.complex64(1), np.datetime64(5, 's')])
def test_other_numpy_objects_are_refused(tmp_path, value):
    torch.save({'best': value, 'params': {'a': torch.ones(2)}}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='refused, because|expected a number'):
        read_weights(tmp_path / 'net.pth')


@pytest.mark.parametrize('data', [b'\x89PNG\r\n\x1a\n', b'\x10\0\0\0\0\0\0\0{"a": 5}        '])
def test_files_of_other_kinds_are_not_taken_for_unsafe_ones(tmp_path, data):
    (tmp_path / 'net.pth').write_bytes(data)
    with pytest.raises(UserError, match='not a checkpoint: expected a .pth file of torch.save, or'):
        read_weights(tmp_path / 'net.pth')


def test_compressed_archives_are_refused(tmp_path):
    """Compressed records could expand to any size."""
    path = tmp_path / 'net.pth'
    torch.save({'params': {'a': torch.zeros(1000)}}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match='is compressed'):
        read_weights(path)


def test_records_that_torch_would_skip_are_refused(tmp_path):
    """A tensor marked as a folder would be loaded with uninitialized memory."""
    path = tmp_path / 'net.pth'
    torch.save({'params': {'a': torch.ones(1000)}}, path)
    data = bytearray(path.read_bytes())
    place = data.rindex(b'net/data/0')  # in the directory at the end, after its attributes
    assert data[place - 8 : place - 4] == bytes(4)
    data[place - 8] = 0x10
    path.write_bytes(data)
    with pytest.raises(UserError, match='data/0 is marked as a folder'):
        read_weights(path)


@pytest.mark.parametrize(
    ('state', 'words'),
    [
        ({'a': torch.ones(2, device='meta')}, 'a is a tensor without values'),
        ({'a': torch.ones(2).to_sparse()}, 'a is a tensor of torch.float32, torch.sparse_coo'),
        ({'a': torch.ones(2, 2).to_sparse_csr()}, 'a is a tensor of torch.float32, torch.sparse_csr'),
        ({'a': quantized()}, 'a is a tensor of torch.qint8'),
        ({'a': torch.ones(1).expand(10**6, 10**6)}, 'fewer values'),
        ({'a': torch.tensor(1.0).expand(3)}, 'fewer values'),
        ({'a': torch.tensor([1, torch.nan])}, 'a contains NaN'),
        ({'a': torch.tensor(torch.nan, dtype=torch.bfloat16)}, 'a contains NaN'),
        ({'a': torch.tensor([torch.nan]).to(torch.float8_e4m3fn)}, 'a contains NaN'),
        ({5: torch.ones(2)}, 'the weights have the name 5'),
        ({('a', 1): torch.ones(2)}, 'the weights have the name'),
        ({'module.a': torch.ones(2), 'a': torch.ones(2)}, "with and without the prefix 'module.'"),
        ({}, 'contains no weights'),
        ({'a': 'text'}, 'contains no weights'),
    ],
)
def test_tensors_that_are_not_weights_are_errors(tmp_path, state, words):
    torch.save({'params': state}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match=f'net.pth: .*{re.escape(words)}'):
        read_weights(tmp_path / 'net.pth')
