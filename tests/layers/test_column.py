"""Columns: exact gradients with and without recomputation, with hooks, autocast and replicas."""

import itertools

import pytest
import torch
from torch import nn

from deeprftv2_plugin.layers import Blocks, Column, Level, Merge
from deeprftv2_plugin.layers.column import keep_from_zero


class Toy(nn.Module):
    """A level: a convolution of the input and of the side input, if any."""

    def __init__(self, channels, sided, dropout=0.0):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.side = nn.Conv2d(channels, channels, 1) if sided else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, side=None):
        y = torch.tanh(self.conv(x))
        return self.dropout(y if self.side is None else y + torch.tanh(self.side(side)))


def column(levels, previous, coupled=False, sided=False, reversible=True, dropout=0.0, dtype=torch.float64):
    """Return the same column for the same arguments and any value of `reversible`."""
    torch.manual_seed(0)
    has_side = [(coupled and i + 1 < levels and previous[i + 1]) or (sided and not coupled) for i in range(levels)]
    return Column([Toy(3, s, dropout) for s in has_side], [3] * levels, previous, coupled, reversible).to(dtype)


def inputs(levels, previous, sided, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)

    def draw():
        return torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    return draw(), [draw() if p else None for p in previous], [(draw(),) if sided else () for _ in range(levels)]


SHAPES = [
    pytest.param(1, [True], False, False, id='one level'),
    pytest.param(3, [True] * 3, False, False, id='independent'),
    pytest.param(3, [False] * 3, False, True, id='first, with sides'),
    pytest.param(3, [True, True, False], False, True, id='one state absent, with sides'),
    pytest.param(4, [True] * 4, True, False, id='coupled'),
    pytest.param(4, [False] * 4, True, False, id='coupled, first'),
    pytest.param(5, [True] * 5, True, False, id='five levels, coupled'),
]


@pytest.mark.parametrize(('levels', 'previous', 'coupled', 'sided'), SHAPES)
def test_column_agrees_with_plain_autograd(levels, previous, coupled, sided):
    x, olds, sides = inputs(levels, previous, sided)
    results = []
    for reversible in (False, True):
        net = column(levels, previous, coupled, sided, reversible)
        states = net(x, olds, None if coupled else sides)
        leaves = [t for t in (x, *olds, *itertools.chain(*sides), *net.parameters()) if t is not None]
        results.append((states, torch.autograd.grad(sum(s.square().sum() for s in states), leaves)))
    (plain_states, plain_grads), (states, grads) = results
    assert all(map(torch.equal, plain_states, states))
    assert all(map(torch.equal, plain_grads, grads))


@pytest.mark.parametrize('alpha', [0.5, 0.01, 0.001, -0.001, 0.0])
@pytest.mark.parametrize(('dtype', 'autocast'), [(torch.float64, False), (torch.float32, False), (torch.float32, True)])
def test_gradients_are_exact_at_every_alpha(alpha, dtype, autocast):
    """There are two columns in sequence. A division by a small alpha would lose all digits."""
    results = []
    for reversible in (False, True):
        columns = [column(2, [True] * 2, True, reversible=reversible, dtype=dtype) for _ in range(2)]
        parameters = [p for each in columns for p in each.parameters()]
        with torch.no_grad():
            for each in columns:
                for value in each.alphas.values():
                    value.fill_(alpha)
        x, states, _ = inputs(2, [True] * 2, False, dtype)
        leaves = [x, *states, *parameters]
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            for each in columns:
                states = each(x, states)
        results.append(torch.autograd.grad(sum(s.square().sum() for s in states), leaves))
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize(('levels', 'previous', 'coupled', 'sided'), SHAPES)
def test_gradcheck(levels, previous, coupled, sided):
    net = column(levels, previous, coupled, sided)
    x, olds, sides = inputs(levels, previous, sided)
    leaves = [t for t in (x, *olds, *itertools.chain(*sides)) if t is not None]

    def run(*leaves):
        leaves = iter(leaves)
        x, old = next(leaves), [next(leaves) if p else None for p in previous]
        return tuple(net(x, old, None if coupled else [tuple(next(leaves) for _ in each) for each in sides]))

    torch.autograd.gradcheck(run, leaves)


def test_no_factor_is_closer_to_zero_than_a_thousandth():
    net = Column([nn.Identity(), nn.Identity()], [3, 3], [True, True]).double()
    x, olds, _ = inputs(2, [True, True], False)
    with torch.no_grad():
        net.alphas['0'].copy_(torch.tensor([0.0, 1e-4, -1e-9])[:, None, None])
        first, second = net(x, olds)
    torch.testing.assert_close(first - x, torch.tensor([1e-3, 1e-3, -1e-3])[:, None, None] * olds[0])
    torch.testing.assert_close(second - first, 0.5 * olds[1])


def test_loss_of_the_first_state_only():
    """The later levels get no gradient."""
    previous = [True] * 4
    x, olds, _ = inputs(4, previous, False)
    grads = []
    for reversible in (False, True):
        net = column(4, previous, coupled=True, reversible=reversible)
        loss = net(x, olds)[0].sum()
        grads.append(
            torch.autograd.grad(loss, [x, *olds, *net.parameters()], allow_unused=True, materialize_grads=True)
        )
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


def test_parameter_hooks_run_once():
    net = column(3, [True] * 3)
    seen = []
    for name, parameter in net.named_parameters():
        parameter.register_hook(lambda grad, name=name: seen.append(name))
    x, olds, _ = inputs(3, [True] * 3, False)
    sum(s.sum() for s in net(x, olds)).backward()
    assert sorted(seen) == sorted(name for name, _ in net.named_parameters())


def test_recomputation_draws_the_same_random_numbers():
    """With dropout, both passes must drop the same elements, and the state of the generator must not change."""
    x, olds, _ = inputs(3, [True] * 3, False)
    outcomes = []
    for reversible in (False, True):
        net = column(3, [True] * 3, reversible=reversible, dropout=0.5)
        torch.manual_seed(7)
        states = net(x, olds)
        grads = torch.autograd.grad(sum(s.square().sum() for s in states), [x, *net.parameters()])
        outcomes.append((grads, torch.rand(3)))
    torch.testing.assert_close(*outcomes, rtol=1e-10, atol=1e-12)


def test_autocast_is_restored_and_states_are_float32():
    previous = [True] * 3
    x, olds, _ = inputs(3, previous, False, torch.float32)
    grads = []
    for reversible in (False, True):
        net = column(3, previous, reversible=reversible, dtype=torch.float32)
        with torch.autocast('cpu', torch.bfloat16):
            states = net(x, olds)
        assert all(s.dtype == torch.float32 for s in states)
        grads.append(torch.autograd.grad(sum(s.square().sum() for s in states), list(net.parameters())))
    torch.testing.assert_close(*grads, rtol=1e-2, atol=1e-2)


def test_two_forward_passes_before_one_backward():
    net = column(3, [True] * 3)
    x, olds, _ = inputs(3, [True] * 3, False)
    sum(s.sum() for s in net(x, olds)).backward()
    once = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    sum(s.sum() for _ in range(2) for s in net(x, olds)).backward()
    torch.testing.assert_close([weight.grad for weight in net.parameters()], [2 * grad for grad in once])


def replica(module):
    """Return modules as DataParallel runs them on every device: their parameters are plain, unregistered tensors."""
    copies = {each: each._replicate_for_data_parallel() for each in module.modules()}
    for each, copy in copies.items():
        for name, child in each.named_children():
            setattr(copy, name, copies[child])
        for name, parameter in each.named_parameters(recurse=False):
            setattr(copy, name, parameter.clone())
    return copies[module]


def test_replicas_of_data_parallel_pass_gradients_to_the_parameters():
    net = column(3, [True] * 3)
    x, olds, _ = inputs(3, [True] * 3, False)
    grads = [
        torch.autograd.grad(sum(s.square().sum() for s in run(x, olds)), list(net.parameters()))
        for run in (net, replica(net))
    ]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


def test_activations_of_the_levels_are_not_stored():
    """A reversible column stores its input, states and parameters. A plain one also stores the activations."""
    kept = {}
    for reversible in (False, True):
        levels = [Level(Merge(), Blocks('NAF', 2, 3)) for _ in range(3)]
        net = Column(levels, [3] * 3, [False] * 3, reversible=reversible)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            net(torch.rand(2, 3, 64, 64), [None] * 3)
        kept[reversible] = sum(sizes)
    assert kept[True] == 3 * 2 * 3 * 64 * 64
    assert kept[False] > 5 * kept[True]


@pytest.mark.parametrize(('value', 'expected'), [(0.5, 0.5), (-0.5, -0.5), (1e-5, 1e-3), (-1e-5, -1e-3), (0.0, 1e-3)])
def test_alpha_is_kept_away_from_zero(value, expected):
    alpha = torch.tensor([value], requires_grad=True)
    kept = keep_from_zero(alpha)
    kept.backward()
    assert kept.item() == pytest.approx(expected)
    assert alpha.item() == pytest.approx(value)
    assert alpha.grad.item() == 1


def test_errors_name_missing_states():
    with pytest.raises(ValueError, match='previous states at the levels'):
        column(2, [True, True])(torch.rand(1, 3, 2, 2), [None, None])
