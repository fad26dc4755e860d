"""Losses between the spectra of a restored and of a sharp picture.

Blur is a product in the frequency domain: what it took away shows there more clearly than pixel by pixel.
The transform is linear, so each loss transforms the difference of the two pictures once, instead of both,
and in float32 at least: the CPU has no transform for fewer bits, the GPU only for powers of two.
"""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.precision import at_least_float32


class _SpectralLoss(nn.Module):
    """``loss_weight`` times the mean of :meth:`distance` over one prediction or a list of them."""

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def distance(self, difference: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, pred: Tensor | list[Tensor], target: Tensor) -> Tensor:
        """The weighted loss, a tensor without dimensions.

        Args:
            pred: Restored pictures (N, C, H, W), or a list of such outputs, over which the mean is taken.
            target: Sharp pictures (N, C, H, W).
        """
        outputs = [pred] if isinstance(pred, Tensor) else list(pred)
        distances = [self.distance(at_least_float32(output) - target) for output in outputs]
        return self.loss_weight * torch.stack(distances).mean()


class FourierLoss(_SpectralLoss):
    r"""Mean modulus of the difference of two spectra, the frequency loss of DeepRFTv2.

    .. math:: L = w \; \operatorname{mean}_{n,c,u,v} \left| \mathcal F(\hat x) - \mathcal F(x) \right|

    :math:`\mathcal F` is the unnormalised half spectrum (``torch.fft.rfft2``), so that a frequency and its
    conjugate count once; over a list of outputs the mean is taken.

    Args:
        loss_weight: The factor :math:`w`. The network's recipe takes 0.01 next to an L1 loss of weight 1.

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
    r"""L1 distance of the real and the imaginary parts of two spectra, the frequency loss of MIMO-UNet.

    .. math:: L = \frac w2 \operatorname{mean}_{n,c,u,v}
              \left( |\Re \Delta| + |\Im \Delta| \right), \qquad \Delta = \mathcal F(\hat x) - \mathcal F(x)

    :math:`\mathcal F` is the unnormalised spectrum of all frequencies (``torch.fft.fft2``); the mean runs
    over real and imaginary parts alike, hence the half.

    Args:
        loss_weight: The factor :math:`w`. The paper takes 0.1 next to an L1 loss of weight 1.

    References:
        Cho et al., Rethinking Coarse-to-Fine Approach in Single Image Deblurring, ICCV 2021.

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
    r"""Squared distance of two spectra that dwells on the frequencies that are still far off.

    .. math:: L = \lambda \operatorname{mean}_{n,c,u,v} w \, |\Delta|^2, \qquad
              w = \frac{|\Delta|^\alpha}{\max_{u,v} |\Delta|^\alpha}, \qquad
              \Delta = \mathcal F(\hat x) - \mathcal F(x)

    :math:`\mathcal F` is the orthonormal transform (``norm='ortho'``). The weights :math:`w` lie in [0, 1],
    are normalised for each picture, channel and patch by themselves, and pass on no gradient.

    Args:
        loss_weight: The factor :math:`\lambda`.
        alpha: The exponent :math:`\alpha`; 0 weighs all frequencies alike.
        patch_factor: Pictures are cut into this many rows and columns of patches, each transformed by itself.

    Raises:
        ValueError: The height or the width cannot be divided by ``patch_factor``.

    References:
        Jiang et al., Focal Frequency Loss for Image Reconstruction and Synthesis, ICCV 2021.

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
                f'FocalFrequencyLoss: a picture of {height}x{width} cannot be cut into patch_factor='
                f'{self.patch_factor} equal parts; choose a patch_factor or a crop size that divide.'
            )
        patches = difference.unflatten(-1, (self.patch_factor, -1)).unflatten(-3, (self.patch_factor, -1))
        delta = torch.fft.fft2(patches.transpose(-3, -2), norm='ortho')
        squared = delta.real.square() + delta.imag.square()
        weights = squared.detach().pow(self.alpha / 2)
        peak = weights.amax(dim=(-2, -1), keepdim=True)
        # where prediction and target agree everywhere, the peak is zero and so is the loss
        weights = weights / peak.clamp_min(torch.finfo(peak.dtype).tiny)
        return (weights * squared).mean()
