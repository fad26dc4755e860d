"""Checkpoint files: supported formats, rejected files, loading, and conversion."""

import json
import os
import pickle
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import (
    containers,
    convert_file,
    load_file,
    load_into,
    load_network,
    read_weights,
    to_official_state_dict,
    write_checkpoint,
)
from deeprftv2_plugin.checkpoints.files import OPTIONS, read_options, read_set, read_sets
from deeprftv2_plugin.checkpoints.networks import no_larger_than
from deeprftv2_plugin.checkpoints.states import read_state
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
    assert same(read_weights(path), other)
    assert same(read_weights(path, 'params'), net.state_dict())
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


@pytest.mark.parametrize(('content', 'words'), [(HTML, 'an HTML page'), (POINTER, 'a Git LFS pointer')])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors', 'state'])
def test_failed_downloads_are_named(tmp_path, content, words, suffix):
    path = tmp_path / f'net.{suffix}'
    path.write_text(content)
    with pytest.raises(UserError, match=f'{words}, not a checkpoint: download the file itself'):
        read_state(path) if suffix == 'state' else read_weights(path)


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


def test_digest_covers_names_and_metadata(tmp_path):
    path = tmp_path / 'net.safetensors'
    write_checkpoint({'params_ema': {'weight': torch.ones(40)}}, path, {'options': '{"size": 1}'})
    data = path.read_bytes()
    assert list(read_sets(path)) == ['params_ema'] and read_options(path) == {'size': 1}
    for old, new in ((b'weight', b'veight'), (b'size', b'sise'), (b'params_ema', b'params_emb'), (b'[40]', b'[10]')):
        assert old in data
        path.write_bytes(data.replace(old, new))
        with pytest.raises(UserError, match='damaged'):
            read_options(path)


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


def quantized():
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


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


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (torch.full((3,), torch.inf), 'infinite'),
        (torch.full((3,), 1e300, dtype=torch.float64), 'infinite'),
        (torch.ones(3, dtype=torch.int64), 'torch.int64, expected torch.float32'),
        (torch.ones(3, dtype=torch.bool), 'torch.bool, expected torch.float32'),
        (torch.ones(3, dtype=torch.complex64), 'torch.complex64, expected torch.float32'),
        (torch.tensor(1.0), r'is \(\), expected \(3,\)'),
    ],
)
def test_weights_of_another_dtype_are_errors(value, words):
    net = torch.nn.BatchNorm2d(3)
    with pytest.raises(UserError, match=f'a.pth: .*bias.*{words}'):
        load_into(net, {**net.state_dict(), 'bias': value}, 'a.pth')
    with pytest.raises(UserError, match='a.pth: num_batches_tracked is of torch.float32'):
        load_into(net, {**net.state_dict(), 'num_batches_tracked': torch.tensor(1.0)}, 'a.pth')
    half = {key: each.half() if each.is_floating_point() else each for key, each in net.state_dict().items()}
    load_into(net, half, 'a.pth')


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


def test_network_with_infinite_buffers_loads_its_own_weights():
    net = torch.nn.Linear(2, 2)
    net.register_buffer('mask', torch.tensor([0, -torch.inf]))
    load_into(net, net.state_dict(), 'a.pth')


def test_mostly_mismatched_weights_are_an_error_without_strict(net):
    for weights in ({}, {'a': torch.ones(2)}, dict(list(net.state_dict().items())[:9])):
        with pytest.raises(UserError, match=r'a.pth: only \d of the \d+ weights of this DeepRFTv2 fit'):
            load_into(net, weights, 'a.pth', strict=False)


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


def test_numbering_of_stages_must_be_complete(net, tmp_path):
    """A large number in a name must not lead to a huge network."""
    state = {key.replace('stages.1.', 'stages.999999999.'): value for key, value in net.state_dict().items()}
    torch.save({'params': state}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='not the weights of a DeepRFTv2'):
        load_network(tmp_path / 'net.pth')


HUGE = 10**9


@pytest.mark.parametrize(
    'settings',
    [
        {'stages': HUGE},
        {'width': HUGE},
        {'width': [4, 20_000]},
        {'kernel_width': [HUGE, 6]},
        {'kernel_depths': [1, 1, HUGE, 1]},
        {'full_encoder': [['NAF', HUGE], ['NAFScan', 1], ['NAFScan', 1]]},
    ],
    ids=str,
)
def test_sizes_in_a_file_are_compared_with_its_weights_before_a_network_is_built(net, tmp_path, settings):
    own = {'type': 'DeepRFTv2', 'variant': 'T', 'width': 4, 'kernel_width': [4, 6], 'stages': 2}
    path = tmp_path / 'net.safetensors'
    for options, fits in ((own, True), ({**own, **settings}, False)):
        write_checkpoint({'params': net.state_dict()}, path, {OPTIONS: json.dumps({'network_g': options})})
        with nullcontext() if fits else pytest.raises(UserError, match='not the weights of a DeepRFTv2'):
            assert same(load_network(path).state_dict(), net.state_dict())


def test_shapes_without_values_do_not_make_a_network_huge(net, tmp_path):
    state = net.state_dict() | {'stages.0.full_head.weight': torch.zeros(0, HUGE, 3, 3)}
    torch.save({'params': state}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='not the weights of a DeepRFTv2'):
        load_network(tmp_path / 'net.pth')


def test_networks_of_other_threads_may_be_larger(net):
    with no_larger_than({}), ThreadPoolExecutor() as pool:
        assert len(pool.submit(torch.nn.Linear, 2, 3).result().weight) == 3
    assert len(torch.nn.Linear(2, 3).weight) == 3
