"""Functions on tensors, without parameters; usable in any PyTorch program."""

from deeprftv2_plugin.ops.gates import depthwise_gate, depthwise_gelu, simple_gate
from deeprftv2_plugin.ops.normalisation import gated_layer_norm, layer_norm
from deeprftv2_plugin.ops.otf import otf_from_psf, psf_from_otf
from deeprftv2_plugin.ops.pooling import local_mean
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.ops.scan import selective_scan
from deeprftv2_plugin.ops.tiles import TileGrid, merge_tiles, split_tiles
from deeprftv2_plugin.ops.windows import merge_windows, split_windows

__all__ = [
    'TileGrid',
    'depthwise_gate',
    'depthwise_gelu',
    'gated_layer_norm',
    'half_scale',
    'layer_norm',
    'local_mean',
    'merge_tiles',
    'merge_windows',
    'otf_from_psf',
    'psf_from_otf',
    'selective_scan',
    'simple_gate',
    'split_tiles',
    'split_windows',
]
