"""Comparison of the scan of every backend with the recurrence computed position by position."""

import math
from functools import cache

import pytest
import torch

from deeprftv2_plugin.ops.backends import pytorch_scan
from deeprftv2_plugin.ops.scan import selective_scan
from tests.ops.references import NAMES, assert_close, backends_with, sequential, threads, value_and_gradients

RESULTS = ('y', *NAMES)
DECAYS = {'nearly constant': 1e-4, 'usual': 1.0, 'strongly decaying': 1000.0}

every_backend = pytest.mark.parametrize('backend', backends_with('selective_scan'))
every_backend_in_float32 = pytest.mark.parametrize('backend', backends_with('selective_scan', dtype=torch.float32))
every_backend_on_the_cpu = pytest.mark.parametrize(
    'backend', backends_with('selective_scan', device='cpu', dtype=torch.float32)
)


def arguments(length, batch=2, channels=3, states=8, dtype=torch.float64, decay=1.0):
    """Return random numbers that are exact in all dtypes of at least 32 bits. Those of u do not cancel in sums."""
    generator = torch.Generator().manual_seed(length)

    def draw(*shape, mean=0.0):
        return (torch.randn(*shape, generator=generator) + mean).to(dtype).requires_grad_()

    A = (-decay * torch.rand(channels, states, generator=generator)).to(dtype).requires_grad_()
    return (
        draw(batch, length, channels, mean=1.0),
        draw(batch, length, channels),
        A,
        draw(batch, length, states),
        draw(batch, length, states),
        draw(channels),
        draw(channels),
    )


@cache
def expected(*args, **sizes):
    inputs = arguments(*args, **sizes)
    weight = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)) + 1
    return weight, value_and_gradients(sequential, inputs, weight)


def check(backend, inputs, weight, reference):
    """Check the values and gradients of a backend, and that it does not change its inputs."""
    inputs = backend.inputs(inputs)
    before = [t.clone() for t in inputs]
    results = value_and_gradients(lambda *args: backend('selective_scan', *args), inputs, weight)
    assert_close(RESULTS, results, reference, backend.tolerance)
    assert all(map(torch.equal, inputs, before))


@every_backend
@pytest.mark.parametrize('decay', DECAYS.values(), ids=DECAYS)
@pytest.mark.parametrize('length', [1, 2, 3, 7, 15, 16, 17, 64, 97, 513, 2047, 2070])
def test_values_and_gradients(backend, length, decay):
    check(backend, arguments(length, decay=decay), *expected(length, decay=decay))


@every_backend
@pytest.mark.parametrize('states', [1, 3, 8, 16, 64, 65])
@pytest.mark.parametrize('channels', [1, 3, 17, 40])
def test_numbers_of_channels_and_states(backend, channels, states):
    sizes = {'batch': 3, 'channels': channels, 'states': states}
    check(backend, arguments(37, **sizes), *expected(37, **sizes))


def lying(t, length_contiguous):
    return t.mT.contiguous().mT if length_contiguous else t.contiguous()


@every_backend
@pytest.mark.parametrize('delta_last', [False, True])
@pytest.mark.parametrize('u_last', [False, True])
@pytest.mark.parametrize(('channels', 'length'), [(5, 35), (1, 35), (5, 1)])
def test_layouts_in_memory(backend, channels, length, u_last, delta_last):
    """In u, delta and gradients, channels or positions are adjacent in memory. B and C are parts of one tensor."""
    sizes = {'channels': channels}
    u, delta, A, B, C, D, bias = arguments(length, **sizes)
    B, C = lying(torch.cat([B, C, B], 2).detach(), u_last).split(B.shape[2], 2)[:2]
    inputs = lying(u.detach(), u_last), lying(delta.detach(), delta_last), A.detach().mT.contiguous().mT, B, C, D, bias
    weight, reference = expected(length, **sizes)
    for weight_last in (False, True):
        check(backend, inputs, lying(weight, weight_last), reference)


@every_backend
def test_parts_of_larger_tensors(backend):
    """The inputs are every second position of every second channel, and the gradient is an expanded number."""
    large = arguments(50, channels=6)
    inputs = [t.detach()[:, ::2] if t.ndim == 3 else t.detach() for t in large]
    inputs = [
        t if name in 'BC' else t[1::2] if t.ndim < 3 else t[..., 1::2] for name, t in zip(NAMES, inputs, strict=True)
    ]
    weight = torch.ones(1).expand(inputs[0].shape)
    check(
        backend, inputs, weight, value_and_gradients(sequential, [t.clone().requires_grad_() for t in inputs], weight)
    )


@every_backend
def test_steps_and_decays_of_all_sizes(backend):
    """The first of two positions gives the step, and the second its decay."""
    raw = torch.cat([torch.linspace(-30, 30, 121), torch.linspace(-1, 1, 81)])
    rates = -torch.logspace(-4, 2, 13)[:, None]
    u, delta = torch.ones(1, 2, 13), raw[:, None, None].expand(-1, 2, 13)
    into, out = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    B, C = (t[:, None].expand(len(raw), 2, 1) for t in (into, out))
    inputs = u.repeat(len(raw), 1, 1), delta, rates, B.clone(), C.clone(), torch.zeros(13), torch.zeros(13)
    y = backend('selective_scan', *backend.inputs(inputs)).detach().cpu().double()
    steps = torch.log1p(torch.exp(raw.double()))[:, None].expand(-1, 13)
    decays = torch.exp(steps * rates[:, 0].double())
    # the rounding error of an exponent is relative to its size
    assert ((y[:, 0] / steps - 1).abs() <= 1e-6 + 1e-7 * raw.abs()[:, None]).all()
    moderate = decays > 1e-30
    torch.testing.assert_close(y[:, 1][moderate], (steps * decays)[moderate], rtol=2e-5, atol=0)
    assert (y[:, 1][~moderate].abs() < 1e-27).all()


@every_backend_in_float32
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.bfloat16, 4e-3), (torch.float16, 5e-4)])
def test_half_precision_is_computed_in_float32(backend, dtype, tolerance):
    """Only the gradients are rounded, to the dtypes of the inputs."""
    inputs = arguments(50, dtype=dtype)
    weight, _ = expected(50)
    y, *gradients = expected_of_rounded = value_and_gradients(
        sequential, [t.detach().double().requires_grad_() for t in inputs], weight
    )
    ours, *ours_gradients = value_and_gradients(
        lambda *args: backend('selective_scan', *args), backend.inputs(inputs), weight
    )
    assert ours.dtype == torch.float32
    assert all(t.dtype == dtype for t in ours_gradients)
    assert_close(['y'], [ours], expected_of_rounded[:1], backend.tolerance)
    assert_close(NAMES, ours_gradients, gradients, tolerance)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_autocast_has_no_effect_on_the_scan(dtype):
    args = arguments(50, dtype=dtype)
    reference = sequential(*(t.detach().double() for t in args))
    with torch.autocast('cpu', torch.bfloat16):
        y = selective_scan(*args)
        y.sum().backward()
    assert y.dtype == torch.float32
    assert_close(['y'], [y], [reference], 1e-5)
    assert all(t.grad.dtype == dtype for t in args)


@every_backend_on_the_cpu
@pytest.mark.parametrize(
    ('length', 'channels', 'states'), [(4130, 40, 8), (16, 3, 8), (33, 17, 3)], ids=['long', 'one block', 'two blocks']
)
def test_threads_do_not_change_the_result(backend, length, channels, states):
    inputs = backend.inputs(arguments(length, channels=channels, states=states))
    weight = torch.randn_like(inputs[0])

    def results():
        return value_and_gradients(lambda *args: backend('selective_scan', *args), inputs, weight)

    with threads(1):
        one = results()
    for count in (2, 3):
        with threads(count):
            assert_close(RESULTS, results(), [t.double() for t in one], 1e-6)


@every_backend
@pytest.mark.parametrize('name', NAMES)
def test_nan_is_not_hidden(backend, name):
    """The result has NaN exactly where the recurrence has it."""
    inputs = [t.detach() for t in arguments(40, decay=DECAYS['strongly decaying'])]
    faulty = inputs[NAMES.index(name)].view(-1)
    faulty[len(faulty) // 2] = math.nan
    y = backend('selective_scan', *backend.inputs(inputs))
    assert y.isnan().any()
    assert torch.equal(y.isnan().cpu(), sequential(*inputs).isnan())


@every_backend
def test_gradients_of_one_input_only(backend):
    inputs = backend.inputs(arguments(20))
    y = backend('selective_scan', *inputs)
    of_all = torch.autograd.grad(y.sum(), inputs)
    for t, gradient in zip(inputs, of_all, strict=True):
        for other in inputs:
            other.requires_grad_(other is t)
        assert torch.equal(torch.autograd.grad(backend('selective_scan', *inputs).sum(), t)[0], gradient)
    with torch.no_grad():
        assert torch.equal(backend('selective_scan', *inputs), y)


@every_backend
def test_two_backward_passes_give_the_same_gradients(backend):
    inputs = backend.inputs(arguments(20))
    total = backend('selective_scan', *inputs).sum()
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(total, inputs)))


def test_gradcheck():
    torch.autograd.gradcheck(selective_scan, arguments(10, batch=1, channels=2, states=3))


def test_number_of_python_steps_grows_with_the_root_of_the_length(monkeypatch):
    calls = 0

    class Counting(pytorch_scan._Chunks):
        def __init__(self, total):
            super().__init__(total)
            nonlocal calls
            calls += self.length + self.count

    monkeypatch.setattr(pytorch_scan, '_Chunks', Counting)
    pytorch_scan.selective_scan(*(t.detach() for t in arguments(10_000, batch=1, channels=1)), keep=False)
    assert 0 < calls <= 4 * math.sqrt(10_000)


@every_backend_on_the_cpu
def test_memory_stays_below_sixteen_inputs(backend):
    """The live memory is the sum of the allocations and releases that the profiler reports."""
    args = arguments(4096, batch=1, channels=32, dtype=torch.float32)
    with torch.profiler.profile(profile_memory=True) as profile:
        y = backend('selective_scan', *args)
        y.backward(torch.ones_like(y))
    alive = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    size = args[0].numel() * args[0].element_size()
    assert size < peak < 16 * size


@pytest.mark.parametrize(('index', 'shape'), [(1, (2, 4, 3)), (3, (2, 4, 8)), (4, (1, 5, 8))])
def test_errors_name_wrong_shapes(index, shape):
    args = list(arguments(5))
    args[index] = torch.zeros(shape)
    with pytest.raises(ValueError, match='must (both )?be'):
        selective_scan(*args)
