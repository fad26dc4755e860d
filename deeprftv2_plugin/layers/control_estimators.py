"""Controls for the Fourier Kernel Estimator in ablation studies, with about the same number of parameters.

All classes take the arguments of `FourierKernelEstimator`, which determine the number of parameters, and return an
`Estimate`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.column import call
from deeprftv2_plugin.layers.fourier_kernel_estimator import Estimate, FourierKernelEstimator
from deeprftv2_plugin.layers.pointwise import Pointwise
from deeprftv2_plugin.utils.errors import UserError, nearest


class IdentityStartEstimator(FourierKernelEstimator):
    """A Fourier Kernel Estimator whose transfer functions are 1 for any input before training.

    The authors' estimator starts from random transfer functions.
    """

    def __init__(self, channels: int, *args: Any, **settings: Any):
        super().__init__(channels, *args, **settings)
        with torch.no_grad():
            self.to_otf.weight.zero_()
            self.to_otf.bias.copy_(torch.arange(2 * channels) < channels)


class ImageKernelEstimator(FourierKernelEstimator):
    """A Fourier Kernel Estimator that convolves the blurry image instead of the feature.

    The kernels are still estimated from the feature d. With a pointwise projection b of the image y,

        feature = conv1x1([F^-1(otf * F b), d]).

    Convolutions commute with pointwise projections, so every channel is a mixture of convolved channels of the image.
    `forward` requires the image and raises ValueError without it.
    """

    def __init__(self, channels: int, *args: Any, **settings: Any):
        super().__init__(channels, *args, **settings)
        self.feature_proj = Pointwise(self.to_image.out_channels, channels, bias=False)

    def _convolved(self, pieces, image):
        if image is None:
            raise ValueError('ImageKernelEstimator requires an image')
        return self._cut(image)[0]


class _Control(nn.Module):
    """An estimator with ordinary layers in place of the transfer functions. With the feature d,

        feature = conv1x1([filter(d), d]),        image = conv3x3(feature) + blurry.

    Subclasses build `filter` for a given number of parameters. There are no states.
    """

    def __init__(self, channels: int, *args: Any, **settings: Any):
        super().__init__()
        with torch.device('meta'):
            original = FourierKernelEstimator(channels, *args, **settings)
        image_channels = original.to_image.out_channels
        self.reversible = original.column.reversible
        self.fuse = Pointwise(2 * channels, channels, bias=False)
        self.to_image = nn.Conv2d(channels, image_channels, 3, padding=1)
        self.filter = self.build_filter(channels, parameters_of(original) - parameters_of(self))

    @staticmethod
    def build_filter(channels: int, parameters: int) -> nn.Module:
        """Return a module that maps (N, channels, h, w) to the same shape, with about this number of parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor, image: Tensor | None = None, states: Sequence[Tensor] | None = None) -> Estimate:
        """Filter the feature. See `FourierKernelEstimator.forward`; states are ignored."""
        feature = call(self._filter, x, recompute=self.reversible)
        return Estimate(feature, None if image is None else self.restore(feature, image), [])

    def restore(self, feature: Tensor, image: Tensor) -> Tensor:
        """Return the restored image, see `FourierKernelEstimator.restore`."""
        return self.to_image(feature) + image

    def _filter(self, x):
        return self.fuse(torch.cat([self.filter(x), x], 1))


class ConvolutionControl(_Control):
    """Two 3x3 convolutions with a GELU in between, with as many parameters as a Fourier Kernel Estimator."""

    @staticmethod
    def build_filter(channels: int, parameters: int) -> nn.Module:
        """Return the convolutions."""
        hidden = max(1, round((parameters - channels) / (18 * channels + 1)))
        return nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, channels, 3, padding=1)
        )


class LargeKernelControl(_Control):
    """A large depthwise convolution and two pointwise ones, with as many parameters as a Fourier Kernel Estimator.

    The size of the kernels is chosen so that they have two thirds of the parameters. As in an estimator, each channel
    has its own kernel. Unlike there, the kernels do not depend on the input.
    """

    @staticmethod
    def build_filter(channels: int, parameters: int) -> nn.Module:
        """Return the convolutions."""
        side = max(3, int((2 / 3 * parameters / channels) ** 0.5))
        side -= 1 - side % 2
        hidden = max(1, round((parameters - channels * (side**2 + 2)) / (2 * channels + 1)))
        return nn.Sequential(
            nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels),
            Pointwise(channels, hidden),
            nn.GELU(),
            Pointwise(hidden, channels),
        )


ESTIMATORS: dict[str, type[nn.Module]] = {
    'Fourier': FourierKernelEstimator,
    'FourierFromIdentity': IdentityStartEstimator,
    'FourierOfImage': ImageKernelEstimator,
    'Convolution': ConvolutionControl,
    'LargeKernel': LargeKernelControl,
}
"""The estimator and its controls, by the names in option files."""


def build_estimator(name: str, *args: Any, **settings: Any) -> nn.Module:
    """Build an estimator or a control by its name in `ESTIMATORS`.

    Raises:
        UserError: The name is unknown.
    """
    if name not in ESTIMATORS:
        raise UserError(f'unknown estimator {name!r}. {nearest(name, ESTIMATORS)}')
    return ESTIMATORS[name](*args, **settings)


def settings_of(estimator: FourierKernelEstimator) -> dict[str, Any]:
    """Return the arguments with which an estimator was built."""
    return {
        'channels': estimator.fuse.out_features,
        'width': estimator.to_otf.in_features,
        'image_channels': estimator.to_image.out_channels,
        'depths': [len(level.blocks) for level in estimator.column.levels],  # type: ignore[arg-type, union-attr]
        'has_previous': len(estimator.column.alphas) > 0,
        'norm': not isinstance(estimator.norm, nn.Identity),
        'window': estimator.window,
        'overlap': estimator.overlap,
        'smoothing': estimator.smoothing,
        'reversible': estimator.column.reversible,
    }


def parameters_of(net: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(each.numel() for each in net.parameters())
