"""A Fourier Kernel Estimator on top of any network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.control_estimators import build_estimator
from deeprftv2_plugin.ops.tiles import pair
from deeprftv2_plugin.ops.windows import window_of
from deeprftv2_plugin.utils.errors import UserError


class KernelHead(nn.Module):
    """A restoration network followed by a Fourier Kernel Estimator.

    With the backbone's image x and the blurry image y,

        d = conv3x3([x, y]),        output = conv3x3(estimator(d)) + x.

    The last convolution is initialized to zero, so the output is that of the backbone before training.

    Args:
        backbone: A network that maps images (N, C, H, W) to images of the same size: a module, or an option dict
            (`type` and the arguments). If it has several outputs, the last one at full scale is used.
        estimator: 'Fourier', or a replacement with about as many parameters, see `AblatedDeepRFTv2`.
        image_channels: Channels C of the images.
        channels: Channels of the feature.
        kernel_width: Channels of the kernel column; `channels` by default.
        kernel_depths: Scan blocks in each of the four levels of the kernel column.
        kernel_window: Height and width of the kernels, at least 16; larger maps are split. None for no limit.
        kernel_overlap: Pixels by which these windows overlap in evaluation, at most half of kernel_window.

    Raises:
        TypeError: The backbone is an option dict, which only the class in BasicSR's registry takes.
        UserError: The estimator is unknown.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.archs import KernelHead
        >>> net = KernelHead(torch.nn.Conv2d(3, 3, 5, padding=2))
        >>> net(torch.rand(1, 3, 24, 20)).shape
        torch.Size([1, 3, 24, 20])
    """

    estimator: Any

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
        super().__init__()
        self.backbone = self.build(backbone) if isinstance(backbone, Mapping) else backbone
        self.to_feature = nn.Conv2d(2 * image_channels, channels, 3, padding=1)
        self.estimator = build_estimator(
            estimator,
            channels,
            kernel_width,
            image_channels,
            kernel_depths,
            window=window_of('kernel_window', kernel_window, kernel_overlap),
            overlap=pair(kernel_overlap, 'kernel_overlap'),
            reversible=False,
        )
        nn.init.zeros_(self.estimator.to_image.weight)
        nn.init.zeros_(self.estimator.to_image.bias)
        self.size_multiple = getattr(self.backbone, 'size_multiple', 1)

    @staticmethod
    def build(options: Mapping[str, Any]) -> nn.Module:
        """Return the backbone that an option dict describes. For subclasses that know networks by name."""
        raise TypeError(f'KernelHead: {dict(options)} is an option dict, expected a module')

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (N, C, H, W) in [0, 1].

        Raises:
            UserError: The backbone changes the size of the images.
        """
        restored = self.backbone(x)
        restored = getattr(restored, 'full', restored)  # DeepRFTv2 returns `Outputs` in training mode
        if not isinstance(restored, Tensor):
            restored = restored[-1]
        if restored.shape != x.shape:
            raise UserError(
                f'the backbone {type(self.backbone).__name__} returns images of shape {tuple(restored.shape)} for '
                f'{tuple(x.shape)}: KernelHead takes networks that keep the size, such as those with upscale: 1'
            )
        return self.estimator(self.to_feature(torch.cat([restored, x], 1)), restored).image
