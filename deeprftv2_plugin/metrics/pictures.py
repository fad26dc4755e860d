"""The two pictures that a metric compares."""

from typing import NamedTuple

import cv2
import numpy as np

from deeprftv2_plugin.utils.errors import UserError

LUMA = np.array([[24.966, 128.553, 65.481]])
"""Weights of blue, green and red in [0, 1] for the luma of ITU-R BT.601, which lies in [16, 235]."""


class Pair(NamedTuple):
    """A result and its ground truth, equal in size and type."""

    result: np.ndarray
    """Array (H, W, 3), BGR, or (H, W), gray."""
    reference: np.ndarray
    peak: float
    """The value of white: 255, or 65535 for 16 bit."""


def pair(img: np.ndarray, img2: np.ndarray, crop_border: int = 0, input_order: str = 'HWC') -> Pair:
    """Checks two pictures and cuts their borders off.

    Args:
        img: The result, array (H, W, 3), (H, W, 1) or (H, W) of uint8 or uint16.
        img2: The ground truth, likewise.
        crop_border: Pixels that are cut off at every edge.
        input_order: 'HWC', or 'CHW' for arrays (3, H, W) and (1, H, W).

    Raises:
        UserError: The pictures differ in size or type, or cannot be compared as asked.
    """
    result, reference = as_picture(img, input_order), as_picture(img2, input_order)
    if result.shape != reference.shape or result.dtype != reference.dtype:
        raise UserError(
            f'a metric got a result of {describe(result)} and a ground truth of {describe(reference)}: expected equal '
            'size and type. Check that the two belong to one scene and are stored alike'
        )
    height, width = result.shape[:2]
    if not isinstance(crop_border, int) or not 0 <= 2 * crop_border < min(height, width):
        raise UserError(
            f'crop_border of a metric is {crop_border!r}: expected a number of pixels, 0 or more, that leaves '
            f'something of {describe(result)}'
        )
    inner = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    return Pair(result[inner], reference[inner], float(np.iinfo(result.dtype).max))


def as_picture(img: np.ndarray, input_order: str = 'HWC') -> np.ndarray:
    """Array (H, W, 3) or (H, W) of what `pair` takes.

    Raises:
        UserError: It is none, or `input_order` is unknown.
    """
    if input_order not in ('HWC', 'CHW'):
        raise UserError(f'input_order of a metric is {input_order!r}: expected HWC or CHW')
    if not isinstance(img, np.ndarray) or img.dtype not in (np.uint8, np.uint16):
        raise UserError(f'a metric got {describe(img)}: expected a picture of uint8 or uint16')
    if img.ndim == 3 and input_order == 'CHW':
        img = np.ascontiguousarray(img.transpose(1, 2, 0))
    if img.ndim == 3 and img.shape[2] == 1:
        img = img[..., 0]
    if img.size == 0 or img.ndim not in (2, 3) or (img.ndim == 3 and img.shape[2] != 3):
        raise UserError(f'a metric got {describe(img)}: expected (H, W, 3), (H, W, 1) or (H, W)')
    return img


def describe(img: object) -> str:
    """Size and type, for errors."""
    return f'{"x".join(map(str, img.shape))} {img.dtype}' if isinstance(img, np.ndarray) else type(img).__name__


def luma(pictures: Pair) -> Pair:
    """Two gray pictures of float32: the Y channel of YCbCr (ITU-R BT.601), black at 16 and white at 235 of 255.

    Gray pictures stay what they are.
    """
    if pictures.result.ndim == 2:
        return pictures
    affine = np.hstack([LUMA / pictures.peak, [[16.0]]])
    return Pair(*(cv2.transform(picture.astype(np.float32), affine) for picture in pictures[:2]), 255.0)
