"""Point spread functions and transfer functions."""

import pytest
import torch

from deeprftv2_plugin.ops import otf_from_psf, psf_from_otf

SIZES = [(8, 8), (8, 10), (7, 12), (6, 9), (5, 5)]


@pytest.mark.parametrize('size', SIZES)
def test_inverse(size):
    psf = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(psf_from_otf(otf_from_psf(psf), size), psf)


@pytest.mark.parametrize('size', SIZES)
def test_convolution_with_a_centered_point_changes_nothing(size):
    psf = torch.zeros(size)
    psf[size[0] // 2, size[1] // 2] = 1
    otf = otf_from_psf(psf)
    torch.testing.assert_close(otf, torch.ones_like(otf))


def test_multiplying_spectra_is_circular_convolution():
    x, psf = torch.rand(8, 8, dtype=torch.float64), torch.rand(8, 8, dtype=torch.float64)
    product = torch.fft.irfft2(torch.fft.rfft2(x) * otf_from_psf(psf), s=(8, 8))
    expected = sum(psf[i, j] * x.roll((i - 4, j - 4), (0, 1)) for i in range(8) for j in range(8))
    torch.testing.assert_close(product, expected)


def test_a_spectrum_of_another_size_is_refused():
    with pytest.raises(ValueError, match='half spectrum of 8x5'):
        psf_from_otf(torch.ones(8, 4, dtype=torch.complex64), (8, 8))
