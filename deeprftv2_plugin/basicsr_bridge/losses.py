"""Losses that use BasicSR's registry."""

from collections.abc import Mapping, Sequence
from typing import Any

from basicsr.losses import build_loss
from torch import nn

from deeprftv2_plugin import losses


class MultiScaleLoss(losses.MultiScaleLoss):
    """:class:`deeprftv2_plugin.losses.MultiScaleLoss` for option files: its losses are registered losses.

    With it, BasicSR's ``SRModel``, which has one pixel loss, can train a network with two scales::

        pixel_opt:
          type: MultiScaleLoss
          losses: [{type: L1Loss}, {type: FourierLoss, loss_weight: 0.01}]

    Args:
        losses: Option dicts of registered losses (``type`` and the arguments), or modules.
        scale_weights: The weights of the full and of the half scale.
    """

    def __init__(self, losses: Sequence[nn.Module | Mapping[str, Any]], scale_weights: Sequence[float] = (1.0, 1.0)):
        super().__init__(losses, scale_weights, build_loss)
