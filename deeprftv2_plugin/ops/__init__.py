"""Functions on tensors, usable in any PyTorch program."""

from deeprftv2_plugin.ops.branches import (
    gated_convolution,
    gated_feed_forward,
    gelu_convolution,
    normed_gate_projection,
)
from deeprftv2_plugin.ops.fourier import half_spectrum, irfft2, spectral_filter
from deeprftv2_plugin.ops.gates import depthwise_gate, depthwise_gelu, simple_gate
from deeprftv2_plugin.ops.library import decompositions
from deeprftv2_plugin.ops.normalization import gated_layer_norm, layer_norm
from deeprftv2_plugin.ops.otf import otf_from_psf, psf_from_otf
from deeprftv2_plugin.ops.pointwise import pointwise
from deeprftv2_plugin.ops.pooling import local_mean
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.ops.scan import selective_scan
from deeprftv2_plugin.ops.tiles import TileGrid, merge_tiles, split_tiles
from deeprftv2_plugin.ops.windows import merge_windows, split_windows

__all__ = [
    'TileGrid',
    'decompositions',
    'depthwise_gate',
    'depthwise_gelu',
    'gated_convolution',
    'gated_feed_forward',
    'gated_layer_norm',
    'gelu_convolution',
    'half_scale',
    'half_spectrum',
    'irfft2',
    'layer_norm',
    'local_mean',
    'merge_tiles',
    'merge_windows',
    'normed_gate_projection',
    'otf_from_psf',
    'pointwise',
    'psf_from_otf',
    'selective_scan',
    'simple_gate',
    'spectral_filter',
    'split_tiles',
    'split_windows',
]
