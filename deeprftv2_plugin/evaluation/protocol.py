"""How a test restored and scored its pictures, in words: numbers without it cannot be compared."""

import inspect
import platform
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any

import basicsr
import cv2
import numpy
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from deeprftv2_plugin.evaluation.validation import judges_depth
from deeprftv2_plugin.inference.restoration import OVERLAP
from deeprftv2_plugin.metrics import aligned_psnr, aligned_ssim
from deeprftv2_plugin.ops.tiles import pair
from deeprftv2_plugin.version import __version__

ALIGNED = {function.__name__ for function in (aligned_psnr, aligned_ssim)}


def describe(opt: dict, metrics: Collection[str], depths: Collection[int]) -> dict[str, Any]:
    """The protocol of a test on one data set.

    Args:
        opt: BasicSR's options.
        metrics: The names of those that were computed.
        depths: The bits of the pictures.

    Returns:
        dict: `metrics`, what each of them is, by name; in words `restoration` and `rounding`, and where there are
        metrics `alignment` and `means`.
    """
    val_opt = opt.get('val') or {}
    settings = {name: val_opt['metrics'][name] for name in metrics}
    protocol = {
        'metrics': {name: define(each) for name, each in settings.items()},
        'restoration': _restoration(val_opt),
        'rounding': _rounding(settings, depths),
    }
    if settings:
        aligned = [name for name, each in settings.items() if each['type'] in ALIGNED]
        protocol['alignment'] = f'aligned first: {", ".join(aligned)}' if aligned else 'results are not aligned'
        protocol['means'] = 'means over pictures, not over sequences'
    return protocol


def in_words(protocol: dict[str, Any]) -> str:
    """A protocol in one line."""
    metrics = (f'{name}: {definition}' for name, definition in protocol['metrics'].items())
    return '; '.join([*metrics, *(words for key, words in protocol.items() if key != 'metrics')])


def define(settings: dict[str, Any]) -> str:
    """What a registered metric says of itself first, and the options that it was given.

    Args:
        settings: A section of `val.metrics`.
    """
    text = (inspect.getdoc(METRIC_REGISTRY.get(settings['type'])) or settings['type']).splitlines()[0].rstrip('.')
    return ', '.join([text, *(f'{key}: {value}' for key, value in settings.items() if key not in ('type', 'better'))])


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    modules: list[ModuleType] = [basicsr, torch, numpy, cv2]
    if 'pyiqa' in sys.modules:
        modules.append(sys.modules['pyiqa'])
    known = {module.__name__: str(getattr(module, '__version__', 'unknown')) for module in modules}
    return {'python': platform.python_version(), 'deeprftv2_plugin': __version__, **known}


def _restoration(val_opt):
    if val_opt.get('tile'):
        overlap = OVERLAP if val_opt.get('overlap') is None else val_opt['overlap']
        tile, overlap = pair(val_opt['tile'], 'tile'), pair(overlap, 'overlap')
        shared = overlap[0] if overlap[0] == overlap[1] else '{}x{}'.format(*overlap)
        parts = ['whole pictures in tiles of {}x{} with overlap {}'.format(*tile, shared)]
    else:
        parts = ['whole pictures, no tiles']
    pad = val_opt.get('pad')
    parts.append('padded with zeros to at least {} rows of {} pixels'.format(*pad) if pad else 'no padding')
    parts.append('mean over the eight flips and quarter turns' if val_opt.get('ensemble') else 'no ensemble')
    return ', '.join(parts)


def _rounding(settings, depths):
    text = f'clamped to [0, 1] and rounded to {" and ".join(map(str, sorted(depths)))} bit'
    coarse = [name for name, each in settings.items() if not judges_depth(each['type'])]
    return f'{text} (8 bit for {", ".join(coarse)})' if coarse and max(depths) > 8 else text
