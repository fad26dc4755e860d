"""Comparison of the transforms with NumPy's, for half spectra that are not those of real maps."""

import numpy as np
import pytest
import torch

from deeprftv2_plugin.ops import half_spectrum, irfft2, spectral_filter
from deeprftv2_plugin.ops.fourier import as_complex, as_parts, hermitian_columns

SIZES = [(8, 8), (7, 9), (6, 7), (5, 4), (1, 1), (5, 1), (1, 6), (4, 2), (3, 2)]

every_size = pytest.mark.parametrize('size', SIZES)


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def spectrum(size):
    """Return a random spectrum without any symmetry."""
    return draw(2, 3, size[0], size[1] // 2 + 1, dtype=torch.complex128)


@every_size
def test_inverse_of_any_half_spectrum_equals_numpys(size):
    given = spectrum(size)
    expected = np.fft.irfft2(given.numpy(), s=size)
    np.testing.assert_allclose(irfft2(given, size).numpy(), expected, rtol=1e-12, atol=1e-12)


@every_size
def test_hermitian_columns_have_a_unique_inverse(size):
    """The complex transform of the whole spectrum, which follows from symmetry, is real and equal."""
    half = hermitian_columns(spectrum(size), size[1])
    rest = half[..., 1 : (size[1] + 1) // 2].flip(-2, -1).roll(1, -2).conj()
    whole = torch.fft.ifft2(torch.cat([half, rest], -1))
    torch.testing.assert_close(whole.imag, torch.zeros_like(whole.imag))
    torch.testing.assert_close(whole.real, irfft2(spectrum(size), size))


@every_size
def test_spectra_of_real_maps_are_unchanged(size):
    given = torch.fft.rfft2(draw(2, 3, *size))
    torch.testing.assert_close(hermitian_columns(given, size[1]), given)


@every_size
def test_gradients(size):
    torch.autograd.gradcheck(lambda s: irfft2(s, size), spectrum(size).requires_grad_())
    x, transfer = draw(2, 3, *size), draw(2, 6, size[0], size[1] // 2 + 1)
    torch.autograd.gradcheck(half_spectrum, x.requires_grad_())
    torch.autograd.gradcheck(spectral_filter, (x, transfer.requires_grad_()))


@every_size
def test_spectral_filter_equals_numpys_inverse_of_the_product(size):
    x, transfer = draw(2, 3, *size), draw(2, 6, size[0], size[1] // 2 + 1)
    product = np.fft.rfft2(x.numpy()) * (transfer[:, :3] + 1j * transfer[:, 3:]).numpy()
    expected = np.fft.irfft2(product, s=size)
    found = spectral_filter(x, transfer)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_parts_are_real_then_imaginary():
    x = draw(2, 3, 6, 8)
    expected = torch.fft.rfft2(x)
    assert torch.equal(half_spectrum(x), torch.cat([expected.real, expected.imag], 1))
    assert torch.equal(as_complex(half_spectrum(x)), expected)
    assert torch.equal(as_parts(as_complex(half_spectrum(x))), half_spectrum(x))


@pytest.mark.gpu
@every_size
@pytest.mark.parametrize('dtype', [torch.complex64, torch.complex128])
def test_result_on_a_gpu_equals_numpys(size, dtype):
    given = spectrum(size).to('cuda', dtype)
    expected = torch.from_numpy(np.fft.irfft2(given.cpu().numpy(), s=size)).to(given.real.dtype)
    torch.testing.assert_close(irfft2(given, size).cpu(), expected)


@pytest.mark.gpu
def test_result_of_cufft_for_columns_that_are_not_hermitian(record_property):
    """Record the difference of torch.fft.irfft2 on CUDA from NumPy, and check that ops.irfft2 has none."""
    given = spectrum((64, 64)).to('cuda')
    expected = torch.from_numpy(np.fft.irfft2(given.cpu().numpy(), s=(64, 64)))
    plain = torch.fft.irfft2(given, s=(64, 64)).cpu()
    record_property('largest difference of plain irfft2 on CUDA', (plain - expected).abs().max().item())
    torch.testing.assert_close(irfft2(given, (64, 64)).cpu(), expected)


def test_errors_name_sizes_that_do_not_match():
    with pytest.raises(ValueError, match='half spectrum of 8x5'):
        irfft2(torch.ones(8, 4, dtype=torch.complex64), (8, 8))
    with pytest.raises(ValueError, match='do not match a map'):
        spectral_filter(torch.ones(1, 2, 8, 8), torch.ones(1, 2, 8, 5))
