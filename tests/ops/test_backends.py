"""The choice of a backend, on which the results of the network do not depend."""

from importlib import import_module

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.ops import backends, selective_scan
from deeprftv2_plugin.ops.backends import native, pytorch
from deeprftv2_plugin.utils.errors import UserError

OPERATIONS = ('selective_scan', 'layer_norm', 'gated_layer_norm', 'simple_gate', 'depthwise_gate', 'depthwise_gelu')
DIFFERENTIABLE = (*OPERATIONS, *(f'{name}_backward' for name in OPERATIONS))

pytestmark = pytest.mark.filterwarnings('ignore:all operators run in plain PyTorch')


def module(name):
    return import_module(f'{backends.__name__}.{name}')


@pytest.fixture(autouse=True)
def not_forced(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)


@pytest.fixture
def force(monkeypatch):
    def setter(name):
        if reason := module(name).why_not():
            pytest.skip(f'{name}: {reason}')
        monkeypatch.setenv(backends.VARIABLE, name)

    return setter


@pytest.fixture
def fresh():
    """Clear the caches of the backends before and after a test."""
    backends.usable.cache_clear()
    yield
    backends.usable.cache_clear()


@pytest.mark.parametrize('operation', DIFFERENTIABLE)
def test_plain_pytorch_has_every_operation(operation, force):
    force('pytorch')
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert backends.choose(operation, torch.ones(1, dtype=dtype)) is getattr(pytorch, operation)


def test_a_forced_native_backend_is_used_for_its_operators(force):
    force('native')
    assert backends.choose('selective_scan', torch.ones(1)) is native.selective_scan
    assert backends.choose('selective_scan', torch.ones(1).double()) is pytorch.selective_scan
    assert backends.choose('selective_scan', torch.ones(1, device='meta')) is pytorch.selective_scan
    assert backends.fuses(torch.ones(1)) and not backends.fuses(torch.ones(1), torch.ones(1).double())
    assert backends.choose('half_spectrum', torch.ones(1)) is pytorch.half_spectrum  # which native lacks


def test_the_first_usable_backend_is_preferred():
    names = [backend.__name__.rpartition('.')[2] for backend in backends.usable()]
    assert names == [name for name in backends.NAMES if name in names]
    assert names[-1] == 'pytorch'
    x = torch.ones(1)
    first = next(each for each in backends.usable() if each.takes(x) and hasattr(each, 'simple_gate'))
    assert backends.choose('simple_gate', x) is first.simple_gate


def test_an_unusable_backend_is_skipped(monkeypatch, fresh):
    monkeypatch.setattr(native, 'why_not', lambda: 'no compiler')
    assert native not in backends.usable()
    assert backends.choose('simple_gate', torch.ones(1)) is pytorch.simple_gate


def test_the_error_for_a_misspelled_name_suggests_the_nearest(monkeypatch):
    monkeypatch.setenv(backends.VARIABLE, 'Pytroch')
    one = torch.ones(1, 1, 1)
    with pytest.raises(UserError, match="DEEPRFTV2_BACKEND: there is no backend 'Pytroch'. Did you mean pytorch?"):
        selective_scan(one, one, one[0], one, one, one[0, 0], one[0, 0])
    with pytest.raises(UserError, match='Did you mean pytorch?'):
        backends.describe()


@pytest.mark.parametrize('name', ['triton', 'native'])
def test_an_unusable_backend_cannot_be_forced(monkeypatch, fresh, name):
    reason = module(name).why_not() or 'it is broken'
    monkeypatch.setattr(module(name), 'why_not', lambda: reason)
    monkeypatch.setenv(backends.VARIABLE, name)
    with pytest.raises(UserError) as raised:
        backends.choose('selective_scan', torch.ones(1))
    assert str(raised.value) == f'DEEPRFTV2_BACKEND: the backend {name} cannot be used here: {reason}'


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_triton_needs_a_gpu():
    reason = module('triton').why_not()
    assert 'GPU' in reason or 'not installed' in reason


def test_the_description_lists_usable_backends_and_reasons_against_others(monkeypatch, fresh):
    monkeypatch.setattr(native, 'why_not', lambda: 'no C++ compiler was found')
    used, *reasons = backends.describe().split('; ')
    assert used.endswith('pytorch') and 'native' not in used
    assert 'not native: no C++ compiler was found' in reasons
    named = {reason.removeprefix('not ').partition(':')[0] for reason in reasons} | set(used.split(', '))
    assert named == set(backends.NAMES)
    assert '\n' not in backends.describe()


@pytest.mark.parametrize('name', ['pytorch', 'native'])
def test_the_description_names_a_forced_backend(name, force):
    force(name)
    chosen = ', '.join(dict.fromkeys((name, 'pytorch')))
    assert backends.describe() == f'{chosen} (forced by DEEPRFTV2_BACKEND)'


@pytest.fixture
def network():
    """Return a network in which every weight affects the output: those initialized to zero are random too."""
    torch.manual_seed(0)
    net = DeepRFTv2('T')
    with torch.no_grad():
        for p in net.parameters():
            if not p.any():
                p.normal_(std=0.2)
    return net, torch.rand(1, 3, 32, 32)


def images_and_gradients(net, x):
    x = x.clone().requires_grad_()
    images = [image for scale in net(x) for image in scale]
    weights = torch.Generator().manual_seed(1)
    loss = sum((torch.randn(p.shape, generator=weights).to(p) * p).sum() for p in images)
    return images, torch.autograd.grad(loss, [x, *net.parameters()])


def test_the_network_does_not_depend_on_the_backend(network, force):
    net, x = network
    force('native')
    images, gradients = images_and_gradients(net, x)
    force('pytorch')
    expected_images, expected_gradients = images_and_gradients(net, x)
    for ours, expected in zip(images, expected_images, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    names = ['x', *(name for name, _ in net.named_parameters())]
    for name, ours, expected in zip(names, gradients, expected_gradients, strict=True):
        assert (ours - expected).norm() <= 2e-4 * expected.norm(), name


def test_no_backend_changes_the_network_in_evaluation(network, force):
    net, x = network
    results = []
    net.eval()
    for name in ('native', 'pytorch'):
        force(name)
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            half = net(x).float()
        with torch.no_grad():
            results.append((net(x), half))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0.05, atol=0.05)
