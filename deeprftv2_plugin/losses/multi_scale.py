"""Any loss over networks that put out several pictures at two scales."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.pyramid import half_scale


class MultiScaleLoss(nn.Module):
    r"""The sum of some losses, over every output of a network and over both of its scales.

    .. math:: L = \sum_{s} w_s \sum_k \operatorname{mean}_i \ell_k(x_{s,i}, y_s),
              \qquad s \in \{\text{full}, \text{half}\}

    with the outputs :math:`x_{s,i}` of scale :math:`s`. The target :math:`y` of the half scale is the next
    level of the Gaussian pyramid of the sharp picture. With an L1 loss and a Fourier loss of weight 0.01 this
    is the training loss of DeepRFTv2.

    Args:
        losses: Modules called as ``loss(pred, target)`` on pictures (N, C, H, W). One that returns several
            values (or None in place of a value), as BasicSR's ``PerceptualLoss``, counts with their sum.
        scale_weights: The weights of the full and of the half scale.
        build: Makes a module of each loss that is given as an option dict (``type`` and the arguments).

    Raises:
        ValueError: No loss is given, or not two weights.
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
            raise ValueError('MultiScaleLoss: `losses` is empty; give at least one loss.')
        if len(scale_weights) != 2:
            raise ValueError(
                f'MultiScaleLoss: scale_weights={list(scale_weights)}; '
                'give two numbers, for the full and for the half scale.'
            )
        self.losses = nn.ModuleList(build(loss) if build and isinstance(loss, Mapping) else loss for loss in losses)
        self.scale_weights = dict(zip(('full', 'half'), scale_weights, strict=True))

    def forward(self, pred: Any, target: Tensor) -> Tensor:
        """The sum over both scales, a tensor without dimensions; arguments as for :meth:`per_scale`."""
        return torch.stack(list(self.per_scale(pred, target).values())).sum()

    def per_scale(self, pred: Any, target: Tensor) -> dict[str, Tensor]:
        """The weighted loss of each scale by its name.

        Args:
            pred: What the network put out: an object with the lists ``full`` and ``half`` of pictures
                (N, C, H, W) and (N, C, H/2, W/2); or a list, or one tensor, of the full scale only.
            target: Sharp pictures (N, C, H, W).

        Returns:
            ``{'full': ..., 'half': ...}``, or only ``'full'`` for a network of one scale.
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
    return value if isinstance(value, Tensor) else sum(part for part in value if part is not None)
