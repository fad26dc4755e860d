from collections import namedtuple

import pytest
import torch
from torch import nn

from deeprftv2_plugin.losses import FourierLoss, MultiScaleLoss
from deeprftv2_plugin.ops.pyramid import half_scale

Outputs = namedtuple('Outputs', 'full half')


def outputs_and_target(count=4):
    generator = torch.Generator().manual_seed(2)
    full = [torch.rand(2, 3, 16, 24, generator=generator) for _ in range(count)]
    half = [torch.rand(2, 3, 8, 12, generator=generator) for _ in range(count)]
    return Outputs(full, half), torch.rand(2, 3, 16, 24, generator=generator)


def l1(x, y):
    return (x - y).abs().mean()


def fourier(x, y):
    return (torch.fft.rfft2(x) - torch.fft.rfft2(y)).abs().mean()


class TupleLoss(nn.Module):
    """A loss that returns a tuple with a missing value, like BasicSR's PerceptualLoss."""

    def forward(self, pred, target):
        return 2 * l1(pred, target), None


def test_loss_sums_over_scales_the_means_over_outputs():
    pred, target = outputs_and_target()
    half = half_scale(target)
    expected = sum(l1(x, target) + 0.01 * fourier(x, target) for x in pred.full) / 4
    expected = expected + sum(l1(x, half) + 0.01 * fourier(x, half) for x in pred.half) / 4
    loss = MultiScaleLoss([nn.L1Loss(), FourierLoss(0.01)])
    torch.testing.assert_close(loss(pred, target), expected)


def test_per_scale_returns_weighted_losses():
    pred, target = outputs_and_target(count=1)
    scales = MultiScaleLoss([nn.L1Loss()], scale_weights=(0.5, 3)).per_scale(pred, target)
    assert list(scales) == ['full', 'half']
    torch.testing.assert_close(scales['full'], 0.5 * l1(pred.full[0], target))
    torch.testing.assert_close(scales['half'], 3 * l1(pred.half[0], half_scale(target)))


def test_networks_with_one_scale():
    pred, target = outputs_and_target(count=3)
    loss = MultiScaleLoss([nn.L1Loss(), FourierLoss()])
    assert list(loss.per_scale(pred.full[0], target)) == ['full']
    single = [loss(output, target) for output in pred.full]
    torch.testing.assert_close(single[0], l1(pred.full[0], target) + fourier(pred.full[0], target))
    torch.testing.assert_close(loss(pred.full, target), torch.stack(single).mean())


def test_every_output_receives_a_gradient():
    pred, target = outputs_and_target()
    for output in pred.full + pred.half:
        output.requires_grad_()
    MultiScaleLoss([FourierLoss()])(pred, target).backward()
    assert all(output.grad.abs().sum() > 0 for output in pred.full + pred.half)


def test_tuple_losses_are_summed():
    pred, target = outputs_and_target()
    torch.testing.assert_close(MultiScaleLoss([TupleLoss()])(pred.full[0], target), 2 * l1(pred.full[0], target))


def test_submodules_move_with_the_loss():
    assert dict(MultiScaleLoss([nn.Linear(1, 1)]).named_parameters())


@pytest.mark.parametrize('arguments, found', [({'losses': []}, 'empty'), ({'scale_weights': [1]}, r'\[1\]')])
def test_errors_name_invalid_settings(arguments, found):
    with pytest.raises(ValueError, match=found):
        MultiScaleLoss(**{'losses': [nn.L1Loss()], **arguments})


def test_losses_given_as_options_are_built():
    pred, target = outputs_and_target()
    built = MultiScaleLoss(
        [{'type': 'FourierLoss', 'loss_weight': 0.5}, nn.L1Loss()], build=lambda opt: FourierLoss(opt['loss_weight'])
    )
    assert built(pred, target) == MultiScaleLoss([FourierLoss(0.5), nn.L1Loss()])(pred, target)
    with pytest.raises(TypeError):
        MultiScaleLoss([{'type': 'L1Loss'}])
