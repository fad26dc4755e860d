"""Metrics of pyiqa, such as LPIPS, DISTS and NIQE, based on trained networks or image statistics."""

import functools
import importlib
from types import ModuleType

import cv2
import numpy as np
import torch

from deeprftv2_plugin.metrics.inputs import check_image, check_inputs, describe, metric
from deeprftv2_plugin.utils.errors import UserError, nearest


@metric
def pyiqa_full_reference(img: np.ndarray, img2: np.ndarray, name: str, device: str | None = None) -> float:
    """Return a full-reference metric of pyiqa, such as LPIPS with `name: lpips`.

    pyiqa computes the metric of RGB images in [0, 1]. If the metric has weights, pyiqa downloads them on first use.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16.
        img2: The ground truth, of the same shape and type.
        name: Name of the metric in pyiqa.
        device: Device to use, such as 'cpu' or 'cuda:1'. Default: the current GPU if available, else the CPU.

    Returns:
        The value of the metric.

    Raises:
        UserError: pyiqa is not installed or does not have the metric, or the images differ in size or type.

    References:
        Chen and Mo, "IQA-PyTorch: PyTorch Toolbox for Image Quality Assessment", 2022.
    """
    result, reference, _ = check_inputs(img, img2)
    return _score(name, 'FR', device, result, reference)


@metric
def pyiqa_no_reference(img: np.ndarray, name: str, device: str | None = None) -> float:
    """Return a no-reference metric of pyiqa, such as NIQE with `name: niqe`.

    It also works for datasets without ground truth. See `pyiqa_full_reference` for details.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16.
        name: Name of the metric in pyiqa.
        device: Device to use, such as 'cpu' or 'cuda:1'. Default: the current GPU if available, else the CPU.

    Returns:
        The value of the metric.

    Raises:
        UserError: pyiqa is not installed or does not have the metric, or the array is not an image.
    """
    return _score(name, 'NR', device, check_image(img))


TYPES = {'FR': pyiqa_full_reference.__name__, 'NR': pyiqa_no_reference.__name__}
"""The metric functions of this module, by the mode of pyiqa that they support."""


def _score(name: str, mode: str, device: str | None, *images: np.ndarray) -> float:
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    pyiqa = load_pyiqa(name)
    check_name(name, mode, pyiqa)
    try:
        with torch.no_grad():
            return float(create_metric(pyiqa, name, device)(*(to_rgb(image).to(device) for image in images)))
    except Exception as error:  # the network, its download or the device can fail with any exception
        found = ' and '.join(map(describe, images))
        raise UserError(
            f'{name} of pyiqa failed on {device} for {found}: {type(error).__name__}: {error}. Check what pyiqa '
            'requires, and whether it can download the weights'
        ) from error


def load_pyiqa(name: str) -> ModuleType:
    """Import pyiqa, which is slow and optional.

    Args:
        name: The metric for error messages.

    Raises:
        UserError: pyiqa cannot be imported.
    """
    try:
        return importlib.import_module('pyiqa')
    except Exception as error:  # its dependencies can fail with any exception
        raise UserError(
            f'the metric {name} needs pyiqa, which cannot be imported ({type(error).__name__}: {error}): pip '
            'install pyiqa, or remove the metric'
        ) from error


def check_name(name: str, mode: str, pyiqa: ModuleType) -> None:
    """Check that pyiqa has a metric with a given mode, 'FR' or 'NR'.

    Raises:
        UserError: The metric does not exist or has another mode.
    """
    known = pyiqa.list_models(mode)
    for other in TYPES:
        if name not in known and name in pyiqa.list_models(other):
            raise UserError(f'{name} of pyiqa does not have type: {TYPES[mode]}. Use type: {TYPES[other]}')
    if name not in known:
        raise UserError(f'pyiqa has no metric {name!r} for type: {TYPES[mode]}. {nearest(name, known)}')


@functools.cache
def create_metric(pyiqa: ModuleType, name: str, device: str) -> torch.nn.Module:
    """Create a metric with its weights. It is cached for the process."""
    return pyiqa.create_metric(name, device=torch.device(device))


def to_rgb(image: np.ndarray) -> torch.Tensor:
    """Convert an array (H, W, 3), BGR, or (H, W), grayscale, to an RGB tensor (1, 3, H, W) of float32 in [0, 1]."""
    conversion = cv2.COLOR_BGR2RGB if image.ndim == 3 else cv2.COLOR_GRAY2RGB
    rgb = cv2.cvtColor(image, conversion).astype(np.float32) / np.iinfo(image.dtype).max
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].contiguous()
