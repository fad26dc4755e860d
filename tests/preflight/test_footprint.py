"""Comparison of estimated with counted memory."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.preflight.footprint import Activations, LiveBytes, history_of

KILOBYTE = 256 * 4


def test_live_bytes_follow_allocations_and_releases():
    known = torch.zeros(256)
    with LiveBytes([known]) as live:
        a = known + 1
        b = a.view(16, 16)[2:]  # shares the memory of a
        c = torch.zeros(256)
        known.add_(a)
        del a, b
        d = c * 2
        del c, d
    assert live.history == [0, KILOBYTE, 2 * KILOBYTE, KILOBYTE, 2 * KILOBYTE, KILOBYTE, 0]


class HeavyWeights(nn.Module):
    """The peak is determined by the gradient of the weight for small crops, and by feature maps for large ones."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(100, 100))
        self.maps = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 3, 1))

    def forward(self, x):
        return self.maps(x) * (self.weight @ self.weight.exp()).mean()


class ByRows(nn.Module):
    """A network whose number of operations grows with the height of the image."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return [row * self.scale for row in x.unbind(-2)]


@pytest.mark.parametrize(
    'net', [HeavyWeights(), ByRows(), DeepRFTv2('T', reversible=True)], ids=lambda n: type(n).__name__
)
@pytest.mark.parametrize('side', [16, 96])
def test_the_estimate_matches_a_pass_over_a_crop_of_that_size(net, side):
    counted = max(history_of(net, side))
    assert Activations(net).peak(side**2) == pytest.approx(counted, rel=0.05)


def test_gradients_exist_before_the_pass_and_do_not_count():
    net = nn.Conv2d(3, 3, 1)
    assert max(history_of(net, 32)) < 20 * 32**2 * 3 * 4
    assert all(weight.grad is not None for weight in net.parameters())


def test_crops_are_multiples_of_the_size_multiple():
    net = nn.Conv2d(3, 3, 1)
    net.size_multiple = 48
    assert Activations(net).sides == (48, 96)
