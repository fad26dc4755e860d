"""Damaged and randomly generated weights and training states."""

import copy
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import convert_file, load_file, load_network, to_official_state_dict, write_checkpoint
from deeprftv2_plugin.checkpoints.files import OPTIONS
from deeprftv2_plugin.checkpoints.states import read_state
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.utils.errors import UserError
from tests.models.toys import OneScale, make_model, train

from . import check, damaged

GOLDEN = Path(__file__).parents[1] / 'golden'
SETTINGS = {
    'optim_g': {'type': 'AdamW', 'lr': 0.01, 'fused': True},
    'scheduler': {'type': 'CosineAnnealingLR', 'T_max': 9},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logging.disable(logging.CRITICAL)
    yield tmp_path
    logging.disable(logging.NOTSET)


@pytest.fixture(scope='module')
def weights():
    torch.manual_seed(0)
    net, average = OneScale(), OneScale()
    return {'params': net.state_dict(), 'params_ema': average.state_dict()}


def equal(one, other):
    """Return whether nested values are equal."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.parametrize('kind', ['pth', 'safetensors', 'old.pth', 'foreign.safetensors'])
def test_damaged_weights(weights, kind):
    """Changes to files without checksums may not be detected, but must not do any harm."""
    path = Path(f'net.{kind}')
    if kind == 'old.pth':
        torch.save(weights, path, _use_new_zipfile_serialization=False)
    elif kind == 'foreign.safetensors':
        from safetensors.torch import save_file

        save_file(weights['params_ema'], path)
    else:
        sets = weights if kind == 'pth' else {'params_ema': weights['params_ema']}
        write_checkpoint(sets, path, {OPTIONS: json.dumps({'network_g': {'type': 'OneScale'}})})
    data = path.read_bytes()

    def trial(random):
        path.write_bytes(damaged(data, random))
        net = OneScale()
        load_file(net, path)
        return len(kind) > 11 or kind == 'old.pth' or equal(dict(net.state_dict()), dict(weights['params_ema']))

    counts = check(kind, trial, 120)
    assert counts['clear'] > counts['fine'] / 2


def state_file(path):
    """Train a network for a few steps and save its state. Return the model and the bytes of the state."""
    model = make_model('TwoScales', **SETTINGS)
    model.opt['path'].update(models=str(path), training_states=str(path))
    train(model, [1, 2])
    model.save_training_state(0, 2)
    return (path / '2.state').read_bytes()


def test_damaged_states(folder):
    data = state_file(folder)
    expected = read_state('2.state')

    def trial(random):
        Path('2.state').write_bytes(damaged(data, random))
        return equal(read_state('2.state'), expected)

    check('states', trial, 120)


def odd_tensor(value, random):
    """Return a tensor that cannot be a weight for some reason."""
    make = random.choice(
        [
            lambda: value.to('meta'),
            lambda: value.to_sparse(),
            lambda: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
            lambda: value.to(random.choice([torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float64])),
            lambda: value.to(random.choice([torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])),
            lambda: torch.full_like(value.float(), random.choice([torch.nan, torch.inf, -torch.inf, 1e38])),
            lambda: value.float().double() * 1e300,
            lambda: value.flatten()[0] if value.numel() else value,
            lambda: value.flatten()[:0],
            lambda: torch.zeros(1).expand(10**6, 10**6),
            lambda: value[None].expand(3, *value.shape),
            lambda: value.flatten()[:1].expand(value.shape),
            lambda: value.flip(0) if value.ndim else value,
            lambda: value.mT if value.ndim > 1 else value,
            lambda: torch.zeros([random.randrange(4) for _ in range(random.randrange(6))]),
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            lambda: torch.nn.Parameter(value.float()),
            lambda: torch.zeros(4).to_mkldnn(),
            lambda: torch.eye(4).to_sparse_csr(),
        ]
    )
    try:
        return make()
    except RuntimeError:  # not supported for every dtype and number of dimensions
        return torch.zeros(7)


def odd_value(random):
    """Return an object that is not a tensor."""
    recursive = [1]
    recursive.append(recursive)
    deep = []
    for _ in range(300):
        deep = [deep]
    return random.choice(
        [None, True, -1, 10**30, 0.5, float('nan'), '', 'text', b'bytes', [], {}, (), [[]], {'a': {}}, {5: 5}, {1, 2}]
        + [np.float64(2), np.ones(2), torch.float32, torch.Size([2]), torch.device('cpu'), 1j, deep, recursive]
    )


def mutated(content, random):
    """Return a copy of nested dicts and lists with one to three changed, added or removed entries."""
    content = copy.deepcopy(content)
    for _ in range(random.randint(1, 3)):
        at = content
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = random.choice(keys) if keys else None
            inner = at[key] if keys else None
            if not isinstance(inner, dict | list) or not inner or random.random() < 0.2:
                break
            at = inner
        kind = random.choice(['value', 'tensor', 'remove', 'rename', 'add'])
        if key is None or kind == 'add':
            name = random.choice([5, 'x', ('a', 1), None, 'module.x', ''])
            if isinstance(at, dict):
                at[name] = odd_value(random)  # not `update`, which adds the values of a Counter
            else:
                at.append(odd_value(random))
        elif kind == 'remove':
            del at[key]
        elif kind == 'rename' and isinstance(at, dict):
            at[random.choice([5, 'x', f'module.{key}', f'{key}0', b'a', True])] = at.pop(key)
        elif kind == 'tensor' and isinstance(inner, torch.Tensor):
            at[key] = odd_tensor(inner, random)
        else:
            at[key] = odd_value(random)
    return content


def saved(content, path):
    """Save with torch.save, unless it cannot represent the content."""
    try:
        torch.save(content, path)
    except Exception:
        torch.save({}, path)


def test_invented_weights(weights):
    def trial(random):
        saved(mutated(weights, random), 'net.pth')
        net, param_key = OneScale(), random.choice([None, 'params', 'params_ema', 'x'])
        loaded = load_file(net, 'net.pth', param_key, strict=random.random() < 0.5)
        content = torch.load('net.pth', weights_only=False)
        found = net.state_dict()
        stored = content[loaded.weights.split(',')[0]]
        stored = {name.removeprefix('module.'): value for name, value in stored.items()}
        fitting = found.keys() - set(loaded.left_out)
        return all(torch.equal(found[name], stored[name].to(found[name].dtype)) for name in fitting) and all(
            value.isfinite().all() for value in found.values()
        )

    check('invented weights', trial, 120)


def test_invented_weights_of_deeprftv2():
    """Networks are rebuilt from these weights, and the weights are converted."""
    torch.manual_seed(0)
    net = DeepRFTv2('T', width=4, kernel_width=4, stages=1)
    theirs = to_official_state_dict(net.state_dict())

    def trial(random):
        for name in ('net.pth', 'x.pth', 'y.safetensors'):
            Path(name).unlink(missing_ok=True)
        state = random.choice([dict(net.state_dict()), theirs])
        saved(mutated({'params': state}, random), 'net.pth')
        convert_file('net.pth', random.choice(['x.pth', 'y.safetensors']))
        load_network('net.pth')
        return True

    check('invented weights of DeepRFTv2', trial, 20)


def odd_setting(value, random):
    """Return a setting of a network, or its parts, in another size or of another kind."""
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        return [*value[:place], odd_setting(value[place], random), *value[place + 1 :]]
    numbers = [0, 1, 2, 3, 7, 16, -1, 100, 5000, 10**5, 10**9, 10**18, 10**30, 0.5, 1e300, float('nan')]
    others = ['', 'x', 'NAF', 'LocalNAFScanWindow', None, True, [], {}, [10**9, 8], [8] * 1000, {'encoders': [1]}]
    return random.choice(numbers) if random.random() < 0.6 else random.choice(others)


def test_invented_options_of_deeprftv2():
    """A file with options is built as these say, unless its weights are of another size."""
    torch.manual_seed(0)
    net = DeepRFTv2('T', width=4, kernel_width=4, stages=2)
    levels = [['NAF', 1], ['NAFScan', 1], ['NAFScan', 1]]
    settings = {
        **{'type': 'DeepRFTv2', 'variant': 'T', 'in_channels': 3, 'out_channels': 3, 'width': [4, 4]},
        **{'kernel_width': 4, 'stages': 2, 'full_encoder': levels, 'full_decoder': levels[::-1]},
        **{'kernel_depths': [1, 1, 1, 1], 'kernel_norm': True, 'kernel_window': [16, 16], 'kernel_overlap': 4},
        **{'local_pool_crop': [16, 16], 'scan_window': [32, 32], 'reversible': True},
    }
    expected = net.state_dict()

    def trial(random):
        invented = dict(settings)
        for _ in range(random.randint(0, 2)):
            key = random.choice(list(settings))
            invented[key] = odd_setting(invented[key], random)
        options = random.choice([{'network_g': invented}] * 20 + [invented, [invented], {'network_g': [invented]}])
        write_checkpoint({'params': expected}, 'net.safetensors', {OPTIONS: json.dumps(options)})
        found = load_network('net.safetensors')
        restore(found, torch.rand(1, 3, 19, 27))
        return equal(dict(found.state_dict()), dict(expected))

    check('invented options of DeepRFTv2', trial, 30)


@pytest.mark.parametrize('optimizer', ['AdamW', 'SGD', 'RMSprop', 'LBFGS', 'Adafactor'])
def test_invented_states(folder, optimizer):
    """Every kind of optimizer resumes them and takes a step."""
    settings = {'optim_g': {'type': optimizer, 'lr': 0.01}}
    if optimizer == 'LBFGS':
        settings['optim_g']['max_iter'] = 2
    if optimizer in ('AdamW', 'SGD'):
        settings['optim_g'] |= {'fused': True, **({'momentum': 0.9} if optimizer == 'SGD' else {})}
    arguments = {'CosineAnnealingLR': {'T_max': 9}, 'MultiStepLR': {'milestones': [3]}}

    states = []
    for name in ('CosineAnnealingLR', 'ReduceLROnPlateau', 'MultiStepLR'):
        settings['scheduler'] = {'type': name, **arguments.get(name, {})}
        model = make_model('TwoScales', **settings)
        model.opt['path']['training_states'] = str(folder)
        train(model, [1, 2])
        model.save_training_state(0, 2)
        states.append((dict(settings), read_state('2.state')))

    def trial(random):
        settings, state = random.choice(states)
        state = dict(state, optimizers=copy.deepcopy(state['optimizers']))
        part = random.choice(['all', 'optimizers', 'schedulers', 'values'])
        if part == 'all':
            state = mutated(state, random)
        elif part == 'values':
            state['optimizers'][0]['state'] = mutated(state['optimizers'][0]['state'], random)
        else:
            state[part] = mutated(state[part], random)
        saved(state, '2.state')
        resumed, found = make_model('TwoScales', **settings), read_state('2.state')
        if found['iter'] > resumed.opt['train']['total_iter']:
            raise UserError('every training refuses this state before it resumes it')
        resumed.resume_training(found)
        train(resumed, [3])
        finite = all(value.isfinite().all() for value in resumed.net_g.state_dict().values())
        return finite or optimizer == 'LBFGS'  # its result depends on a long history

    check(f'invented states of {optimizer}', trial, 20)


def test_damaged_option_files_of_the_authors():
    text = yaml.safe_dump(json.loads((GOLDEN / 'authors_options.json').read_text())['gopro_test']).encode()

    def trial(random):
        Path('x.yml').unlink(missing_ok=True)
        Path('theirs.yml').write_bytes(damaged(text, random))
        return convert_file('theirs.yml', 'x.yml').startswith('x.yml')

    check('option files', trial, 30)
