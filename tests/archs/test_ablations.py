"""DeepRFTv2 with its estimators replaced."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deeprftv2_plugin.archs import AblatedDeepRFTv2, DeepRFTv2
from deeprftv2_plugin.layers import ESTIMATORS, ConvolutionControl, LargeKernelControl
from deeprftv2_plugin.layers.control_estimators import parameters_of, settings_of
from deeprftv2_plugin.utils.errors import UserError

TINY = {'variant': 'T', 'width': 8, 'kernel_width': 8, 'reversible': False}
STUDIED = {'variant': 'T', 'kernel_depths': [1, 1, 0, 0]}


def estimators_of(net):
    return [each for stage in net.stages for each in (stage.full_estimator, stage.half_estimator)]


@pytest.mark.parametrize(('full', 'half'), [*((name, name) for name in ESTIMATORS), ('Fourier', 'Convolution')])
def test_networks_train_and_load_their_checkpoint(full, half):
    net, x = AblatedDeepRFTv2(full, half, **TINY), torch.rand(2, 3, 16, 24)
    outputs = net(x)
    assert [image.shape for image in outputs.full] == [x.shape] * 4
    assert [image.shape for image in outputs.half] == [(2, 3, 8, 12)] * 4
    sum(image.square().mean() for image in outputs.full + outputs.half).backward()
    assert all(p.grad is not None for p in net.parameters())
    again = AblatedDeepRFTv2(full, half, **TINY)
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))


def test_without_replacements_it_equals_deeprftv2():
    net, original, x = AblatedDeepRFTv2(**TINY).eval(), DeepRFTv2(**TINY).eval(), torch.rand(1, 3, 16, 24)
    original.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net(x), original(x))
    assert torch.equal(net.kernels(x)[0].full.otf, original.kernels(x)[0].full.otf)


def test_kernels_are_averaged_over_windows_as_in_deeprftv2():
    settings, x = {**TINY, 'kernel_window': 16, 'kernel_overlap': 4}, torch.rand(1, 3, 32, 32)
    smooth, original = AblatedDeepRFTv2(kernel_smoothing=True, **settings), DeepRFTv2(kernel_smoothing=True, **settings)
    original.load_state_dict(smooth.state_dict())
    with torch.no_grad():
        assert torch.equal(smooth.eval()(x), original.eval()(x))


@pytest.mark.parametrize(
    'settings', [STUDIED, {**STUDIED, 'kernel_width': 16}, {**STUDIED, 'width': 48, 'kernel_width': 48}]
)
def test_numbers_of_parameters_are_similar(settings):
    """They differ by at most 0.5 % for the network and 6 % for an estimator."""
    with torch.device('meta'):
        nets = [AblatedDeepRFTv2(name, name, **settings) for name in ESTIMATORS]
    for one, other in itertools.combinations(nets, 2):
        assert abs(parameters_of(one) / parameters_of(other) - 1) < 0.005
        for a, b in zip(estimators_of(one), estimators_of(other), strict=True):
            assert abs(parameters_of(a) / parameters_of(b) - 1) < 0.06


@pytest.mark.parametrize('channels', [8, 16, 48])
def test_large_kernels_are_as_large_as_two_thirds_of_the_parameters_allow(channels):
    for parameters in range(40 * channels, 4000 * channels, 333 * channels):
        side = LargeKernelControl.build_filter(channels, parameters)[0].kernel_size[0]
        assert side % 2 and channels * side**2 <= 2 / 3 * parameters < channels * (side + 2) ** 2


@pytest.mark.parametrize('name', ['Convolution', 'LargeKernel', 'FourierOfImage'])
def test_multiply_adds_differ_by_at_most_10_percent(name):
    """Without the Fourier transforms of the estimator."""
    counts = []
    for each in ('Fourier', name):
        net = AblatedDeepRFTv2(each, each, **STUDIED).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.rand(1, 3, 32, 32))
        counts.append(counter.get_total_flops())
    assert abs(counts[1] / counts[0] - 1) < 0.1


def test_an_estimator_can_be_rebuilt_from_its_settings():
    net = DeepRFTv2(
        'T',
        width=(4, 6),
        kernel_width=(6, 4),
        kernel_depths=[1, 2, 0, 1],
        kernel_window=16,
        kernel_overlap=4,
        kernel_smoothing=True,
        kernel_norm=False,
    )
    for estimator in estimators_of(net):
        again = type(estimator)(**settings_of(estimator))
        again.load_state_dict(estimator.state_dict())
        assert settings_of(again) == settings_of(estimator)


def test_transfer_functions_that_start_at_one():
    net = AblatedDeepRFTv2('FourierFromIdentity', 'FourierFromIdentity', **TINY)
    for stage in net.kernels(torch.rand(1, 3, 16, 24)):
        assert torch.equal(stage.full.otf, torch.ones_like(stage.full.otf))
        assert torch.equal(stage.half.otf, torch.ones_like(stage.half.otf))


@pytest.mark.parametrize('control', [ConvolutionControl, LargeKernelControl])
def test_controls_of_few_channels_have_layers(control):
    net, x = control(2, depths=()), torch.rand(1, 2, 8, 8)
    assert net(x).feature.shape == x.shape and net(x).states == []


def test_kernels_of_replaced_estimators_are_an_error():
    with pytest.raises(TypeError, match='no kernels'):
        AblatedDeepRFTv2('Fourier', 'Convolution', **TINY).kernels(torch.rand(1, 3, 16, 16))


def test_unknown_estimators_are_refused():
    with pytest.raises(UserError, match='Did you mean Fourier'):
        AblatedDeepRFTv2('Fouriers', **TINY)
