"""Modules the network is built of; usable in any PyTorch program."""

from deeprftv2_plugin.layers.blocks import BLOCKS, Blocks
from deeprftv2_plugin.layers.fourier_kernel_estimator import Estimate, FourierKernelEstimator
from deeprftv2_plugin.layers.level import Level
from deeprftv2_plugin.layers.naf import NAFBlock, NAFScanBlock
from deeprftv2_plugin.layers.norm import LayerNorm2d
from deeprftv2_plugin.layers.resample import downsample, upsample
from deeprftv2_plugin.layers.reversible import Column
from deeprftv2_plugin.layers.scan_mixer import ScanBlock, SelectiveScanMixer

__all__ = [
    'BLOCKS',
    'Blocks',
    'Column',
    'Estimate',
    'FourierKernelEstimator',
    'LayerNorm2d',
    'Level',
    'NAFBlock',
    'NAFScanBlock',
    'ScanBlock',
    'SelectiveScanMixer',
    'downsample',
    'upsample',
]
