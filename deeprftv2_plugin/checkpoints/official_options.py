"""Convert the authors' network options to arguments of `archs.DeepRFTv2`."""

import warnings
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

from deeprftv2_plugin.utils.errors import UserError

_BLOCK_NAMES = {
    'naf': 'NAF',
    'localnaf': 'LocalNAF',
    'NAFEVSBlock': 'NAFScan',
    'LocalNAFEVSBlock': 'LocalNAFScan',
    'LocalNAFEVSBlock_patch': 'LocalNAFScanWindow',
    'LocalNAFEVSBlock_noflip': 'LocalNAFScanUpright',
    'LocalNAFEVSBlock_patch_noflip': 'LocalNAFScanWindowUpright',
}

# Settings for which only this value is supported.
_REQUIRED = {
    'type': 'DeepRFTv2',
    'deblur_kernel': True,
    'deblur_kernel_mode': 'ker_max_mid',
    'latent_sharp': True,
    'inp_feature': 'feature',
    'deconv_feature': 'feature',
    'mid_scale': True,
    'small_scale': False,
    'fuse_method_encoder': 'Fuse_in_Encoder',
    'fuse_method_decoder': 'DownSample2latent',
    'downsample': 'concat',
    'downsample_mode': 'conv',
    'fuse_downsample_mode': 'conv',
    'upsample_mode': 'conv1x1_shuffle',
    'up2scale': False,
    'deblur_mask': False,
    'spatial_add': False,
    'spatial_decoder': False,
    'frozen_global': False,
    'multiscale_enc': False,
    'flip_transpose': False,
    'prior_model': None,
    'drop_path': 0,
}
# Settings that have no effect on this network in the authors' code.
_UNUSED = (
    'pad_size',
    'num_ker',
    'kernel_size',
    'num_heads_*',
    'downsample_ker',
    'downsample_local',
    'fuse_upsample_mode',
    'baseblock_dec_ker',
    'dec_ker_layers',
    'sub_dec_width',
    '*_local*',
    '*_small_*',
    'num_kernel_est',
    'num_local_*',
    'small_enc',
    'mid_flip',
    'save_memory',
    'frozen_encoder',
    'frozen_kernel',
    'scale_size',
    'enc_light_layers',
    'get_ker',
)


class _Reader:
    """Read options, recording which keys have been read."""

    def __init__(self, options: Mapping[str, Any]):
        self.options = dict(options)
        self.unread = set(self.options)

    def get(self, key: str, *default: Any) -> Any:
        """Return the value of a key, which is required without a default."""
        self.unread.discard(key)
        if key not in self.options and not default:
            raise UserError(f'{key} is missing from the network options')
        return self.options.get(key, *default)

    def numbers(self, key: str, count: int) -> list[int]:
        """Return a list of `count` integers."""
        value = self.get(key)
        if not _is_list(value, count, int):
            raise UserError(f'{key} is {value!r}: expected {count} integers')
        return list(value)

    def by_stage(self, key: str, stages: int, *default: Any) -> list:
        """Return a list with an entry for each stage."""
        value = self.get(key, *default)
        if not isinstance(value, (list, tuple)) or len(value) < stages:
            raise UserError(f'{key} is {value!r}: expected an entry for each of the {stages} stages')
        return list(value[:stages])


def _is_list(value: object, count: int, kind: type) -> bool:
    return isinstance(value, list | tuple) and len(value) == count and all(type(v) is kind for v in value)


def from_official_options(network_g: Mapping) -> dict[str, dict]:
    """Convert the section `network_g` of an option file of the authors.

    Settings that have no effect are dropped with a `UserWarning`.

    Args:
        network_g: The section as a dict.

    Returns:
        `{'network': keyword arguments of archs.DeepRFTv2, 'restore': keyword arguments of inference.restore}`.

    Raises:
        UserError: A setting is not supported. The message names the supported values.
    """
    options = _Reader(network_g)
    for key, expected in _REQUIRED.items():
        found = options.get(key, expected)
        found = None if expected is None and found in ('none', 'None') else found
        if found != expected:
            raise UserError(f'{key} is {found!r}: only {expected!r} is supported')
    padding = options.get('ks', None)
    if any(padding if isinstance(padding, list | tuple) else [padding]):
        raise UserError(f'ks is {padding!r}: only zeros (no padding) are supported')

    stages = options.get('num_global_unet', 1)
    for key, default in (('num_global_unet', 1), ('inp_channels', 3), ('out_channels', 3)):
        if type(options.get(key, default)) is not int or options.get(key, default) < 1:
            raise UserError(f'{key} is {options.get(key)!r}: expected a positive integer')
    dims, dims_ker = options.numbers('dims', 3), options.numbers('dims_ker', 3)
    if dims[1] != dims[2]:
        raise UserError(f'dims is {dims}: the second and third number must be equal')
    window, overlap = options.numbers('sub_image_size', 2), options.numbers('overlap_size', 2)
    network = {
        'in_channels': options.get('inp_channels', 3),
        'out_channels': options.get('out_channels', 3),
        'width': dims[:2],
        'kernel_width': dims_ker[:2],
        'stages': stages,
        **{
            ours: _levels(options, theirs, stages)
            for ours, theirs in (
                ('full_encoder', 'enc_max'),
                ('full_decoder', 'dec_max'),
                ('half_encoder', 'enc_mid'),
                ('half_decoder', 'dec_mid'),
            )
        },
        'kernel_depths': _kernel_depths(options),
        'kernel_norm': _kernel_norm(options),
        'kernel_window': window,
        'kernel_overlap': overlap,
        'reversible': {
            ours: options.by_stage(theirs, stages, [False] * stages)
            for ours, theirs in (
                ('encoders', 'save_memory_global_encoder'),
                ('decoders', 'save_memory_global_decoder'),
                ('kernels', 'save_memory_ker'),
            )
        },
    }
    blocks = str([network[name] for name in network if name.endswith('coder')])
    for ours, theirs, sign in (('local_pool_crop', 'train_size', 'Local'), ('scan_window', 'patch_size', 'Window')):
        if sign in blocks:
            network[ours] = options.numbers(theirs, 2)
    restore = {'tile': window, 'overlap': overlap} if options.get('sub_image', False) else {'tile': None}
    _report(options.unread)
    return {'network': network, 'restore': restore}


def _levels(options: _Reader, part: str, stages: int) -> list:
    """Return [[block, depth], ...] of a column: a single list if all stages are equal, otherwise one per stage."""
    side, scale = part.split('_')
    names_key, depths_key = f'baseblock_{side}_{scale}_global', f'{part}_layers'
    names, depths = options.by_stage(names_key, stages), options.by_stage(depths_key, stages)
    levels = []
    for stage_names, stage_depths in zip(names, depths, strict=True):
        if not _is_list(stage_names, 3, str) or not _is_list(stage_depths, 3, int):
            raise UserError(
                f'{names_key} and {depths_key} need three names and three integers per stage, found '
                f'{stage_names!r} and {stage_depths!r}'
            )
        for name in stage_names:
            if name not in _BLOCK_NAMES:
                raise UserError(f'{names_key} contains the block {name!r}: supported are {", ".join(_BLOCK_NAMES)}')
        levels.append([[_BLOCK_NAMES[name], depth] for name, depth in zip(stage_names, stage_depths, strict=True)])
    return levels[0] if all(level == levels[0] for level in levels) else levels


def _kernel_depths(options: _Reader) -> list[int]:
    blocks = options.get('baseblock_enc_ker')
    if blocks not in (['EVSS'] * 4, ('EVSS',) * 4):
        raise UserError(f'baseblock_enc_ker is {blocks!r}: only EVSS at four levels is supported')
    return options.numbers('enc_ker_layers', 4)


def _kernel_norm(options: _Reader) -> bool:
    norm = options.get('norm_type', None)
    if norm not in ('LayerNorm', 'None', None):
        raise UserError(f"norm_type is {norm!r}: supported are 'LayerNorm' and None")
    return norm == 'LayerNorm'


def _report(unread: set[str]) -> None:
    """Warn about settings without effect, and reject unknown settings."""
    unused = {
        key
        for key in unread
        if key in ('train_size', 'patch_size') or any(fnmatch(key, pattern) for pattern in _UNUSED)
    }
    if unknown := sorted(unread - unused):
        raise UserError(f'unknown network settings: {", ".join(unknown)}')
    if unused:
        warnings.warn(f'network settings without effect were dropped: {", ".join(sorted(unused))}', stacklevel=3)
