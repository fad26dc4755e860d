import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.utils.errors import UserError


class Pointwise(nn.Module):
    """Works pixel by pixel, so that tiles, padding and turns must leave no trace; remembers what it saw."""

    def __init__(self, size_multiple=8):
        super().__init__()
        self.size_multiple = size_multiple
        self.frozen = nn.Dropout().eval()
        self.seen = []

    def forward(self, x):
        assert not any(module.training for module in self.modules())
        assert not torch.is_grad_enabled()
        assert all(side % self.size_multiple == 0 for side in x.shape[-2:])
        self.seen.append(tuple(x.shape))
        return x.square() + 0.5


class TwoScale(Pointwise):
    """Adds the enlarged half-scale image, which must be the one of the whole picture."""

    two_scale = True

    def forward(self, x, half=None):
        half = half_scale(x) if half is None else half
        return super().forward(x) + half.repeat_interleave(2, -2).repeat_interleave(2, -1)


class Keep(nn.Module):
    """Returns and remembers its input."""

    def forward(self, x):
        self.seen = x
        return x


class Shift(nn.Module):
    """Moves the picture down and to the left: not the same after a flip or a turn."""

    def forward(self, x):
        return x.roll((1, -1), (-2, -1))


@pytest.mark.parametrize('size', [(8, 8), (8, 40), (9, 17), (33, 50), (64, 47)])
@pytest.mark.parametrize('tile, overlap', [(None, 48), (16, 8), (32, 6), ((16, 24), (4, 15)), (64, 48)])
def test_tiles_and_padding_leave_no_trace(size, tile, overlap):
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(restore(Pointwise(), x, tile, overlap), x.square() + 0.5)


@pytest.mark.parametrize('multiple', [1, 8, 64])
def test_padding_is_a_reflection_at_the_right_and_the_bottom(multiple):
    """To and fro, where more is missing than the picture has."""
    net, x = Keep(), torch.rand(1, 3, 11, 13)
    net.size_multiple = multiple
    assert torch.equal(restore(net, x), x)
    margins = [(0, 0), (0, 0), (0, -11 % multiple), (0, -13 % multiple)]
    np.testing.assert_array_equal(net.seen, np.pad(x, margins, mode='reflect'))


def test_one_tile_at_a_time():
    net = Pointwise()
    restore(net, torch.rand(2, 3, 40, 24), 16, 8)
    assert net.seen == [(2, 3, 16, 16)] * 8


def test_the_half_scale_image_is_made_of_the_whole_picture():
    x = torch.rand(2, 3, 48, 40)
    torch.testing.assert_close(restore(TwoScale(), x, 16, 6), restore(TwoScale(), x))


def test_whole_picture_is_the_network_itself():
    x = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        assert torch.equal(restore(TwoScale().eval(), x), TwoScale().eval()(x))


@pytest.mark.parametrize('size, tile', [((16, 24), None), ((13, 18), (16, 8))])
def test_ensemble_is_the_mean_over_the_eight_turns(size, tile):
    x = torch.rand(1, 3, *size)
    torch.testing.assert_close(restore(Pointwise(), x, tile, 4, ensemble=True), x.square() + 0.5)


def test_ensemble_turns_the_result_back():
    """The mean over all turns of a shift to one diagonal neighbour is the mean of the four."""
    x = torch.rand(1, 1, 10, 10)
    neighbours = [x.roll((i, j), (-2, -1)) for i in (1, -1) for j in (1, -1)]
    torch.testing.assert_close(restore(Shift(), x, ensemble=True), sum(neighbours) / 4)


def test_every_module_gets_its_own_mode_back():
    net = Pointwise().train()
    net.frozen.eval()
    restore(net, torch.rand(1, 3, 8, 8))
    assert net.training and not net.frozen.training
    with pytest.raises(UserError):
        restore(net, torch.rand(1, 3, 8, 8), 16, 16)
    assert net.training and not net.frozen.training


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_keeps_the_type(dtype):
    x = torch.rand(1, 3, 20, 20).to(dtype)
    assert restore(Shift(), x, 16, 8).dtype == dtype


def test_tiles_of_an_autocast_network_are_blended_in_float32():
    class Half(nn.Module):
        def forward(self, x):
            return x.bfloat16()

    x = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(restore(Half(), x, 16, 8), x.bfloat16().float())


def test_a_path_is_loaded(monkeypatch):
    loaded = {'net.pth': Pointwise()}
    checkpoints = SimpleNamespace(load_network=loaded.__getitem__)
    monkeypatch.setitem(sys.modules, 'deeprftv2_plugin.checkpoints', checkpoints)
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(restore('net.pth', x), x.square() + 0.5)


@pytest.mark.parametrize(
    'x, options, message',
    [
        (torch.rand(3, 8, 8), {}, r'x\[None\]'),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {}, 'x / 255'),
        (torch.rand(1, 3, 7, 30), {}, '7x30 pixels'),
        (torch.rand(1, 3, 32, 32), {'tile': 20}, 'multiples of 8'),
        (torch.rand(1, 3, 32, 32), {'tile': 32}, 'overlap .* not smaller than the tile'),
        (torch.rand(1, 3, 32, 32), {'tile': 'all'}, "tile is 'all'"),
    ],
)
def test_unsuitable_input_is_explained(x, options, message):
    with pytest.raises(UserError, match=message):
        restore(Pointwise(), x, **options)


def test_an_odd_overlap_at_two_scales_is_explained():
    with pytest.raises(UserError, match='overlap .* must be even'):
        restore(TwoScale(), torch.rand(1, 3, 32, 32), 16, 5)


class Twice(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    'net, message', [(nn.Upsample(scale_factor=2), 'shape .* of a picture of shape'), (Twice(), 'Twice makes a tuple')]
)
def test_other_networks_are_explained(net, message):
    with pytest.raises(UserError, match=message):
        restore(net, torch.rand(1, 3, 8, 8))
