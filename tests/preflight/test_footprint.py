"""Estimates against counts."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.preflight.footprint import Activations, LiveBytes, history_of

KILOBYTE = 256 * 4


def test_bytes_come_and_go_with_their_tensors():
    known = torch.zeros(256)
    with LiveBytes([known]) as live:
        a = known + 1
        b = a.view(16, 16)[2:]  # the same memory
        c = torch.zeros(256)
        known.add_(a)
        del a, b
        d = c * 2
        del c, d
    assert live.history == [0, KILOBYTE, 2 * KILOBYTE, KILOBYTE, 2 * KILOBYTE, KILOBYTE, 0]


class HeavyWeights(nn.Module):
    """Its peak is a weight's gradient on small crops, and a chain of maps on large ones."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(100, 100))
        self.maps = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 3, 1))

    def forward(self, x):
        return self.maps(x) * (self.weight @ self.weight.exp()).mean()


class ByRows(nn.Module):
    """It computes more operations on larger pictures."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return [row * self.scale for row in x.unbind(-2)]


@pytest.mark.parametrize(
    'net', [HeavyWeights(), ByRows(), DeepRFTv2('T', reversible=True)], ids=lambda n: type(n).__name__
)
@pytest.mark.parametrize('side', [16, 96])
def test_the_estimate_is_what_a_pass_over_that_crop_takes(net, side):
    counted = max(history_of(net, side))
    assert Activations(net).peak(side**2) == pytest.approx(counted, rel=0.05)


def test_gradients_are_there_before_the_pass_and_count_elsewhere():
    net = nn.Conv2d(3, 3, 1)
    assert max(history_of(net, 32)) < 20 * 32**2 * 3 * 4
    assert all(weight.grad is not None for weight in net.parameters())


def test_crops_are_of_a_size_that_the_network_takes():
    net = nn.Conv2d(3, 3, 1)
    net.size_multiple = 48
    assert Activations(net).sides == (48, 96)
