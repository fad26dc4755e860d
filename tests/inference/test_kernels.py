"""The analysis of estimated kernels, for kernels with known properties."""

import numpy as np
import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.data.blur.kernels import gaussian
from deeprftv2_plugin.inference import kernels
from deeprftv2_plugin.ops import otf_from_psf


def shake(seed, side=9):
    return torch.rand(side, side - 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def placed(kernel, size, shift=(0, 0)):
    """Return a map with a kernel whose origin is shifted from that of the map."""
    whole = torch.zeros(size, dtype=kernel.dtype)
    top, left = (n // 2 + s - k // 2 for n, s, k in zip(size, shift, kernel.shape, strict=True))
    whole[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    return whole


@pytest.mark.parametrize('size', [(32, 40), (33, 27)])
@pytest.mark.parametrize('shift', [(0, 0), (3, -5), (-11, 6)])
@pytest.mark.parametrize('factor', [1, -0.3])
def test_a_shifted_kernel_is_found(size, shift, factor):
    found = kernels.best_match(factor * placed(shake(0), size, shift), shake(0))
    assert found.correlation == pytest.approx(np.sign(factor)) and found.shift == shift and not found.flipped


@pytest.mark.parametrize('truth', [shake(1), shake(1, side=8)])
def test_a_rotated_kernel_is_found(truth):
    turned = torch.zeros(21, 21, dtype=torch.float64)
    for (row, column), value in np.ndenumerate(truth.numpy()):  # rotated about the origin
        turned[10 + 2 - (row - truth.shape[0] // 2), 10 - 1 - (column - truth.shape[1] // 2)] = value
    assert kernels.best_match(turned, truth) == (pytest.approx(1), (2, -1), True)


def test_the_true_kernel_may_be_larger_and_exceed_the_map():
    assert kernels.best_match(shake(0), placed(shake(0), (32, 40), (2, 4))) == (pytest.approx(1), (-2, -4), False)
    half = placed(shake(2, side=16), (16, 14))[:8]  # the truth leaves the map, and does not enter on the other side
    assert kernels.best_match(half, shake(2, side=16)).correlation == pytest.approx(
        float(half.norm() / shake(2, side=16).norm())
    )


def test_symmetric_kernels_are_not_rotated():
    gauss = torch.from_numpy(gaussian(2.0)).double()
    assert not kernels.best_match(placed(gauss, (31, 31)), gauss).flipped


def test_correlations_of_an_impulse_and_of_another_kernel():
    impulse = placed(torch.ones(1, 1, dtype=torch.float64), (16, 16))
    truth = shake(3)
    found = kernels.best_match(impulse, truth)
    assert (
        found.correlation
        == pytest.approx(kernels.impulse_correlation(truth))
        == pytest.approx(float(truth.max() / truth.norm()))
    )
    assert kernels.best_match(placed(shake(4), (24, 24)), truth).correlation < 0.95
    assert kernels.best_match(torch.zeros(8, 8), truth).correlation == 0


@pytest.mark.parametrize('size', [(16, 16), (15, 18)])
def test_the_support_of_a_square(size):
    square = placed(torch.ones(5, 5), size)
    assert kernels.support_radius(square, 1.0) == 2
    assert kernels.support_radius(square, 9 / 25) == 1
    assert kernels.support_radius(square, 1 / 26) == 0
    assert kernels.support_radius(torch.stack([square, 100 * placed(torch.ones(1, 1), size)]), 0.9) == 0
    assert kernels.support_radius(torch.ones(size), 1.0) == max(size) // 2


def test_cropping_keeps_the_origin():
    psf = placed(shake(5, side=7), (12, 15))
    assert torch.equal(kernels.crop_to_radius(psf, 3)[:, 1:-1], shake(5, side=7))
    wide = kernels.crop_to_radius(psf[None], 20)
    assert wide.shape == (1, 41, 41) and wide.sum() == pytest.approx(float(psf.sum())) and wide[0, 20, 20] == psf[6, 7]


def test_varying_share():
    fixed, random = torch.rand(1, 3, 8, 8).expand(6, -1, -1, -1), torch.randn(6, 3, 64, 64)
    assert kernels.varying_share(fixed) == pytest.approx(0, abs=1e-12)
    assert kernels.varying_share(random) == pytest.approx(1, abs=0.03)
    assert kernels.varying_share(random[:2]) == pytest.approx(1, abs=0.03)
    pair = torch.tensor([3.0, 1.0])  # mean 2, variance 2, mean square 5
    assert kernels.varying_share(pair) == pytest.approx(0.4)
    with pytest.raises(ValueError, match='two'):
        kernels.varying_share(fixed[:1])


def test_the_varying_share_is_the_same_in_frequency():
    psf = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    assert kernels.varying_share(torch.view_as_real(torch.fft.fft2(psf))) == pytest.approx(kernels.varying_share(psf))


def test_modulus_of_a_box():
    psf = placed(torch.full((3, 1), 1 / 3, dtype=torch.float64), (9, 8))
    expected = np.abs(1 + 2 * np.cos(2 * np.pi * (np.arange(9) - 4) / 9)) / 3
    found = kernels.transfer_modulus(psf)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 8, 1), atol=1e-12)
    torch.testing.assert_close(torch.fft.ifftshift(found)[:, :5], otf_from_psf(psf).abs())


def test_half_scale_of_a_gaussian_is_a_gaussian_of_half_the_size():
    found = kernels.half_scale_kernel(torch.from_numpy(gaussian(4.0)))
    assert kernels.best_match(found, torch.from_numpy(gaussian(2.0))).correlation > 0.999


@pytest.mark.parametrize('side', [7, 8])
def test_half_scale_preserves_the_sum_and_halves_the_position(side):
    def centroid(kernel):
        rows = torch.arange(len(kernel), dtype=kernel.dtype) - len(kernel) // 2
        return float(rows @ kernel.sum(1) / kernel.sum())

    found = kernels.half_scale_kernel(shake(6, side))
    assert float(found.sum()) == pytest.approx(float(shake(6, side).sum()))
    assert centroid(found) == pytest.approx(centroid(shake(6, side)) / 2)


def test_the_psfs_of_a_network():
    torch.manual_seed(0)
    net = DeepRFTv2('T', width=8, kernel_width=4).eval()
    images = torch.rand(2, 3, 16, 24)
    found = kernels.estimated_psfs(net, images)
    assert list(found) == [(1, 'half'), (1, 'full'), (2, 'half'), (2, 'full')]
    assert found[2, 'full'].shape == (2, 8, 16, 24) and found[1, 'half'].shape == (2, 8, 8, 12)
    torch.testing.assert_close(found[2, 'half'], net.kernels(images)[1].half.psf)
    powers = found[2, 'full'].square().sum((0, 2, 3))
    assert kernels.strongest_channels(found[2, 'full'], 2) == powers.argsort(descending=True)[:2].tolist()


def test_likeness_of_the_true_kernel_and_of_controls():
    truths = [shake(7), shake(8)]
    other = torch.randn(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    psf = torch.stack([torch.stack([other, -2 * placed(truth, (32, 32), (1, 2))]) for truth in truths])
    found = kernels.likeness(psf, truths)
    assert found.best == pytest.approx(1) and found.mean < 0.99
    assert found.turned == pytest.approx(
        np.mean([kernels.best_match(placed(truth, (32, 32)), truth.rot90()).correlation for truth in truths])
    )
    assert found.impulse == pytest.approx(np.mean([kernels.impulse_correlation(truth) for truth in truths]))


def test_analysis_of_all_estimators():
    torch.manual_seed(0)
    net = DeepRFTv2('T', width=8, kernel_width=4).eval()
    images = list(torch.rand(2, 3, 16, 24))
    single = kernels.analyze(net, images[:1])
    assert all(each.varying is None and each.likeness is None and each.truths == [] for each in single)
    truth = torch.from_numpy(gaussian(1.0))
    found = kernels.analyze(net, images, [truth, truth])
    assert [(each.stage, each.scale) for each in found] == [(1, 'half'), (1, 'full'), (2, 'half'), (2, 'full')]
    for each in found:
        assert each.varying == kernels.varying_share(each.psf) and each.radius == kernels.support_radius(each.psf)
        expected = truth if each.scale == 'full' else kernels.half_scale_kernel(truth)
        assert torch.equal(each.truths[1], expected)
        assert each.likeness == kernels.likeness(each.psf, each.truths)
