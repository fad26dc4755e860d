"""Losses between the pixels of a restored and a sharp image."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.precision import at_least_float32

ROUNDING = (1 / 255) ** 2 / 12
"""Mean squared error of rounding to 8 bits, for images in [0, 1]."""


class PSNRLoss(nn.Module):
    r"""The negative PSNR in decibels, the loss of NAFNet.

    .. math:: L = w \; \operatorname{mean}_n 10 \log_{10} \left(
              \operatorname{mean}_{c,y,x} (\hat x_n - x_n)^2 + \varepsilon \right)

    Unlike in an L1 loss, an image that is nearly restored has the same influence as one with large errors.
    :math:`\varepsilon` is the mean squared error of rounding to 8 bits, 1 / (12 * 255**2), since smaller errors are not
    visible.

    Args:
        loss_weight: The factor :math:`w`.

    References:
        Chen et al., "Simple Baselines for Image Restoration", ECCV 2022.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.losses import PSNRLoss
        >>> restored, sharp = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.1)
        >>> round(PSNRLoss()(restored, sharp).item(), 2)
        -20.0
    """

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss, a scalar tensor.

        Args:
            pred: Restored images (N, C, H, W).
            target: Sharp images (N, C, H, W) in [0, 1].
        """
        error = (at_least_float32(pred) - target).square().mean(dim=(1, 2, 3))
        return self.loss_weight * 10 * torch.log10(error + ROUNDING).mean()
