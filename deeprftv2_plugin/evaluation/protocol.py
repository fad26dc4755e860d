"""Describe how a test restores and scores images. Results are only comparable under the same protocol."""

import inspect
import platform
import sys
from collections.abc import Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import basicsr
import cv2
import numpy
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from deeprftv2_plugin.evaluation.validation import accepts_16_bit
from deeprftv2_plugin.inference.restoration import OVERLAP
from deeprftv2_plugin.metrics import aligned_psnr, aligned_ssim
from deeprftv2_plugin.ops.tiles import pair
from deeprftv2_plugin.version import __version__

ALIGNED = {function.__name__ for function in (aligned_psnr, aligned_ssim)}


def describe(
    opt: dict, metrics: Collection[str], depths: Collection[int], smaller_tiles: Sequence[tuple[int, int]] = ()
) -> dict[str, Any]:
    """Describe the protocol of a test on one dataset.

    Args:
        opt: BasicSR's options.
        metrics: Names of the computed metrics.
        depths: Bit depths of the images.
        smaller_tiles: Height and width of the tiles of each image that was restored in smaller tiles than those of
            the options for lack of memory.

    Returns:
        dict: `metrics` maps each name to a definition. `restoration`, `rounding` and, if there are metrics, `alignment`
        and `means` are sentences.
    """
    val_opt = opt.get('val') or {}
    settings = {name: val_opt['metrics'][name] for name in metrics}
    protocol: dict[str, Any] = {
        'metrics': {name: define(each) for name, each in settings.items()},
        'restoration': _restoration(val_opt, smaller_tiles),
        'rounding': _rounding(settings, depths),
    }
    if settings:
        aligned = [name for name, each in settings.items() if each['type'] in ALIGNED]
        protocol['alignment'] = f'aligned first: {", ".join(aligned)}' if aligned else 'results are not aligned'
        protocol['means'] = 'means over images, not over sequences'
    return protocol


def to_text(protocol: Mapping[str, Any]) -> str:
    """Return a protocol as one line of text."""
    metrics = (f'{name}: {definition}' for name, definition in protocol['metrics'].items())
    return '; '.join([*metrics, *(words for key, words in protocol.items() if key != 'metrics')])


def define(settings: Mapping[str, Any]) -> str:
    """Return a definition of a metric from the first line of its docstring, and its options.

    Args:
        settings: A section of `val.metrics`.
    """
    text = (inspect.getdoc(METRIC_REGISTRY.get(settings['type'])) or settings['type']).splitlines()[0].rstrip('.')
    text = text.removeprefix('Return the ')
    return ', '.join([text, *(f'{key}: {value}' for key, value in settings.items() if key not in ('type', 'better'))])


def versions() -> dict[str, str]:
    """Return the versions of the packages that the results depend on."""
    modules: list[ModuleType] = [basicsr, torch, numpy, cv2]
    if 'pyiqa' in sys.modules:
        modules.append(sys.modules['pyiqa'])
    known = {module.__name__: str(getattr(module, '__version__', 'unknown')) for module in modules}
    return {'python': platform.python_version(), 'deeprftv2_plugin': __version__, **known}


def _restoration(val_opt: Mapping[str, Any], smaller_tiles: Sequence[tuple[int, int]]) -> str:
    if val_opt.get('tile'):
        overlap = OVERLAP if val_opt.get('overlap') is None else val_opt['overlap']
        tile, overlap = pair(val_opt['tile'], 'tile'), pair(overlap, 'overlap')
        shared = overlap[0] if overlap[0] == overlap[1] else '{}x{}'.format(*overlap)
        parts = ['whole images in tiles of {}x{} with overlap {}'.format(*tile, shared)]
    else:
        parts = ['whole images, no tiles']
    if smaller_tiles:
        least = 'x'.join(map(str, min(smaller_tiles)))
        parts.append(f'but {len(smaller_tiles)} images in smaller tiles down to {least} for lack of memory')
    pad = val_opt.get('pad')
    parts.append('zero-padded to at least {}x{} pixels (height x width)'.format(*pad) if pad else 'no padding')
    parts.append('mean over the eight flips and rotations' if val_opt.get('ensemble') else 'no ensemble')
    return ', '.join(parts)


def _rounding(settings: Mapping[str, Mapping[str, Any]], depths: Collection[int]) -> str:
    text = f'clamped to [0, 1] and rounded to {" and ".join(map(str, sorted(depths)))} bit'
    coarse = [name for name, each in settings.items() if not accepts_16_bit(each['type'])]
    return f'{text} (8 bit for {", ".join(coarse)})' if coarse and max(depths) > 8 else text
