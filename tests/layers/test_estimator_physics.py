"""Physical properties of the Fourier Kernel Estimator, such as linearity and equivariance."""

import pytest
import torch

from deeprftv2_plugin.layers import FourierKernelEstimator, IdentityStartEstimator
from deeprftv2_plugin.ops import otf_from_psf

SIZES = [(12, 16), (9, 14), (10, 15)]


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bare_filter(net):
    """Set the projections to identities, so that the feature is the filtered input."""
    channels = net.fuse.out_features
    with torch.no_grad():
        net.feature_proj.weight.copy_(torch.eye(channels))
        net.fuse.weight.copy_(torch.cat([torch.eye(channels), torch.zeros(channels, channels)], 1))
    return net


def convolving(channels, depths):
    """Return an estimator that convolves all channels with the last one.

    The kernel column passes on the spectrum of the last channel, since the scans add nothing.
    """
    net = bare_filter(FourierKernelEstimator(channels, width=2, depths=depths, norm=False).double())
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith('out_weight'):
                weight.zero_()
        spectrum = net.column.levels[0].before.first
        spectrum.project.weight.zero_()[0, -1] = 1  # the last channel, and an empty one
        spectrum.mix.weight.copy_(torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0]]))  # real and imaginary part of the first
        net.to_otf.weight.zero_()[:channels, 0] = 1
        net.to_otf.weight[channels:, 1] = 1
        net.to_otf.bias.zero_()
    return net


def circular_convolution(x, kernel):
    """Return the sum over all shifts of x, weighted by the kernel, whose origin is pixel (0, 0)."""
    rows, columns = kernel.shape
    return sum(kernel[r, c] * x.roll((r, c), (-2, -1)) for r in range(rows) for c in range(columns))


def shifted(x, shift):
    return x.roll(shift, (-2, -1))


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('depths', [(0,), (1, 1, 1, 1)])
def test_it_can_learn_any_convolution(size, depths):
    """With suitable weights, the estimated kernel is the one in the feature, of any shape and position."""
    kernel = random(*size, seed=1)
    x = torch.cat([random(2, 3, *size), kernel.expand(2, 1, *size)], 1)
    feature = convolving(4, depths)(x).feature
    torch.testing.assert_close(feature, circular_convolution(x, kernel), rtol=0, atol=1e-12)


@pytest.mark.parametrize('size', SIZES)
def test_a_constant_image_passes_any_kernel_of_sum_one(size):
    kernel = random(*size, seed=1)
    kernel /= kernel.sum()
    x = torch.full((1, 4, *size), 0.37, dtype=torch.float64)
    x[:, -1] = kernel
    torch.testing.assert_close(convolving(4, (0,))(x).feature[:, :3], x[:, :3], rtol=0, atol=1e-14)


def test_a_unit_response_keeps_every_image():
    net = bare_filter(IdentityStartEstimator(4).double())
    torch.nn.init.zeros_(net.to_image.weight)
    torch.nn.init.zeros_(net.to_image.bias)
    x, image = random(2, 4, 12, 16), random(2, 3, 12, 16)
    estimate = net(x, image)
    torch.testing.assert_close(estimate.feature, x, rtol=0, atol=1e-14)
    assert torch.equal(estimate.image, image)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('shift', [(3, 0), (0, -5), (4, 7)])
def test_a_shift_of_the_feature_shifts_the_result_for_given_kernels(size, shift):
    """The filter is a convolution with any transfer functions, also those of random weights."""
    torch.manual_seed(0)
    net, x = FourierKernelEstimator(4).double(), random(2, 4, *size)
    with torch.no_grad():
        state = net(x).states[-1]
        expected = shifted(net._convolve(x, x, state), shift)
        moved = shifted(x, shift)
        torch.testing.assert_close(net._convolve(moved, moved, state), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('shift', [(3, 0), (0, -5), (4, 7)])
def test_kernels_that_do_not_depend_on_the_input_make_the_estimator_equivariant(shift):
    torch.manual_seed(0)
    net, x = FourierKernelEstimator(4).double(), random(2, 4, 12, 16)
    torch.nn.init.zeros_(net.to_otf.weight)
    with torch.no_grad():
        expected = shifted(net(x).feature, shift)
        torch.testing.assert_close(net(shifted(x, shift)).feature, expected, rtol=0, atol=1e-12)


def test_the_estimated_kernels_move_with_the_input():
    """A shift changes the phases of the spectrum from which the kernels are estimated, and thus shifts the kernels.

    This is exact without scans and normalization, since the estimation is then linear. The result is shifted twice.
    """
    net, x, shift = convolving(4, (0,)), random(1, 4, 12, 16), (4, -3)
    with torch.no_grad():
        expected = shifted(net(x).feature, (8, -6))
        torch.testing.assert_close(net(shifted(x, shift)).feature, expected, rtol=0, atol=1e-12)


def test_with_random_weights_the_estimator_is_not_equivariant():
    """The scans and the normalization depend on phases, so a shift changes even the moduli of transfer functions."""
    torch.manual_seed(0)
    net, x, shift = FourierKernelEstimator(4).double(), random(1, 4, 12, 16), (4, -3)
    with torch.no_grad():
        moduli = []
        for each in (x, shifted(x, shift)):
            real, imaginary = net.transfer(net(each).states[-1]).chunk(2, 1)
            moduli.append(torch.hypot(real, imaginary))
    assert (moduli[0] - moduli[1]).norm() > 0.01 * moduli[0].norm()


def test_the_filter_multiplies_the_spectrum():
    """The spectrum of the result is the product, and zero where the transfer function is zero."""
    torch.manual_seed(0)
    net, x = bare_filter(FourierKernelEstimator(4).double()), random(1, 4, 12, 16)
    with torch.no_grad():
        estimate = net(x)
        real, imaginary = net.transfer(estimate.states[-1]).chunk(2, 1)
    product = torch.fft.rfft2(x) * torch.complex(real, imaginary)
    torch.testing.assert_close(torch.fft.rfft2(estimate.feature)[..., 1:-1], product[..., 1:-1], rtol=0, atol=1e-10)
    kernel = torch.zeros(12, 16, dtype=torch.float64)
    kernel[6, 8] = kernel[6, 9] = 0.5  # no response to the highest horizontal frequency
    assert otf_from_psf(kernel)[:, -1].abs().max() < 1e-12
    stripes = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(1, 1, 12, 8)
    blind = convolving(2, (0,))
    x = torch.cat([stripes, torch.fft.ifftshift(kernel)[None, None]], 1)
    assert blind(x).feature[:, 0].abs().max() < 1e-12
