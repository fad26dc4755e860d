"""The modules of the network, usable in any PyTorch program."""

from deeprftv2_plugin.layers.blocks import BLOCKS, Blocks
from deeprftv2_plugin.layers.column import Column
from deeprftv2_plugin.layers.control_estimators import (
    ESTIMATORS,
    ConvolutionControl,
    IdentityStartEstimator,
    ImageKernelEstimator,
    LargeKernelControl,
)
from deeprftv2_plugin.layers.fourier_kernel_estimator import Estimate, FourierKernelEstimator
from deeprftv2_plugin.layers.level import Level, Merge
from deeprftv2_plugin.layers.naf import GatedConvolution, GatedFeedForward, NAFBlock, NAFScanBlock
from deeprftv2_plugin.layers.norm import LayerNorm2d
from deeprftv2_plugin.layers.pointwise import Pointwise
from deeprftv2_plugin.layers.resample import downsample, upsample
from deeprftv2_plugin.layers.scan_mixer import SelectiveScanMixer

__all__ = [
    'BLOCKS',
    'ESTIMATORS',
    'Blocks',
    'Column',
    'ConvolutionControl',
    'Estimate',
    'FourierKernelEstimator',
    'GatedConvolution',
    'GatedFeedForward',
    'LayerNorm2d',
    'IdentityStartEstimator',
    'ImageKernelEstimator',
    'LargeKernelControl',
    'Level',
    'Merge',
    'NAFBlock',
    'NAFScanBlock',
    'Pointwise',
    'SelectiveScanMixer',
    'downsample',
    'upsample',
]
