"""Counts of operations compared with formulas, with PyTorch, between backends, and with published numbers."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.archs.variants import VARIANTS
from deeprftv2_plugin.comparison.candidates import build_network, candidate_of
from deeprftv2_plugin.comparison.figures import BUDGET, BUDGET_SIZE
from deeprftv2_plugin.comparison.operations import count_in_pass, count_operations
from deeprftv2_plugin.ops.backends import VARIABLE


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_products_equal_those_of_flop_counter_mode():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(2), nn.Linear(30, 5))
    x = torch.rand(1, 3, 7, 8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    found = count_operations(net, 7, 8)
    assert found == count_in_pass(net, x)
    assert found.products == found.total == counter.get_total_flops() / 2
    assert found.products == 56 * 8 * 27 + 30 * 8 * 9 + 8 * 30 * 5


def test_products_of_activations_are_counted_separately():
    attention = Function(lambda x: nn.functional.scaled_dot_product_attention(x, x, x))
    for net in (attention, Function(lambda x: (x @ x.mT) @ x)):
        found = count_operations(net, 16, 8)
        assert (found.products, found.attention) == (0, 2 * 3 * 16 * 16 * 8)


@pytest.mark.parametrize(
    ('transform', 'factor'),
    [
        (torch.fft.rfft2, 1),
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), 2),
        (lambda x: torch.fft.fft2(torch.complex(x, x)), 2),
        (lambda x: torch.fft.rfft2(x, norm='ortho'), 1),
    ],
)
def test_transforms_cost_as_much_as_the_radix_2_algorithm(transform, factor):
    found = count_operations(Function(transform), 16, 8)
    assert found.fourier == pytest.approx(factor * 3 * 2.5 * 128 * math.log2(128) / 2)
    assert found.total == found.fourier


def test_all_backends_count_the_same(monkeypatch):
    net = DeepRFTv2('T', width=8)
    counts = []
    for backend in ('', 'pytorch'):
        monkeypatch.setenv(VARIABLE, backend)
        counts.append(count_in_pass(net, torch.rand(1, 3, 16, 24)))
    assert counts[0] == counts[1] and min(counts[0][i] for i in (0, 2, 3)) > 0


def test_operators_without_a_formula_are_named():
    with torch.library._scoped_library('elsewhere', 'DEF') as library:
        library.define('scan(Tensor x) -> Tensor')
        library.impl('scan', lambda x: 2 * x, 'CompositeExplicitAutograd')
        found = count_in_pass(Function(torch.ops.elsewhere.scan), torch.rand(1, 3, 8, 8))
    assert found.uncounted == ('elsewhere::scan',)


PUBLISHED = (
    # name, parameters, height, width, multiply-adds; the sources are in docs/compare.md
    ('DeepRFTv2:B', 30.12e6, 256, 256, 122.9e9),
    ('EDSR:upscale=2', 1.37e6, 360, 640, 316.3e9),
    ('RIDNet', 1.499e6, 256, 256, None),
    ('RRDBNet:scale=4', 16.70e6, 256, 256, None),
    ('SwinIR:upscale=2,upsampler=pixelshuffle', 11.8e6, 256, 256, None),
    ('NAFNet', 17.1e6, 256, 256, 16e9),
    ('Restormer', 26.13e6, 256, 256, 141e9),
    ('FFTformer', 16.6e6, 256, 256, 131.45e9),
)


@pytest.mark.parametrize(('name', 'parameters', 'height', 'width', 'multiply_adds'), PUBLISHED)
def test_published_sizes(name, parameters, height, width, multiply_adds):
    if name in ('NAFNet', 'Restormer', 'FFTformer'):
        pytest.importorskip('spandrel_extra_arches')
    net = candidate_of(name).build()
    assert sum(each.numel() for each in net.parameters()) == pytest.approx(parameters, rel=0.01)
    if multiply_adds is not None:
        assert count_operations(net, height, width).products == pytest.approx(multiply_adds, rel=0.01)


@functools.cache
def cost(**changes):
    net = build_network({'type': 'DeepRFTv2', **changes})
    return sum(each.numel() for each in net.parameters()), count_operations(net, *BUDGET_SIZE).total


def test_variant_e_uses_the_budget_of_the_challenges():
    parameters, multiply_adds = cost(variant='E')
    assert parameters <= BUDGET['parameters']
    assert 0.97 * BUDGET['multiply_adds'] < multiply_adds <= BUDGET['multiply_adds']
    first, second, (kind, blocks) = VARIANTS['E']['full_encoder']
    assert cost(variant='E', full_encoder=(first, second, (kind, blocks + 1)))[1] > BUDGET['multiply_adds']
