"""Metrics of pyiqa: LPIPS, DISTS, NIQE and many more that rest on trained networks or statistics."""

import functools
import importlib
from types import ModuleType

import cv2
import numpy as np
import torch

from deeprftv2_plugin.metrics.calls import metric
from deeprftv2_plugin.metrics.pictures import as_picture, describe, pair
from deeprftv2_plugin.utils.errors import UserError, nearest


@metric
def pyiqa_full_reference(img: np.ndarray, img2: np.ndarray, name: str, device: str | None = None) -> float:
    """A metric of pyiqa that compares the result with the ground truth, such as LPIPS: `name: lpips`.

    Its definition is pyiqa's, of RGB pictures in [0, 1]; whether more is better is for `better:` to say. The first
    picture makes pyiqa download the metric's weights, if it has any.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), gray, of uint8 or uint16.
        img2: The ground truth, likewise.
        name: pyiqa's name of the metric.
        device: Where it is computed, such as 'cpu' or 'cuda:1'; by default the current GPU, where there is one.

    Returns:
        The metric's value.

    Raises:
        UserError: pyiqa is not installed or has no such metric, or the pictures differ in size or type.

    References:
        Chen and Mo, IQA-PyTorch: PyTorch Toolbox for Image Quality Assessment, 2022.
    """
    result, reference, _ = pair(img, img2)
    return _score(name, 'FR', device, result, reference)


@metric
def pyiqa_no_reference(img: np.ndarray, name: str, device: str | None = None) -> float:
    """A metric of pyiqa that judges the result alone, such as NIQE: `name: niqe`.

    It works on data sets without ground truth too. For everything else see `pyiqa_full_reference`.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), gray, of uint8 or uint16.
        name: pyiqa's name of the metric.
        device: Where it is computed, such as 'cpu' or 'cuda:1'; by default the current GPU, where there is one.

    Returns:
        The metric's value.

    Raises:
        UserError: pyiqa is not installed or has no such metric, or the picture is none.
    """
    return _score(name, 'NR', device, as_picture(img))


TYPES = {'FR': pyiqa_full_reference.__name__, 'NR': pyiqa_no_reference.__name__}
"""pyiqa's word for what a metric compares, and the function here for it."""


def _score(name, mode, device, *pictures):
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    pyiqa = load_pyiqa(name)
    demand_name(name, mode, pyiqa)
    try:
        with torch.no_grad():
            return float(network(pyiqa, name, device)(*(to_rgb(picture).to(device) for picture in pictures)))
    except Exception as error:  # of a network, of its download, of the device: nothing here knows which
        found = ' and '.join(map(describe, pictures))
        raise UserError(
            f'{name} of pyiqa failed on {device} for {found}: {type(error).__name__}: {error}. See what pyiqa asks '
            'for, and whether it can download the weights'
        ) from error


def load_pyiqa(name: str) -> ModuleType:
    """The package, imported only now: it brings a lot along. UserError where it cannot be."""
    try:
        return importlib.import_module('pyiqa')
    except Exception as error:  # what it brings along may fail in its own ways
        raise UserError(
            f'the metric {name} is computed by pyiqa, which cannot be imported ({type(error).__name__}: {error}): pip '
            'install pyiqa, or leave the metric out'
        ) from error


def demand_name(name: str, mode: str, pyiqa: ModuleType):
    """UserError where pyiqa has no such metric, or one that compares something else."""
    known = pyiqa.list_models(mode)
    for other in TYPES:
        if name not in known and name in pyiqa.list_models(other):
            raise UserError(f'{name} of pyiqa does not belong to type: {TYPES[mode]}. Write type: {TYPES[other]}')
    if name not in known:
        raise UserError(f'pyiqa has no metric {name!r} for type: {TYPES[mode]}. {nearest(name, known)}')


@functools.cache
def network(pyiqa: ModuleType, name: str, device: str) -> torch.nn.Module:
    """A metric with its weights, made once in a process."""
    return pyiqa.create_metric(name, device=torch.device(device))


def to_rgb(picture: np.ndarray) -> torch.Tensor:
    """Tensor (1, 3, H, W) of float32 in [0, 1], RGB, of an array (H, W, 3), BGR, or (H, W), gray."""
    conversion = cv2.COLOR_BGR2RGB if picture.ndim == 3 else cv2.COLOR_GRAY2RGB
    rgb = cv2.cvtColor(picture, conversion).astype(np.float32) / np.iinfo(picture.dtype).max
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous()
