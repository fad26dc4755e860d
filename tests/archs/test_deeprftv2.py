"""The whole network: sizes, inputs, precision and options."""

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2, Outputs
from deeprftv2_plugin.layers import NAFBlock
from deeprftv2_plugin.utils.errors import UserError

TINY = {'variant': 'T', 'width': 4, 'kernel_width': 4}


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(('variant', 'millions'), [('B', 30.1), ('S', 21.2), ('E', 1.7), ('T', 0.7)])
def test_sizes_of_the_variants(variant, millions):
    with torch.device('meta'):
        assert round(parameters(DeepRFTv2(variant)) / 1e6, 1) == millions


def test_training_returns_all_images_and_evaluation_the_last_one():
    net, x = DeepRFTv2(**TINY), torch.rand(2, 3, 24, 40)
    outputs = net(x)
    assert isinstance(outputs, Outputs)
    assert [image.shape for image in outputs.full] == [x.shape] * 4
    assert [image.shape for image in outputs.half] == [(2, 3, 12, 20)] * 4
    assert torch.equal(net.eval()(x), outputs.full[-1])


@pytest.mark.parametrize('stages', [1, 2, 3])
def test_every_parameter_affects_the_output(stages):
    net = DeepRFTv2(**TINY, stages=stages)
    outputs = net(torch.rand(1, 3, 16, 24))
    assert len(outputs.full) == 2 * stages
    sum(image.square().mean() for image in outputs.full + outputs.half).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_networks_of_other_sizes():
    net = DeepRFTv2(
        'T',
        in_channels=1,
        out_channels=1,
        width=(4, 6),
        kernel_width=(6, 4),
        stages=2,
        kernel_depths=(1, 2, 1, 1),
        full_encoder=[[['NAF', 1], ['NAFScan', 3], ['NAFScan', 2]], [['LocalNAF', 2], ['NAF', 1], ['NAF', 1]]],
        full_decoder=[['LocalNAFScanWindow', 1], ['NAFScan', 2], ['NAF', 1]],
        kernel_norm=False,
        kernel_window=16,
        kernel_overlap=4,
        local_pool_crop=(16, 24),
        scan_window=(16, 16),
        reversible={'encoders': [False, True], 'kernels': False},
    )
    x = torch.rand(1, 1, 24, 40)
    sum(image.square().mean() for image in net(x).full).backward()
    assert net.eval()(x).shape == x.shape


def test_the_half_scale_image_can_be_passed():
    net, x, half = DeepRFTv2(**TINY).eval(), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 8, 8)
    assert not torch.equal(net(x, half), net(x))


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_bfloat16_autocast_trains(device):
    torch.manual_seed(0)
    net, x = DeepRFTv2(**TINY).to(device), torch.rand(1, 3, 24, 24, device=device)
    with torch.autocast(device, torch.bfloat16):
        outputs = net(x)
        loss = sum(image.float().square().mean() for image in outputs.full + outputs.half)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    torch.testing.assert_close(outputs.full[-1].float(), net(x).full[-1], rtol=0.05, atol=0.05)


def test_kernels_of_every_stage_and_scale():
    net, x = DeepRFTv2(**TINY, kernel_window=16, kernel_overlap=4).eval(), torch.rand(2, 3, 24, 40)
    kernels = net.kernels(x)
    assert len(kernels) == 2
    assert kernels[0].full.psf.shape == (2 * 6, 4, 16, 16)  # two images of 2x3 windows
    assert kernels[0].half.psf.shape == (2 * 6, 4, 8, 8)
    assert kernels[0].full.otf.shape == (2 * 6, 4, 16, 9)


def test_kernels_of_odd_windows():
    kernels = DeepRFTv2(**TINY, kernel_window=(16, 17)).eval().kernels(torch.rand(1, 3, 16, 24))
    assert kernels[0].full.psf.shape[-2:] == (16, 17)
    assert kernels[0].half.psf.shape[-2:] == (8, 8)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'variant': 'X'}, "unknown variant 'X'"),
        ({'stages': 0}, 'stages is 0'),
        ({'in_channels': 4}, 'in_channels is 4'),
        ({'kernel_depths': [1, 1]}, 'expected four numbers'),
        ({'kernel_window': [1, 1]}, r'kernel_window is \[1, 1\], expected at least 16 pixels'),
        ({'kernel_window': [64, 15]}, r'kernel_window is \[64, 15\], expected at least 16 pixels'),
        ({'kernel_window': 16, 'kernel_overlap': [8, 9]}, r'kernel_overlap is \[8, 9\], expected at most half'),
        ({'scan_window': 0}, r'scan_window is \[0, 0\], expected at least 16 pixels'),
        ({'local_pool_crop': 4}, 'less than a pixel at the coarsest level'),
        ({'width': (1, 2, 3)}, 'width is'),
        ({'full_encoder': [['NAFF', 1], ['NAF', 1], ['NAF', 1]]}, 'Did you mean NAF'),
        ({'full_encoder': [['NAF', 1], ['NAF', 1]]}, 'full_encoder takes three pairs'),
        ({'half_decoder': [[['NAF', 1]] * 3] * 3}, 'half_decoder lists 3 stages'),
        ({'reversible': {'encoder': True}}, 'reversible takes'),
        ({'reversible': {'kernels': [True]}}, 'kernels lists 1 stages'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DeepRFTv2(**{'variant': 'T'} | options)


LOCAL = {**TINY, 'half_encoder': [['LocalNAF', 1]] * 3}


def test_the_deprecated_name_of_an_option_works_and_warns():
    with pytest.warns(FutureWarning, match='train_size of DeepRFTv2 is now called local_pool_crop'):
        old = DeepRFTv2(**LOCAL, train_size=(16, 24))
    new = DeepRFTv2(**LOCAL, local_pool_crop=(16, 24))
    windows, expected = (
        [module.pool_window for module in net.modules() if isinstance(module, NAFBlock)] for net in (old, new)
    )
    assert windows == expected and (12, 18) in expected


def test_both_names_of_an_option_are_an_error():
    with pytest.raises(UserError, match='train_size is the deprecated name of local_pool_crop, but both are given'):
        DeepRFTv2(**LOCAL, train_size=16, local_pool_crop=16)


@pytest.mark.parametrize(('shape', 'message'), [((1, 3, 20, 24), 'multiples of 8'), ((3, 24, 24), 'multiples of 8')])
def test_wrong_sizes(shape, message):
    with pytest.raises(ValueError, match=message):
        DeepRFTv2(**TINY)(torch.rand(shape))


def test_a_half_scale_image_of_another_size():
    with pytest.raises(ValueError, match='must be 8x8'):
        DeepRFTv2(**TINY)(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 8, 12))


EXACT = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}


@pytest.mark.parametrize(
    ('alpha', 'dtype'),
    [(alpha, torch.float32) for alpha in (0.5, 0.01, 0.001, -0.001, 0.0)]
    + [(alpha, dtype) for alpha in (0.001, 0.0) for dtype in (torch.float64, torch.bfloat16)],
)
def test_reversible_gradients_are_exact_at_every_alpha(alpha, dtype):
    gradients = []
    for reversible in (False, True):
        torch.manual_seed(0)
        net = DeepRFTv2('T', width=4, kernel_width=4, reversible=reversible)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if '.alphas.' in name:
                    parameter.fill_(alpha)
                elif not parameter.any():
                    parameter.normal_(std=0.2)
        x = torch.rand(1, 3, 16, 16)
        if dtype == torch.float64:
            net, x = net.double(), x.double()
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
            images = [image for scale in net(x) for image in scale]
        loss = sum(image.square().sum() for image in images)
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    for plain, recomputed in zip(*gradients, strict=True):
        assert (recomputed - plain).norm() <= EXACT[dtype] * plain.norm()
