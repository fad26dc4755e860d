"""Networks that use BasicSR's registry."""

from collections.abc import Mapping, Sequence
from typing import Any

from basicsr.archs import build_network
from torch import nn

from deeprftv2_plugin import archs


class KernelHead(archs.KernelHead):
    """:class:`deeprftv2_plugin.archs.KernelHead` for option files: its backbone is a registered network.

    For example, RIDNet followed by an estimator::

        network_g:
          type: KernelHead
          backbone: {type: RIDNet, num_in_ch: 3, num_feat: 32, num_out_ch: 3}

    Args:
        backbone: Option dict of a registered network (``type`` and the arguments), or a module.
        estimator: See the parent class, like the other arguments.
        image_channels: Channels of the images.
        channels: Channels of the feature.
        kernel_width: Channels of the kernel column.
        kernel_depths: Scan blocks in each of the four levels of the kernel column.
        kernel_window: Height and width of the kernels.
        kernel_overlap: Pixels by which these windows overlap in evaluation.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        estimator: str = 'Fourier',
        image_channels: int = 3,
        channels: int = 16,
        kernel_width: int | None = None,
        kernel_depths: Sequence[int] = (1, 1, 1, 1),
        kernel_window: int | Sequence[int] | None = None,
        kernel_overlap: int | Sequence[int] = 0,
    ):
        super().__init__(
            backbone,
            estimator,
            image_channels,
            channels,
            kernel_width,
            kernel_depths,
            kernel_window,
            kernel_overlap,
            build_network,
        )
