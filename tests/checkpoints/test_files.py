"""Weight files: formats, sets of weights, damage, and writing."""

import os

import pytest
import torch
from safetensors.torch import save_file

from deeprftv2_plugin.checkpoints import (
    read_weights,
    to_official_state_dict,
    write_checkpoint,
)
from deeprftv2_plugin.checkpoints.files import read_options, read_set, read_sets
from deeprftv2_plugin.checkpoints.states import read_state
from deeprftv2_plugin.utils.errors import UserError
from tests.checkpoints.samples import same


@pytest.mark.parametrize('file_format', ['params', 'state_dict', 'plain', 'module', 'official', 'safetensors'])
def test_supported_formats(net, tmp_path, file_format):
    state = net.state_dict()
    path = tmp_path / ('net.safetensors' if file_format == 'safetensors' else 'net.pth')
    if file_format == 'safetensors':
        save_file(state, path)
    else:
        torch.save(
            {
                'params': {'params': state},
                'state_dict': {'state_dict': state},
                'plain': state,
                'module': {'params': {f'module.{key}': value for key, value in state.items()}},
                'official': {'params': to_official_state_dict(state)},
            }[file_format],
            path,
        )
    assert same(read_weights(path), state)


def test_param_key_selects_the_set(net, tmp_path):
    path, other = tmp_path / 'net.pth', {key: value + 1 for key, value in net.state_dict().items()}
    torch.save({'params': net.state_dict(), 'params_ema': other}, path)
    assert same(read_weights(path), other)
    assert same(read_weights(path, 'params'), net.state_dict())
    assert same(read_weights(path, 'params_ema'), other)
    with pytest.raises(UserError, match="no weights called 'parms_ema', only params, params_ema"):
        read_weights(path, 'parms_ema')
    torch.save({'params': net.state_dict(), 'more': other}, path)
    assert same(read_weights(path, 'params_ema'), net.state_dict())


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_damaged_and_missing_files_are_errors(net, tmp_path, suffix):
    path = tmp_path / f'net.{suffix}'
    with pytest.raises(UserError, match='checkpoint not found'):
        read_weights(path)
    write_checkpoint({'params': net.state_dict()}, path)
    for length in (0, 5, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:length] if length else b'')
        with pytest.raises(UserError, match=f'net.{suffix}: .*(truncated|damaged)'):
            read_weights(path)
        write_checkpoint({'params': net.state_dict()}, path)
    path.write_text('no checkpoint at all')
    with pytest.raises(UserError, match=f'net.{suffix}: '):
        read_weights(path)


@pytest.mark.parametrize('content', [{'epoch': 3}, torch.ones(2), [torch.ones(2)], None], ids=repr)
def test_file_without_weights_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='contains no weights'):
        read_weights(tmp_path / 'net.pth')


def test_failed_write_leaves_the_existing_file_unchanged(net, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    path = tmp_path / 'net.pth'
    write_checkpoint({'params': net.state_dict()}, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='No space left on device'):
        write_checkpoint({'params': {}}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ['net.pth']


HTML = '\n <!DOCTYPE html><html><head><title>Sign in</title></head></html>'
POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'


@pytest.mark.parametrize(
    ('content', 'words'),
    [(HTML, 'an HTML page'), (POINTER, 'a Git LFS pointer'), ('{"error": "Not Found"}\n', 'a text file')],
)
@pytest.mark.parametrize('suffix', ['pth', 'safetensors', 'state'])
def test_failed_downloads_are_named(tmp_path, content, words, suffix):
    path = tmp_path / f'net.{suffix}'
    path.write_text(content)
    with pytest.raises(UserError, match=f'{words}, not a checkpoint: download the file itself'):
        read_state(path) if suffix == 'state' else read_weights(path)


def test_every_byte_of_a_tensor_is_checked(tmp_path):
    """A .pth file has the checksums of the archive, which torch.load ignores. A .safetensors file has a digest."""
    weights = {'a': torch.ones(40), 'b': torch.full((40,), 2.0)}
    for name in ('net.pth', 'net.safetensors'):
        path = tmp_path / name
        write_checkpoint({'params': weights}, path, {'options': '{"a": 1}'} if name == 'net.safetensors' else None)
        data = bytearray(path.read_bytes())
        data[data.index(torch.ones(3).numpy().tobytes()) + 6] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=f'{name}: damaged: the (checksum|digest)'):
            read_weights(path)


def test_digest_covers_names_shapes_and_metadata(tmp_path):
    path = tmp_path / 'net.safetensors'
    write_checkpoint({'params_ema': {'weight': torch.ones(4, 10)}}, path, {'options': '{"size": 1}'})
    data = path.read_bytes()
    assert list(read_sets(path)) == ['params_ema'] and read_options(path) == {'size': 1}
    for old, new in (
        (b'weight', b'veight'),
        (b'size', b'sise'),
        (b'params_ema', b'params_emb'),
        (b'[4,10]', b'[10,4]'),
    ):
        assert old in data
        path.write_bytes(data.replace(old, new))
        with pytest.raises(UserError, match='damaged: the digest'):
            read_options(path)


@pytest.mark.parametrize('name', ['net.pth', 'net.safetensors'])
def test_missing_folders_are_created(tmp_path, name):
    path = tmp_path / 'new/folder' / name
    write_checkpoint({'params': {'a': torch.ones(2)}}, path)
    assert same(read_weights(path), {'a': torch.ones(2)})


def test_tied_weights_are_written(tmp_path):
    shared = torch.rand(4, 4)
    weights = {'a': shared, 'b': shared, 'c': shared.t(), 'd': shared[1:3], 'e': torch.empty(0), 'f': torch.empty(0)}
    for name in ('net.pth', 'net.safetensors'):
        write_checkpoint({'params': weights}, tmp_path / name)
        assert same(read_weights(tmp_path / name), weights)


def test_names_of_sets(tmp_path):
    """The average is read by default, and the name of the set is reported."""
    raw, average = {'a': torch.zeros(2)}, {'a': torch.ones(2)}
    path = tmp_path / 'net.pth'
    for sets, param_key, expected in (
        ({'params': raw, 'params_ema': average}, None, 'params_ema, the moving average'),
        ({'params': raw, 'params_ema': average}, 'params', 'params'),
        ({'params': raw}, None, 'params'),
        ({'params': raw}, 'params_ema', 'params'),
        ({'params_ema': average}, None, 'params_ema, the moving average'),
        ({'state_dict': raw}, None, 'state_dict'),
        ({'state_dict': raw}, 'params', 'state_dict'),
    ):
        torch.save(sets, path)
        assert str(read_set(path, param_key)) == expected
    for sets, param_key in (({'params_ema': raw}, 'params'), ({'g': raw, 'd': raw}, None)):
        torch.save(sets, path)
        with pytest.raises(UserError, match="no weights called 'params'"):
            read_set(path, param_key)
