"""The frequency losses compared with NumPy implementations of their definitions."""

import numpy as np
import pytest
import torch

from deeprftv2_plugin.losses import FFTL1Loss, FocalFrequencyLoss, FourierLoss

LOSSES = [FourierLoss, FFTL1Loss, FocalFrequencyLoss]


def images(*shape, count=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(*shape, generator=generator, dtype=dtype) for _ in range(count)]


def dft(x):
    """Compute the 2-D spectrum by definition, as a product with the matrices of all waves."""

    def waves(n):
        return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    return waves(x.shape[-2]) @ x @ waves(x.shape[-1])


def fourier(pred, target):
    width = pred.shape[-1]
    return np.abs(dft(pred) - dft(target))[..., : width // 2 + 1].mean()


def fft_l1(pred, target):
    delta = dft(pred) - dft(target)
    return np.concatenate([np.abs(delta.real), np.abs(delta.imag)]).mean()


def focal_frequency(pred, target, alpha=1.0, patch_factor=1):
    height, width = pred.shape[-2] // patch_factor, pred.shape[-1] // patch_factor
    values = []
    for image in range(pred.shape[0]):
        for channel in range(pred.shape[1]):
            for top in range(0, pred.shape[-2], height):
                for left in range(0, pred.shape[-1], width):
                    patch = np.s_[image, channel, top : top + height, left : left + width]
                    distance = np.abs(dft(pred[patch]) - dft(target[patch])) / np.sqrt(height * width)
                    weights = distance**alpha
                    values.append((weights / weights.max() * distance**2).mean())
    return np.mean(values)


@pytest.mark.parametrize('shape', [(2, 3, 8, 6), (1, 2, 5, 7)])
@pytest.mark.parametrize(
    'loss, reference', [(FourierLoss, fourier), (FFTL1Loss, fft_l1), (FocalFrequencyLoss, focal_frequency)]
)
def test_loss_matches_its_definition(loss, reference, shape):
    pred, target = images(*shape)
    value = loss(loss_weight=0.3)(pred, target).item()
    torch.testing.assert_close(value, 0.3 * reference(pred.numpy(), target.numpy()), rtol=1e-12, atol=0)


@pytest.mark.parametrize('alpha, patch_factor', [(0.0, 1), (2.0, 1), (1.5, 2), (1.0, 4)])
def test_focal_frequency_loss_with_alpha_and_patches(alpha, patch_factor):
    pred, target = images(2, 2, 8, 12)
    value = FocalFrequencyLoss(alpha=alpha, patch_factor=patch_factor)(pred, target).item()
    reference = focal_frequency(pred.numpy(), target.numpy(), alpha, patch_factor)
    torch.testing.assert_close(value, reference, rtol=1e-12, atol=0)


def test_focal_frequency_loss_with_alpha_zero_is_the_squared_error():
    """All weights are one, and Parseval's theorem gives the mean squared error."""
    pred, target = images(2, 3, 8, 8)
    torch.testing.assert_close(FocalFrequencyLoss(alpha=0)(pred, target), (pred - target).square().mean())


def test_focal_frequency_weights_have_no_gradient():
    pred, target = images(1, 1, 4, 6)
    pred.requires_grad_()
    FocalFrequencyLoss()(pred, target).backward()
    delta = torch.fft.fft2(pred.detach() - target, norm='ortho')
    weights = delta.abs() / delta.abs().max()
    frozen = (2 / pred.numel()) * torch.fft.ifft2(weights * delta, norm='ortho').real
    torch.testing.assert_close(pred.grad, frozen)


def test_focal_frequency_loss_rejects_indivisible_sizes():
    with pytest.raises(ValueError, match='7x8.*patch_factor=2'):
        FocalFrequencyLoss(patch_factor=2)(*images(1, 1, 7, 8))


@pytest.mark.parametrize('loss', LOSSES)
def test_loss_of_a_list_is_the_mean(loss):
    *outputs, target = images(2, 3, 8, 8, count=4)
    single = torch.stack([loss()(output, target) for output in outputs]).mean()
    torch.testing.assert_close(loss()(outputs, target), single)
    torch.testing.assert_close(loss()(tuple(outputs), target), single)


@pytest.mark.parametrize('loss', [FourierLoss, FFTL1Loss])
def test_gradcheck(loss):
    pred, target = images(1, 2, 4, 6)
    assert torch.autograd.gradcheck(lambda x: loss()(x, target), pred.requires_grad_())


@pytest.mark.parametrize('loss', LOSSES)
def test_equal_images_have_zero_loss_and_gradient(loss):
    (target,) = images(2, 3, 8, 8, count=1)
    pred = target.clone().requires_grad_()
    value = loss()(pred, target)
    value.backward()
    assert value.item() == 0
    assert torch.equal(pred.grad, torch.zeros_like(pred))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('loss', LOSSES)
def test_low_precision_inputs_are_transformed_in_float32(loss, dtype):
    pred, target = images(1, 3, 12, 10, dtype=torch.float32)
    low = pred.to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        value = loss()(low, target)
    value.backward()
    assert value.dtype == torch.float32
    assert low.grad.dtype == dtype and low.grad.isfinite().all()
    torch.testing.assert_close(value, loss()(low.detach().float(), target))
