"""Conversion between the authors' files and those of this package."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
import yaml

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import (
    convert_file,
    from_official_options,
    load_file,
    read_weights,
    to_official_state_dict,
    write_checkpoint,
)
from deeprftv2_plugin.checkpoints.files import read_sets
from deeprftv2_plugin.checkpoints.networks import network_with_settings
from deeprftv2_plugin.utils.errors import UserError
from tests.checkpoints.samples import quantized, same

GOLDEN = Path(__file__).parents[1] / 'golden'


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
    ):
        with pytest.raises(UserError, match=message):
            convert_file(source, target)
    torch.save({'params': {'body.weight': torch.zeros(3)}}, tmp_path / 'other.pth')
    with pytest.raises(UserError, match='other.pth: not the parameters of a DeepRFTv2'):
        convert_file(tmp_path / 'other.pth', tmp_path / 'x.pth')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['other.pth', 'ours.pth']


def test_conversion_of_one_set(net, tmp_path):
    """A .safetensors file contains one set: the average, or the requested one."""
    source, average = tmp_path / 'ours.pth', {key: value + 1 for key, value in net.state_dict().items()}
    write_checkpoint({'params': net.state_dict(), 'params_ema': average}, source)
    for target, param_key, name, expected in (
        ('a.safetensors', None, 'params_ema', average),
        ('b.safetensors', 'params', 'params', net.state_dict()),
        ('c.pth', 'params_ema', 'params_ema', average),
    ):
        assert convert_file(source, tmp_path / target, param_key).endswith(f'({name})')
        assert list(read_sets(tmp_path / target)) == [name]
        assert same(read_weights(tmp_path / target), expected)
    with pytest.raises(UserError, match="no weights called 'mean', only params, params_ema"):
        convert_file(source, tmp_path / 'd.pth', 'mean')


@pytest.mark.parametrize('value', [torch.inf, -torch.inf])
def test_infinite_weights_are_not_converted(net, tmp_path, value):
    state = {**net.state_dict(), 'stages.0.full_head.bias': torch.full((3,), value)}
    torch.save({'params': state}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='full_head.bias is .*infinite'):
        convert_file(tmp_path / 'net.pth', tmp_path / 'x.pth')


@pytest.mark.posix
def test_conversion_of_paths_that_are_not_files_is_an_error(net, tmp_path):
    source, loop, folder = tmp_path / 'ours.pth', tmp_path / 'loop.pth', tmp_path / 'folder.pth'
    write_checkpoint({'params': net.state_dict()}, source)
    loop.symlink_to(loop)
    folder.mkdir()
    os.mkfifo(tmp_path / 'pipe.yml')
    for path in (loop, folder, tmp_path / 'pipe.yml', tmp_path / 'a\0.pth', tmp_path / ('a' * 300 + '.pth')):
        with pytest.raises(UserError, match=re.escape(str(path))):
            convert_file(path, tmp_path / f'x{path.suffix}')
    for path in (loop, folder, source / 'x.pth', tmp_path / 'a\0.pth', tmp_path / ('a' * 300 + '.pth')):
        with pytest.raises(UserError, match=re.escape(str(path))):
            convert_file(source, path)
    assert convert_file(source, tmp_path / 'new/folders/x.pth')
    options = tmp_path / 'theirs.yml'
    options.write_text(yaml.safe_dump(json.loads((GOLDEN / 'authors_options.json').read_text())['gopro_test']))
    with pytest.raises(UserError, match='cannot be written'):
        convert_file(options, source / 'x.yml')
    assert convert_file(options, tmp_path / 'more/folders/x.yml')


@pytest.mark.parametrize('text', ['5', '[1, 2]', 'a: [', '\0', '1: 2', '[' * 1000, 'network_g: text'])
def test_other_option_files_are_errors(tmp_path, text):
    (tmp_path / 'theirs.yml').write_text(text)
    with pytest.raises(UserError, match='theirs.yml'):
        convert_file(tmp_path / 'theirs.yml', tmp_path / 'x.yml')


def test_aliases_in_option_files_are_limited(tmp_path):
    """The text of the last list would have more than 10**15 characters."""
    lists = [f'l{number}: &l{number} [{", ".join([f"*l{number - 1}"] * 9)}]' for number in range(1, 15)]
    (tmp_path / 'theirs.yml').write_text('\n'.join(['l0: &l0 [1]', *lists, 'network_g: {small_scale: *l14}']))
    with pytest.raises(UserError, match='theirs.yml, line 6, .*: not YAML: more than 100,000 keys and values'):
        convert_file(tmp_path / 'theirs.yml', tmp_path / 'x.yml')


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
    with pytest.raises(UserError, match='broken.yml, line 1, .*: not YAML'):
        convert_file(tmp_path / 'broken.yml', tmp_path / 'x.yml')


def test_window_sizes_are_converted_with_the_weights(tmp_path):
    """Weights do not determine them."""
    options = json.loads((GOLDEN / 'authors_options.json').read_text())['gopro_test']
    options |= {'dims': [4, 4, 4], 'dims_ker': [4, 4, 4], 'sub_image_size': [32, 32], 'overlap_size': [8, 8]}
    (tmp_path / 'theirs.yml').write_text(yaml.safe_dump({'network_g': options}))
    settings = from_official_options(options)['network']
    net = DeepRFTv2(**settings)
    torch.save({'params': to_official_state_dict(net.state_dict())}, tmp_path / 'theirs.pth')
    target, given = tmp_path / 'ours.safetensors', {'options': tmp_path / 'theirs.yml'}
    assert 'without effect were dropped: ' in convert_file(tmp_path / 'theirs.pth', target, **given)
    found, again = network_with_settings(target)
    assert again == settings and same(found.state_dict(), net.state_dict())
    assert found.stages[0].full_estimator.window == (32, 32)


def test_options_of_other_weights_are_errors(net, tmp_path):
    options = json.loads((GOLDEN / 'authors_options.json').read_text())['gopro_test']
    (tmp_path / 'theirs.yml').write_text(yaml.safe_dump({'network_g': options}))
    torch.save({'params': to_official_state_dict(net.state_dict())}, tmp_path / 'theirs.pth')
    write_checkpoint({'params': net.state_dict()}, tmp_path / 'ours.pth')
    for source, target, message in (
        ('theirs.pth', 'x.safetensors', 'the weights do not match'),
        ('ours.pth', 'x.safetensors', 'only be added to a checkpoint of the authors'),
        ('theirs.pth', 'x.pth', 'only stored in a file whose name ends in .safetensors'),
        ('theirs.yml', 'x.yml', 'only stored in a file whose name ends in .safetensors'),
    ):
        with pytest.raises(UserError, match=message):
            convert_file(tmp_path / source, tmp_path / target, options=tmp_path / 'theirs.yml')
        assert not (tmp_path / target).exists()


TYPES = sorted({each for each in vars(torch).values() if isinstance(each, torch.dtype)}, key=str)
TYPES = [each for each in TYPES if not re.search('int[1-7]$', str(each))]  # torch.save does not know these


@pytest.mark.parametrize('dtype', TYPES, ids=str)
def test_weights_of_any_type_are_converted_or_refused(net, tmp_path, dtype):
    """Some dtypes of PyTorch have no operators."""
    try:
        value = torch.zeros(12, dtype=torch.uint8).view(dtype)
    except (RuntimeError, TypeError):  # quantized
        value = quantized()
    torch.save({'params': {**net.state_dict(), 'stages.0.full_head.bias': value}}, tmp_path / 'net.pth')
    refused = False
    try:
        convert_file(tmp_path / 'net.pth', tmp_path / 'x.pth')
    except UserError:
        refused = True
    assert (tmp_path / 'x.pth').exists() != refused
    linear = torch.nn.Linear(12, 12)
    torch.save({'params': {**linear.state_dict(), 'bias': value}}, tmp_path / 'net.pth')
    before = linear.bias.detach().clone()
    try:
        load_file(linear, tmp_path / 'net.pth')
    except UserError:
        assert torch.equal(linear.bias, before)
    else:
        assert linear.bias.abs().max() < 1e-30  # float8_e8m0fnu has no zero
