"""Losses for networks with several outputs at two scales."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.pyramid import half_scale


class MultiScaleLoss(nn.Module):
    r"""The sum of several losses over all outputs of a network at both scales.

    .. math:: L = \sum_{s} w_s \sum_k \operatorname{mean}_i \ell_k(x_{s,i}, y_s),
              \qquad s \in \{\text{full}, \text{half}\}

    with the outputs :math:`x_{s,i}` of scale :math:`s`. The target of the half scale is the next level of the Gaussian
    pyramid of the sharp image. With an L1 loss and a Fourier loss of weight 0.01, this is the training loss of
    DeepRFTv2.

    Args:
        losses: Modules called as ``loss(pred, target)`` on images (N, C, H, W). If one returns a tuple of values and
            None, like BasicSR's ``PerceptualLoss``, the values are added.
        scale_weights: The weights of the full and the half scale.
        build: Builds a module from a loss given as option dict (``type`` and the arguments).

    Raises:
        ValueError: There is no loss, or the number of weights is not two.
        TypeError: A loss is an option dict, and `build` is missing.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.archs import DeepRFTv2
        >>> from deeprftv2_plugin.losses import FourierLoss, MultiScaleLoss
        >>> loss = MultiScaleLoss([torch.nn.L1Loss(), FourierLoss(0.01)])
        >>> blurry, sharp = torch.rand(2, 1, 3, 32, 32)
        >>> value = loss(DeepRFTv2('T')(blurry), sharp)
        >>> value.shape
        torch.Size([])
    """

    def __init__(
        self,
        losses: Sequence[nn.Module | Mapping[str, Any]],
        scale_weights: Sequence[float] = (1.0, 1.0),
        build: Callable[[Mapping[str, Any]], nn.Module] | None = None,
    ):
        super().__init__()
        if not losses:
            raise ValueError('MultiScaleLoss: `losses` is empty, expected at least one loss.')
        if len(scale_weights) != 2:
            raise ValueError(
                f'MultiScaleLoss: scale_weights={list(scale_weights)}; '
                'expected two numbers, for the full and the half scale.'
            )
        modules = nn.ModuleList()
        for loss in losses:
            if isinstance(loss, Mapping):
                if build is None:
                    raise TypeError(f'MultiScaleLoss: {dict(loss)} is an option dict; pass a module or `build`.')
                loss = build(loss)
            modules.append(loss)
        self.losses = modules
        self.scale_weights = dict(zip(('full', 'half'), scale_weights, strict=True))

    def forward(self, pred: Any, target: Tensor) -> Tensor:
        """Return the sum over both scales, a scalar tensor. For the arguments see :meth:`per_scale`."""
        return torch.stack(list(self.per_scale(pred, target).values())).sum()

    def per_scale(self, pred: Any, target: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss of each scale.

        Args:
            pred: Output of the network: an object with the lists ``full`` and ``half`` of images (N, C, H, W) and
                (N, C, H/2, W/2), or a tensor or list of tensors of the full scale.
            target: Sharp images (N, C, H, W).

        Returns:
            ``{'full': ..., 'half': ...}``, or only ``'full'`` for networks with one scale.
        """
        if not hasattr(pred, 'full'):
            return {'full': self._over_outputs(pred, target) * self.scale_weights['full']}
        scales = {'full': (pred.full, target), 'half': (pred.half, half_scale(target))}
        return {
            name: self._over_outputs(outputs, sharp) * self.scale_weights[name]
            for name, (outputs, sharp) in scales.items()
        }

    def _over_outputs(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        values = [_total(loss(output, target)) for loss in self.losses for output in outputs]
        return torch.stack(values).sum() / len(outputs)


def _total(value: Tensor | tuple[Tensor | None, ...]) -> Tensor:
    return value if isinstance(value, Tensor) else torch.stack([part for part in value if part is not None]).sum()
