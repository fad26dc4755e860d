"""Loading weights into networks, and rebuilding networks from checkpoints."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import (
    load_into,
    load_network,
    to_official_state_dict,
    write_checkpoint,
)
from deeprftv2_plugin.checkpoints.files import OPTIONS
from deeprftv2_plugin.checkpoints.networks import no_larger_than
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.utils.errors import UserError
from tests.checkpoints.samples import same


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
        torch.testing.assert_close(restore(tmp_path / name, x), restore(net, x))


def test_rebuilding_another_network_is_an_error(tmp_path):
    torch.save({'params': {'body.weight': torch.zeros(3)}}, tmp_path / 'net.pth')
    with pytest.raises(UserError, match='not the weights of a DeepRFTv2'):
        load_network(tmp_path / 'net.pth')


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


def test_network_with_infinite_buffers_loads_its_own_weights():
    net = torch.nn.Linear(2, 2)
    net.register_buffer('mask', torch.tensor([0, -torch.inf]))
    load_into(net, net.state_dict(), 'a.pth')


def test_mostly_mismatched_weights_are_an_error_without_strict(net):
    for weights in ({}, {'a': torch.ones(2)}, dict(list(net.state_dict().items())[:9])):
        with pytest.raises(UserError, match=r'a.pth: only \d of the \d+ weights of this DeepRFTv2 match'):
            load_into(net, weights, 'a.pth', strict=False)


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
