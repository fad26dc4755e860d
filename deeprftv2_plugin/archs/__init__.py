"""Networks, usable in any PyTorch program."""

from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2, KernelEstimate, Outputs, StageKernels

__all__ = ['DeepRFTv2', 'KernelEstimate', 'Outputs', 'StageKernels']
