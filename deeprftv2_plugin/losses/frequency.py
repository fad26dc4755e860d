"""Losses between the spectra of a restored and a sharp image.

Blur is a product in the frequency domain, where its effect is more visible than in single pixels. Since the transform
is linear, each loss transforms the difference of the images once instead of both images. The transform uses at least
float32, since lower precision is not supported on a CPU, and on a GPU only for sizes that are powers of two.
"""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.precision import at_least_float32


class _SpectralLoss(nn.Module):
    """``loss_weight`` times the mean of :meth:`distance` over one or several predictions."""

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def distance(self, difference: Tensor) -> Tensor:
        """Return the distance, a scalar tensor, for a difference (N, C, H, W) of images."""
        raise NotImplementedError

    def forward(self, pred: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """Return the weighted loss, a scalar tensor.

        Args:
            pred: Restored images (N, C, H, W), or a list of such outputs to average over.
            target: Sharp images (N, C, H, W).
        """
        outputs = [pred] if isinstance(pred, Tensor) else list(pred)
        distances = [self.distance(at_least_float32(output) - target) for output in outputs]
        return self.loss_weight * torch.stack(distances).mean()


class FourierLoss(_SpectralLoss):
    r"""Mean magnitude of the difference of two spectra, the frequency loss of DeepRFTv2.

    .. math:: L = w \; \operatorname{mean}_{n,c,u,v} \left| \mathcal F(\hat x) - \mathcal F(x) \right|

    :math:`\mathcal F` is the unnormalized half spectrum (``torch.fft.rfft2``), so conjugate frequencies count once. The
    loss of a list of outputs is their mean.

    Args:
        loss_weight: The factor :math:`w`. The training recipe of the network uses 0.01 with an L1 loss of weight 1.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.losses import FourierLoss
        >>> restored, sharp = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
        >>> loss = FourierLoss()(restored, sharp)  # 256 at frequency zero, 0 at the other 143
        >>> round(loss.item(), 4)
        1.7778
    """

    def distance(self, difference: Tensor) -> Tensor:
        return torch.fft.rfft2(difference).abs().mean()


class FFTL1Loss(_SpectralLoss):
    r"""L1 distance of the real and imaginary parts of two spectra, the frequency loss of MIMO-UNet.

    .. math:: L = \frac w2 \operatorname{mean}_{n,c,u,v}
              \left( |\Re \Delta| + |\Im \Delta| \right), \qquad \Delta = \mathcal F(\hat x) - \mathcal F(x)

    :math:`\mathcal F` is the unnormalized spectrum of all frequencies (``torch.fft.fft2``). The factor 1/2 averages
    over real and imaginary parts.

    Args:
        loss_weight: The factor :math:`w`. The paper uses 0.1 with an L1 loss of weight 1.

    References:
        Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", ICCV 2021.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.losses import FFTL1Loss
        >>> sharp = torch.rand(1, 3, 16, 16)
        >>> FFTL1Loss()(sharp, sharp).item()
        0.0
    """

    def distance(self, difference: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.fft2(difference)).abs().mean()


class FocalFrequencyLoss(_SpectralLoss):
    r"""Squared distance of two spectra, weighted towards the frequencies with large errors.

    .. math:: L = \lambda \operatorname{mean}_{n,c,u,v} w \, |\Delta|^2, \qquad
              w = \frac{|\Delta|^\alpha}{\max_{u,v} |\Delta|^\alpha}, \qquad
              \Delta = \mathcal F(\hat x) - \mathcal F(x)

    :math:`\mathcal F` is the orthonormal transform (``norm='ortho'``). The weights :math:`w` are in
    [0, 1], normalized separately for each image, channel and patch, and have no gradient.

    Args:
        loss_weight: The factor :math:`\lambda`.
        alpha: The exponent :math:`\alpha`. 0 gives all frequencies equal weight.
        patch_factor: Number of rows and columns of patches. Each patch is transformed separately.

    Raises:
        ValueError: The height or width is not divisible by ``patch_factor``.

    References:
        Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.losses import FocalFrequencyLoss
        >>> sharp = torch.rand(1, 3, 16, 16)
        >>> FocalFrequencyLoss()(sharp, sharp).item()
        0.0
    """

    def __init__(self, loss_weight: float = 1.0, alpha: float = 1.0, patch_factor: int = 1):
        super().__init__(loss_weight)
        self.alpha = alpha
        self.patch_factor = patch_factor

    def distance(self, difference: Tensor) -> Tensor:
        height, width = difference.shape[-2:]
        if height % self.patch_factor or width % self.patch_factor:
            raise ValueError(
                f'FocalFrequencyLoss: an image of {height}x{width} is not divisible by patch_factor='
                f'{self.patch_factor}; change patch_factor or the crop size.'
            )
        patches = difference.unflatten(-1, (self.patch_factor, -1)).unflatten(-3, (self.patch_factor, -1))
        delta = torch.fft.fft2(patches.transpose(-3, -2), norm='ortho')
        squared = delta.real.square() + delta.imag.square()
        weights = squared.detach().pow(self.alpha / 2)
        peak = weights.amax(dim=(-2, -1), keepdim=True)
        # avoids 0 / 0 if prediction and target are equal
        weights = weights / peak.clamp_min(torch.finfo(peak.dtype).tiny)
        return (weights * squared).mean()
