r"""Scores of RealBlur: the result is brought to the brightness and into the place of the ground truth first.

Two cameras behind a beam splitter took the blurry and the sharp picture. They never agree quite in exposure and
direction, so that a perfect result would lose several dB. The procedure is that of the data set's authors, after
Köhler's benchmark, with the result :math:`z` and the ground truth :math:`x` in [0, 1]:

1. Brightness: :math:`z` is scaled by :math:`\sum x z / \sum z^2`, sums over all pixels and channels. No other factor
   brings it nearer to :math:`x`.
2. Place: the homography that maximises the enhanced correlation coefficient (ECC) of the two gray pictures, in 100
   iterations (termination eps 0) that start at the identity, both pictures smoothed by a Gaussian of 5x5 pixels.
3. The result is drawn through it with bicubic interpolation, and a mask of ones with the nearest neighbour. Where the
   mask is zero, the result does not show what the ground truth does: both are set to zero and do not count.

Where ECC finds nothing (the correlation falls, a picture is of one colour, the result is moved out of sight), the
pictures are compared as they are, neither scaled nor moved, and a warning says so.

References:
    Rim et al., Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms, ECCV 2020.
    Evangelidis and Psarakis, Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization,
    TPAMI 2008.
    Köhler et al., Recording and Playback of Camera Shake, ECCV 2012.
"""

import functools
import warnings
from typing import NamedTuple

import cv2
import numpy as np

from deeprftv2_plugin.metrics.calls import metric
from deeprftv2_plugin.metrics.pictures import Pair, pair
from deeprftv2_plugin.metrics.pixelwise import decibel
from deeprftv2_plugin.metrics.structural import RADIUS, demand_window, distance_to_one

ITERATIONS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
SMOOTHING = 5
"""Side of the Gaussian filter that ECC applies to both pictures first."""


@metric
def aligned_psnr(img: np.ndarray, img2: np.ndarray) -> float:
    r"""PSNR in dB after alignment, over the pixels that both pictures show: the score of RealBlur.

    .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{3 \sum_{h,w} m}{\sum_{h,w,c} m (\hat z - x)^2}

    :math:`\hat z` is the scaled and moved result in [0, 1], not rounded, :math:`m` the mask; see the module's text.
    Together with `aligned_ssim` of the same pictures, the alignment, which takes nearly all the time, is found once.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W) of uint8 or uint16.
        img2: The ground truth, likewise.

    Returns:
        dB; infinite for equal pictures.

    Raises:
        UserError: The pictures differ in size or type.
    """
    result, reference, mask = align(pair(img, img2))
    pixels = mask.sum(dtype=np.float64) * result.size / mask.size
    return decibel(cv2.norm(result, reference, cv2.NORM_L2SQR) / pixels, 1.0)


@metric
def aligned_ssim(img: np.ndarray, img2: np.ndarray) -> float:
    """SSIM after alignment, over the pixels that both pictures show: the score of RealBlur.

    The SSIM of `ssim`, of the scaled and moved result in [0, 1] and the ground truth, both zero outside the mask;
    the mean runs over the pixels of the mask whose window of 11x11 pixels lies inside the picture.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W) of uint8 or uint16, of at least 11x11 pixels.
        img2: The ground truth, likewise.

    Returns:
        A value in [-1, 1]; 1 for equal pictures.

    Raises:
        UserError: The pictures differ in size or type, or are too small.
    """
    pictures = pair(img, img2)
    demand_window(pictures.result)
    result, reference, mask = align(pictures)
    distance = distance_to_one(Pair(result, reference, 1.0))
    mask = inner(mask)
    weighted = distance * (mask[..., None] if distance.ndim == 3 else mask)
    pixels = mask.sum(dtype=np.float64) * distance.size / mask.size
    return float(1 - weighted.sum(dtype=np.float64) / pixels)


class Alignment(NamedTuple):
    """Two pictures that show the same in the same place."""

    result: np.ndarray
    """Array (H, W, 3), RGB, or (H, W) of float32, scaled and moved, zero outside the mask."""
    reference: np.ndarray
    """Likewise, in [0, 1]."""
    mask: np.ndarray
    """Array (H, W) of float32, one where the moved result shows something, else zero."""


def align(pictures: Pair) -> Alignment:
    """The alignment of two pictures of uint8 or uint16; asked for the last ones again, it is remembered."""
    # In RGB and float32, as the published script: where OpenCV rounds coordinates, other rounding errors show.
    result, reference = (cv2.cvtColor(p, cv2.COLOR_BGR2RGB) if p.ndim == 3 else p for p in pictures[:2])
    return _align(result.tobytes(), reference.tobytes(), result.shape, result.dtype)


@functools.lru_cache(maxsize=1)
def _align(result, reference, shape, dtype):
    """`align` with the pictures as bytes, so that their content is what is remembered."""
    scale = np.float32(np.iinfo(dtype).max)
    result, reference = (np.frombuffer(data, dtype).reshape(shape) / scale for data in (result, reference))
    try:
        alignment = move(match_brightness(result, reference), reference)
        if inner(alignment.mask).any():
            return alignment
        fault = 'nothing of it is left in the picture'
    except cv2.error as error:
        fault = error.err
    warnings.warn(f'a result could not be aligned ({fault}) and is scored as it is', stacklevel=2)
    return Alignment(result, reference, np.ones(shape[:2], np.float32))


def match_brightness(result: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The result times the factor that brings it nearest to the reference; black stays black."""
    energy = np.sum(result * result)
    return (np.sum(reference * result) / energy if energy else energy) * result


def move(result: np.ndarray, reference: np.ndarray) -> Alignment:
    """Moves the result into the place of the reference.

    Args:
        result, reference: Arrays (H, W, 3), RGB, or (H, W) of float32.

    Raises:
        cv2.error: ECC does not converge.
    """
    size = reference.shape[1::-1]
    start = np.eye(3, dtype=np.float32)
    motion = cv2.MOTION_HOMOGRAPHY
    _, homography = cv2.findTransformECC(gray(reference), gray(result), start, motion, ITERATIONS, None, SMOOTHING)
    cubic, nearest = (kind | cv2.WARP_INVERSE_MAP for kind in (cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    moved = cv2.warpPerspective(result, homography, size, flags=cubic, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpPerspective(np.ones(size[::-1], np.float32), homography, size, flags=nearest)
    everywhere = mask[..., None] if result.ndim == 3 else mask
    return Alignment(moved * everywhere, reference * everywhere, mask)


def gray(picture: np.ndarray) -> np.ndarray:
    """Array (H, W) of one in RGB; a gray one stays what it is."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture


def inner(mask: np.ndarray) -> np.ndarray:
    """The part of a mask where a whole window of SSIM lies inside the picture."""
    return mask[RADIUS:-RADIUS, RADIUS:-RADIUS]
