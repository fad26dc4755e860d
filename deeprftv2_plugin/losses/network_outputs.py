"""The multi-scale loss for option files."""

from collections.abc import Mapping, Sequence
from typing import Any

from basicsr.losses import build_loss
from torch import nn

from deeprftv2_plugin import losses as _losses


class MultiScaleLoss(_losses.MultiScaleLoss):
    """A :class:`deeprftv2_plugin.losses.MultiScaleLoss` that builds its losses from options.

    It allows BasicSR's ``SRModel``, which has a single pixel loss, to train networks with two scales::

        pixel_opt:
          type: MultiScaleLoss
          losses: [{type: L1Loss}, {type: FourierLoss, loss_weight: 0.01}]

    Args:
        losses: Option dicts of registered losses (``type`` and the arguments), or modules.
        scale_weights: The weights of the full and the half scale.
    """

    def __init__(self, losses: Sequence[Mapping[str, Any] | nn.Module], scale_weights: Sequence[float] = (1.0, 1.0)):
        modules = [loss if isinstance(loss, nn.Module) else build_loss(loss) for loss in losses]
        super().__init__(modules, scale_weights)
