"""Networks, usable in any PyTorch program."""

from deeprftv2_plugin.archs.ablations import AblatedDeepRFTv2
from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2, KernelEstimate, Outputs, StageKernels
from deeprftv2_plugin.archs.kernel_head import KernelHead

__all__ = ['AblatedDeepRFTv2', 'DeepRFTv2', 'KernelEstimate', 'KernelHead', 'Outputs', 'StageKernels']
