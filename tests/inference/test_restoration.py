from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import write_checkpoint
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.utils.errors import UserError


class Pointwise(nn.Module):
    """Pointwise network, whose result must not depend on tiles, padding and rotations. Records its input shapes."""

    def __init__(self, size_multiple=8):
        super().__init__()
        self.size_multiple = size_multiple
        self.frozen = nn.Dropout().eval()
        self.shapes = []

    def forward(self, x):
        assert not any(module.training for module in self.modules())
        assert not torch.is_grad_enabled()
        assert all(side % self.size_multiple == 0 for side in x.shape[-2:])
        self.shapes.append(tuple(x.shape))
        return x.square() + 0.5


class TwoScale(Pointwise):
    """Adds the upsampled half-scale image, which must be computed from the whole image."""

    two_scale = True

    def forward(self, x, half=None):
        half = half_scale(x) if half is None else half
        return super().forward(x) + half.repeat_interleave(2, -2).repeat_interleave(2, -1)


class Identity(nn.Module):
    """Returns and records its input."""

    def forward(self, x):
        self.input = x
        return x


class Shift(nn.Module):
    """Shifts the image down and to the left, which does not commute with flips and rotations."""

    def forward(self, x):
        return x.roll((1, -1), (-2, -1))


@pytest.mark.parametrize('size', [(8, 8), (8, 40), (9, 17), (33, 50), (64, 47)])
@pytest.mark.parametrize('tile, overlap', [(None, 48), (16, 8), (32, 6), ((16, 24), (4, 15)), (64, 48)])
def test_result_does_not_depend_on_tiles_and_padding(size, tile, overlap):
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(restore(Pointwise(), x, tile, overlap), x.square() + 0.5)


@pytest.mark.parametrize('multiple', [1, 8, 64])
def test_padding_is_a_reflection_at_the_right_and_the_bottom(multiple):
    """The reflection repeats if the padding is larger than the image."""
    net, x = Identity(), torch.rand(1, 3, 11, 13)
    net.size_multiple = multiple
    assert torch.equal(restore(net, x), x)
    margins = [(0, 0), (0, 0), (0, -11 % multiple), (0, -13 % multiple)]
    np.testing.assert_array_equal(net.input, np.pad(x, margins, mode='reflect'))


def test_tiles_are_processed_one_at_a_time():
    net = Pointwise()
    restore(net, torch.rand(2, 3, 40, 24), 16, 8)
    assert net.shapes == [(2, 3, 16, 16)] * 8


def test_half_scale_image_is_computed_from_the_whole_image():
    x = torch.rand(2, 3, 48, 40)
    torch.testing.assert_close(restore(TwoScale(), x, 16, 6), restore(TwoScale(), x))


def test_without_tiles_the_network_runs_on_the_whole_image():
    x = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        assert torch.equal(restore(TwoScale().eval(), x), TwoScale().eval()(x))


@pytest.mark.parametrize('size, tile', [((16, 24), None), ((13, 18), (16, 8))])
def test_ensemble_of_a_pointwise_network_has_no_effect(size, tile):
    x = torch.rand(1, 3, *size)
    torch.testing.assert_close(restore(Pointwise(), x, tile, 4, ensemble=True), x.square() + 0.5)


def test_ensemble_averages_over_flips_and_rotations():
    """The ensemble of a shift to one diagonal neighbor is the mean of all four."""
    x = torch.rand(1, 1, 10, 10)
    neighbors = [x.roll((i, j), (-2, -1)) for i in (1, -1) for j in (1, -1)]
    torch.testing.assert_close(restore(Shift(), x, ensemble=True), sum(neighbors) / 4)


def test_tiles_are_rotated_with_the_image():
    net = Pointwise()
    restore(net, torch.rand(1, 3, 16, 64), (16, 24), (0, 4), ensemble=True)
    assert net.shapes.count((1, 3, 16, 24)) == net.shapes.count((1, 3, 24, 16)) == len(net.shapes) / 2 == 4 * 3


def test_modes_of_all_modules_are_restored():
    net = Pointwise().train()
    net.frozen.eval()
    restore(net, torch.rand(1, 3, 8, 8))
    assert net.training and not net.frozen.training
    with pytest.raises(UserError):
        restore(net, torch.rand(1, 3, 8, 8), 16, 16)
    assert net.training and not net.frozen.training


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_dtype_is_preserved(dtype):
    x = torch.rand(1, 3, 20, 20).to(dtype)
    assert restore(Shift(), x, 16, 8).dtype == dtype


def test_tiles_of_a_bfloat16_network_are_blended_in_float32():
    class Half(nn.Module):
        def forward(self, x):
            return x.bfloat16()

    x = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(restore(Half(), x, 16, 8), x.bfloat16().float())


@pytest.mark.parametrize('kind', [str, Path])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_network_is_loaded_from_a_path(tmp_path, kind, suffix):
    torch.manual_seed(0)
    net = DeepRFTv2('T', width=4, kernel_width=4)
    path = tmp_path / f'net.{suffix}'
    write_checkpoint({'params': net.state_dict()}, path)
    x = torch.rand(1, 3, 19, 27)
    assert torch.equal(restore(kind(path), x), restore(net, x))


@pytest.mark.parametrize(
    'x, options, message',
    [
        (torch.rand(3, 8, 8), {}, r'x\[None\]'),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {}, 'Divide 8-bit values by 255'),
        (torch.rand(1, 3, 7, 30), {}, '7x30 pixels'),
        (torch.rand(1, 3, 32, 32), {'tile': 20}, 'multiples of 8'),
        (torch.rand(1, 3, 32, 32), {'tile': 32}, 'overlap .* not smaller than the tile'),
        (torch.rand(1, 3, 32, 32), {'tile': 'all'}, "tile is 'all'"),
    ],
)
def test_unsuitable_input_is_an_error(x, options, message):
    with pytest.raises(UserError, match=message):
        restore(Pointwise(), x, **options)


def test_odd_overlap_of_a_two_scale_network_is_an_error():
    with pytest.raises(UserError, match='overlap .* must be even'):
        restore(TwoScale(), torch.rand(1, 3, 32, 32), 16, 5)


class Twice(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    'net, message',
    [(nn.Upsample(scale_factor=2), 'shape .* for an input of shape'), (Twice(), 'Twice returns a tuple')],
)
def test_unsuitable_networks_are_errors(net, message):
    with pytest.raises(UserError, match=message):
        restore(net, torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize('two_scale', [True, False])
def test_tiles_in_several_threads_equal_one_after_the_other(two_scale):
    net = DeepRFTv2('T', width=8) if two_scale else nn.Conv2d(3, 3, 3, padding=1)
    x = torch.rand(2, 3, 40, 72)
    threads = torch.get_num_threads()
    expected = restore(net, x, 32, 8, ensemble=True)
    with torch.enable_grad():
        found = restore(net, x, 32, 8, ensemble=True, workers=3)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    assert torch.get_num_threads() == threads


def test_several_threads_have_the_precision_of_the_caller():
    net, x = nn.Conv2d(3, 3, 3, padding=1), torch.rand(1, 3, 16, 40)
    with torch.autocast('cpu', torch.bfloat16):
        expected, found = (restore(net, x, 16, 8, workers=workers) for workers in (1, 2))
    assert torch.equal(found, expected)
    assert not torch.equal(found, restore(net, x, 16, 8))  # float32


def test_an_error_in_a_thread_is_raised_and_the_threads_are_restored():
    threads = torch.get_num_threads()

    class Failing(nn.Module):
        def forward(self, x):
            raise MemoryError('no room')

    with pytest.raises(MemoryError, match='no room'):
        restore(Failing(), torch.rand(1, 3, 16, 64), 16, 8, workers=2)
    assert torch.get_num_threads() == threads
