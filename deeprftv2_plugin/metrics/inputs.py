"""Functions shared by all metrics: an adapter for BasicSR's calls, and checks of the images."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from deeprftv2_plugin.utils.errors import UserError

LUMA = np.array([[24.966, 128.553, 65.481]])
"""Weights of blue, green and red in [0, 1] for the luma of ITU-R BT.601, which is in [16, 235]."""


def metric(function: Callable[..., float]) -> Callable[..., float]:
    """Decorate a metric so that it accepts the arguments that BasicSR passes to every metric.

    BasicSR passes all keys of the option file except `type`, including `better`, which only its model reads. It also
    passes the ground truth `img2` to no-reference metrics. The decorator drops these two arguments if the metric does
    not accept them. Other unknown options, such as misspelled ones, remain errors.
    """
    dropped = {'better', 'img2'}.difference(inspect.signature(function).parameters)

    @functools.wraps(function)
    def wrapper(*images: np.ndarray, **options: Any) -> float:
        return function(*images, **{key: value for key, value in options.items() if key not in dropped})

    return wrapper


class MetricInputs(NamedTuple):
    """A result and its ground truth, of equal size and type."""

    result: np.ndarray
    """Array (H, W, 3), BGR, or (H, W), grayscale."""
    reference: np.ndarray
    """Array like `result`."""
    peak: float
    """The value of white: 255, or 65535 for 16 bit."""


def check_inputs(img: np.ndarray, img2: np.ndarray, crop_border: int = 0, input_order: str = 'HWC') -> MetricInputs:
    """Check two images and crop their borders.

    Args:
        img: The result, array (H, W, 3), (H, W, 1) or (H, W) of uint8 or uint16.
        img2: The ground truth, of the same shape and type.
        crop_border: Number of pixels to crop at each edge.
        input_order: 'HWC', or 'CHW' for arrays (3, H, W) and (1, H, W).

    Raises:
        UserError: The images differ in size or type, or an argument is invalid.
    """
    result, reference = check_image(img, input_order), check_image(img2, input_order)
    if result.shape != reference.shape or result.dtype != reference.dtype:
        raise UserError(
            f'a metric got a result of {describe(result)} and a ground truth of {describe(reference)}, expected equal '
            'size and type. Check that both show the same scene and are stored in the same format'
        )
    height, width = result.shape[:2]
    if not isinstance(crop_border, int) or not 0 <= 2 * crop_border < min(height, width):
        raise UserError(
            f'crop_border of a metric is {crop_border!r}, expected a nonnegative number of pixels that does not crop '
            f'all of {describe(result)}'
        )
    inner = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    return MetricInputs(result[inner], reference[inner], float(np.iinfo(result.dtype).max))


def check_image(img: np.ndarray, input_order: str = 'HWC') -> np.ndarray:
    """Check an image and return it as an array (H, W, 3) or (H, W). See `check_inputs` for the arguments.

    Raises:
        UserError: The array is not an image, or `input_order` is unknown.
    """
    if input_order not in ('HWC', 'CHW'):
        raise UserError(f'input_order of a metric is {input_order!r}, expected HWC or CHW')
    if not isinstance(img, np.ndarray) or img.dtype not in (np.uint8, np.uint16):
        raise UserError(f'a metric got {describe(img)}, expected an image of uint8 or uint16')
    if img.ndim == 3 and input_order == 'CHW':
        img = np.ascontiguousarray(img.transpose(1, 2, 0))
    if img.ndim == 3 and img.shape[2] == 1:
        img = img[..., 0]
    if img.size == 0 or img.ndim not in (2, 3) or (img.ndim == 3 and img.shape[2] != 3):
        raise UserError(f'a metric got {describe(img)}, expected (H, W, 3), (H, W, 1) or (H, W)')
    return img


def describe(img: object) -> str:
    """Return the size and type of an image for error messages."""
    return f'{"x".join(map(str, img.shape))} {img.dtype}' if isinstance(img, np.ndarray) else type(img).__name__


def to_luma(images: MetricInputs) -> MetricInputs:
    """Convert BGR images to their Y channel of YCbCr (ITU-R BT.601), float32, black at 16 and white at 235 of 255.

    Grayscale images are returned unchanged.
    """
    if images.result.ndim == 2:
        return images
    affine = np.hstack([LUMA / images.peak, [[16.0]]])
    result, reference = (np.asarray(cv2.transform(image.astype(np.float32), affine)) for image in images[:2])
    return MetricInputs(result, reference, 255.0)
