"""DeepRFTv2 with its Fourier Kernel Estimators replaced by other modules."""

from typing import Any

from torch import Tensor, nn

from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2
from deeprftv2_plugin.archs.stage import Stage
from deeprftv2_plugin.layers.control_estimators import ImageKernelEstimator, build_estimator, settings_of
from deeprftv2_plugin.layers.fourier_kernel_estimator import Estimate, FourierKernelEstimator


class _AblatedStage(Stage):
    """A stage whose estimators can convolve the image."""

    def estimate(self, estimator: nn.Module, feature: Tensor, image: Tensor, states: list[Tensor] | None) -> Estimate:
        """Apply an estimator or a control."""
        if isinstance(estimator, ImageKernelEstimator):
            return estimator(feature, image, states)
        return estimator(feature, states=states)


class AblatedDeepRFTv2(DeepRFTv2):
    """DeepRFTv2 with replaced estimators, for ablation studies.

    The number of parameters differs by at most 6 % between an estimator and its replacement, and by at most 0.5 %
    between the networks.

    Args:
        full_estimator: Replacement of the estimators at full scale, a name in `layers.ESTIMATORS`:
            'Fourier' (the estimator itself), 'FourierFromIdentity' (transfer functions of 1 before training),
            'FourierOfImage' (convolves the image instead of the feature), 'Convolution' (two 3x3 convolutions) or
            'LargeKernel' (a large depthwise convolution).
        half_estimator: Replacement of the estimators at half scale.
        settings: Keyword arguments of `DeepRFTv2`.

    Raises:
        UserError: A name is unknown, or `DeepRFTv2` does not accept the settings.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.archs import AblatedDeepRFTv2
        >>> net = AblatedDeepRFTv2('Fourier', 'Convolution', variant='T').eval()
        >>> with torch.no_grad():
        ...     net(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """

    stage_type = _AblatedStage

    def __init__(self, full_estimator: str = 'Fourier', half_estimator: str = 'Fourier', **settings: Any):
        super().__init__(**settings)
        stage: Any  # nn.ModuleList has no type parameter
        for stage in self.stages:
            stage.full_estimator = build_estimator(full_estimator, **settings_of(stage.full_estimator))
            stage.half_estimator = build_estimator(half_estimator, **settings_of(stage.half_estimator))

    def kernels(self, x: Tensor, half: Tensor | None = None) -> list:
        """Return the kernels, see `DeepRFTv2.kernels`.

        Raises:
            TypeError: An estimator is replaced by a module without transfer functions.
        """
        estimators = [each for stage in self.stages for each in (stage.full_estimator, stage.half_estimator)]
        if not all(isinstance(each, FourierKernelEstimator) for each in estimators):
            raise TypeError('this network has no kernels: the Fourier Kernel Estimators of a scale are replaced')
        return super().kernels(x, half)
