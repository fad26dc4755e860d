"""The chunked scan against the recurrence written out, one position after the other."""

import math

import pytest
import torch
import torch.nn.functional as F

from deeprftv2_plugin.ops import scan
from deeprftv2_plugin.ops.scan import selective_scan

NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')


def arguments(length, batch=2, channels=3, states=8, dtype=torch.float64, decay=1.0):
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    A = (-decay * torch.rand(channels, states, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    return (
        draw(batch, channels, length),
        draw(batch, channels, length),
        A,
        draw(batch, states, length),
        draw(batch, states, length),
        draw(channels),
        draw(channels),
    )


def sequential(u, delta, A, B, C, D, delta_bias):
    step = F.softplus(delta + delta_bias[:, None])
    h, y = u.new_zeros(*u.shape[:2], A.shape[1]), []
    for t in range(u.shape[2]):
        h = torch.exp(step[:, :, t, None] * A) * h + step[:, :, t, None] * B[:, None, :, t] * u[:, :, t, None]
        y.append((h * C[:, None, :, t]).sum(-1) + D * u[:, :, t])
    return torch.stack(y, -1)


@pytest.mark.parametrize('decay', [1e-4, 1.0, 100.0], ids=['nearly constant', 'usual', 'strongly decaying'])
@pytest.mark.parametrize('length', [1, 2, 3, 7, 64, 97])
def test_values_and_gradients(length, decay):
    args = arguments(length, decay=decay)
    ours, expected = selective_scan(*args), sequential(*args)
    torch.testing.assert_close(ours, expected)
    weight = torch.randn_like(ours)
    for name, a, b in zip(
        NAMES, torch.autograd.grad(ours, args, weight), torch.autograd.grad(expected, args, weight), strict=True
    ):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f'{name}: {text}')


def test_gradcheck():
    torch.autograd.gradcheck(selective_scan, arguments(10, batch=1, channels=2, states=3))


def test_half_precision_is_computed_in_float32():
    args = arguments(50, dtype=torch.bfloat16)
    expected = sequential(*(t.float() for t in args))
    with torch.autocast('cpu', torch.bfloat16):
        y = selective_scan(*args)
        y.sum().backward()
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected)
    assert all(t.grad.dtype == torch.bfloat16 for t in args)


def test_steps_in_python_grow_with_the_root_of_the_length(monkeypatch):
    calls = 0

    class Counting(scan._Chunks):
        def __init__(self, total):
            super().__init__(total)
            nonlocal calls
            calls += self.length + self.count

    monkeypatch.setattr(scan, '_Chunks', Counting)
    selective_scan(*arguments(10_000, batch=1, channels=1))
    assert calls <= 4 * math.sqrt(10_000)


def test_memory_stays_below_sixteen_inputs():
    """Sums up what is alive at any time, by the allocations that the profiler reports."""
    args = arguments(4096, batch=1, channels=32, dtype=torch.float32)
    with torch.profiler.profile(profile_memory=True) as profile:
        y = selective_scan(*args)
        y.backward(torch.ones_like(y))
    alive = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    size = args[0].numel() * args[0].element_size()
    assert size < peak < 16 * size


@pytest.mark.parametrize(('index', 'shape'), [(1, (2, 3, 4)), (3, (2, 8, 4)), (4, (1, 8, 5))])
def test_wrong_shapes_are_named(index, shape):
    args = list(arguments(5))
    args[index] = torch.zeros(shape)
    with pytest.raises(ValueError, match='must (both )?be'):
        selective_scan(*args)
