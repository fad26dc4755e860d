"""PSNRLoss compared with the metric."""

import numpy as np
import pytest
import torch

from deeprftv2_plugin.losses import PSNRLoss
from deeprftv2_plugin.metrics import psnr


def test_loss_is_the_negative_mean_psnr_of_the_images():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    restored = rng.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    expected = -np.mean([psnr(a, b, crop_border=0) for a, b in zip(restored, sharp, strict=True)])
    pred, target = (torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255 for images in (restored, sharp))
    assert PSNRLoss(0.5)(pred, target).item() == pytest.approx(0.5 * expected, rel=1e-4)


def test_loss_of_equal_images_is_that_of_rounding_to_8_bits_and_has_a_finite_gradient():
    pred = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    loss = PSNRLoss()(pred, torch.full((1, 3, 4, 4), 0.5))
    loss.backward()
    assert loss.item() == pytest.approx(-58.92, abs=0.01)
    assert pred.grad is not None and torch.equal(pred.grad, torch.zeros_like(pred))


def test_images_with_a_large_and_a_small_error_have_the_same_influence():
    target = torch.zeros(2, 1, 4, 4)
    errors = torch.tensor([0.5, 0.01]).reshape(2, 1, 1, 1).requires_grad_()
    PSNRLoss()(target + errors, target).backward()
    assert errors.grad is not None
    shares = errors.grad * errors.detach()  # derivatives with respect to the logarithm of the error
    torch.testing.assert_close(shares[0], shares[1], rtol=0.02, atol=0)
