"""An estimator on top of any network."""

import pytest
import torch
from torch import nn

import deeprftv2_plugin
from deeprftv2_plugin.archs import DeepRFTv2, KernelHead
from deeprftv2_plugin.layers import ESTIMATORS
from deeprftv2_plugin.layers.control_estimators import parameters_of
from deeprftv2_plugin.utils.errors import UserError

X = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def registered():
    """Build a registered network from its option dict."""
    deeprftv2_plugin.register()
    from basicsr.archs import build_network

    return build_network


def backbone():
    return nn.Conv2d(3, 3, 5, padding=2)


@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_an_untrained_head_keeps_the_image_of_the_backbone_and_learns(estimator):
    net = KernelHead(backbone(), estimator, channels=8)
    torch.testing.assert_close(net(X), net.backbone(X), rtol=0, atol=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1)
    for _ in range(2):  # the gradient of the other layers begins with the second step
        optimizer.zero_grad()
        (net(X) - X).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in net.estimator.to_image.parameters())
    assert net.to_feature.weight.grad.any() and not torch.equal(net(X), net.backbone(X))


@pytest.mark.parametrize('estimator', ['FourierFromIdentity', 'FourierOfImage', 'Convolution', 'LargeKernel'])
def test_heads_have_equal_numbers_of_parameters(estimator):
    head, other = (KernelHead(nn.Identity(), name) for name in ('Fourier', estimator))
    assert abs(parameters_of(other) / parameters_of(head) - 1) < 0.05


@pytest.mark.parametrize(
    'options',
    [
        {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 1},
        {'type': 'RIDNet', 'in_channels': 3, 'mid_channels': 16, 'out_channels': 3, 'num_block': 1},
        {
            'type': 'SwinIR',
            'upscale': 1,
            'img_size': 8,
            'window_size': 4,
            'depths': [1],
            'embed_dim': 8,
            'num_heads': [2],
        },
        {'type': 'DeepRFTv2', 'variant': 'T', 'width': 8, 'kernel_width': 8},
    ],
    ids=lambda options: options['type'],
)
def test_heads_on_registered_networks_are_built_from_options(registered, options):
    net = registered({'type': 'KernelHead', 'backbone': options, 'channels': 8})
    x = X[:, :, :24, :16]
    net(x).mean().backward()
    again = registered({'type': 'KernelHead', 'backbone': options, 'channels': 8})
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))
        assert torch.equal(net.eval()(x), net.backbone(x))


def test_size_multiple_is_that_of_the_backbone():
    assert KernelHead(DeepRFTv2('T', width=8)).size_multiple == 8
    assert KernelHead(backbone()).size_multiple == 1


def test_kernel_windows():
    net = KernelHead(nn.Identity(), channels=4, kernel_window=16, kernel_overlap=4).eval()
    nn.init.normal_(net.estimator.to_image.weight)
    with torch.no_grad():
        assert len(net.estimator(net.to_feature(torch.cat([X, X], 1))).states[0]) == 2 * 2 * 2


def test_unsuitable_arguments_are_errors():
    with pytest.raises(TypeError, match='option dict'):
        KernelHead({'type': 'EDSR'})
    with pytest.raises(UserError, match=r'returns images of shape \(2, 3, 48, 40\)'):
        KernelHead(nn.Upsample(scale_factor=2))(X)
    with pytest.raises(UserError, match=r'kernel_window is \[8, 8\], expected at least 16'):
        KernelHead(backbone(), kernel_window=8)
    with pytest.raises(UserError, match='unknown estimator'):
        KernelHead(backbone(), 'Wavelet')
