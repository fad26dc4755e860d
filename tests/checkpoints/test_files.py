"""Checkpoint files: supported formats, rejected files, loading, and conversion."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import (
    convert_file,
    load_into,
    load_network,
    read_weights,
    to_official_state_dict,
    write_checkpoint,
)
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / 'golden'


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return DeepRFTv2('T', width=4, kernel_width=(4, 6), stages=2).eval()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


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
    assert same(read_weights(path), net.state_dict())
    assert same(read_weights(path, 'params_ema'), other)
    with pytest.raises(UserError, match="no weights called 'parms_ema', only params, params_ema"):
        read_weights(path, 'parms_ema')
    torch.save({'params': net.state_dict(), 'more': other}, path)
    assert same(read_weights(path, 'params_ema'), net.state_dict())


class Harmful:
    def __reduce__(self):
        return os.mkdir, ('harm',)


@pytest.mark.parametrize('save', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_rejected_and_not_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save({'params': Harmful()}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='refused, because'):
        read_weights(tmp_path / 'net.pth')
    assert not (tmp_path / 'harm').exists()


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


def test_file_without_weights_is_an_error(tmp_path):
    torch.save({'epoch': 3}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='contains no weights'):
        read_weights(tmp_path / 'net.pth')


def test_weights_of_another_network_are_an_error(net):
    other = DeepRFTv2('T', width=4, kernel_width=6)
    with pytest.raises(UserError, match=r'a\.pth: the weights do not match this DeepRFTv2: 0 missing.* is \('):
        load_into(other, net.state_dict(), 'a.pth')
    unmatched = load_into(other, net.state_dict(), 'a.pth', strict=False)
    assert unmatched and all('full_estimator' in key for key in unmatched)
    key = 'stages.0.full_encoder.levels.0.before.first.weight'
    assert torch.equal(other.state_dict()[key], net.state_dict()[key])


def test_network_is_rebuilt_from_a_checkpoint_alone(net, tmp_path):
    x = torch.rand(1, 3, 19, 27)
    for name, state in (('ours.pth', net.state_dict()), ('theirs.pth', to_official_state_dict(net.state_dict()))):
        torch.save({'params': state}, tmp_path / name)
        rebuilt = load_network(tmp_path / name)
        assert not rebuilt.training
        assert same(rebuilt.state_dict(), net.state_dict())
        assert torch.equal(restore(tmp_path / name, x), restore(net, x))


def test_rebuilding_another_network_is_an_error(tmp_path):
    torch.save({'params': {'body.weight': torch.zeros(3)}}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='not the weights of a DeepRFTv2'):
        load_network(tmp_path / 'net.pth')


def test_conversion_round_trip(net, tmp_path):
    state = net.state_dict()
    write_checkpoint({'params': state, 'params_ema': state}, tmp_path / 'ours.pth')
    assert "with the authors' names (params, params_ema)" in convert_file(
        tmp_path / 'ours.pth', tmp_path / 'theirs.pth'
    )
    assert all(key.startswith('global_model.') for key in torch.load(tmp_path / 'theirs.pth')['params'])
    assert "with this package's names" in convert_file(tmp_path / 'theirs.pth', tmp_path / 'back.pth')
    assert same(read_weights(tmp_path / 'back.pth', 'params_ema'), state)


def test_invalid_conversions_are_errors(net, tmp_path):
    source = tmp_path / 'ours.pth'
    write_checkpoint({'params': net.state_dict(), 'params_ema': net.state_dict()}, source)
    for target, message in (
        (source, 'already exists'),
        (tmp_path / 'x.onnx', 'ends in .pth or .safetensors'),
        (tmp_path / 'x.safetensors', 'contains one set of weights'),
    ):
        with pytest.raises(UserError, match=message):
            convert_file(source, target)
    torch.save({'params': {'body.weight': torch.zeros(3)}}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match='other.pth: not the parameters of a DeepRFTv2'):
        convert_file(tmp_path / 'other.pth', tmp_path / 'x.pth')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['other.pth', 'ours.pth']


def test_option_files_are_converted(tmp_path):
    options = json.loads((GOLDEN / 'authors_options.json').read_text())['gopro_test']
    (tmp_path / 'theirs.yml').write_text(yaml.safe_dump({'network_g': options}))
    assert 'without effect were dropped: ' in convert_file(tmp_path / 'theirs.yml', tmp_path / 'ours.yml')
    converted = yaml.safe_load((tmp_path / 'ours.yml').read_text())
    assert converted['val'] == {'tile': [512, 512], 'overlap': [128, 128]}
    assert converted['network_g'].pop('type') == 'DeepRFTv2'
    with torch.device('meta'):
        DeepRFTv2(**converted['network_g'])
    (tmp_path / 'broken.yml').write_text('a: [')
    with pytest.raises(UserError, match='not a YAML option file'):
        convert_file(tmp_path / 'broken.yml', tmp_path / 'x.yml')


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
