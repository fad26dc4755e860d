r"""Metrics for RealBlur after alignment of the result with the ground truth in brightness and position.

The blurry and the sharp image were taken by two cameras behind a beam splitter. Their exposure and direction differ
slightly, so that even a perfect result would lose several dB. The procedure is that of the authors of the dataset,
based on Köhler's benchmark, with the result :math:`z` and the ground truth :math:`x` in [0, 1]:

1. Brightness: :math:`z` is scaled by the least-squares factor :math:`\sum x z / \sum z^2` over all pixels and channels.
2. Position: a homography maximizes the enhanced correlation coefficient (ECC) of the two grayscale images, in 100
   iterations (termination eps 0) from the identity, with both images smoothed by a 5x5 Gaussian.
3. The result is warped with bicubic interpolation, and a mask of ones with nearest-neighbor interpolation. Where the
   mask is zero, both images are set to zero and ignored.

If ECC fails (it does not converge, an image is constant, or the result is moved out of the frame), the images are
compared without alignment, and a warning is issued.

References:
    Rim et al., "Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms", ECCV 2020.
    Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization",
    TPAMI 2008.
    Köhler et al., "Recording and Playback of Camera Shake", ECCV 2012.
"""

import functools
import warnings
from typing import NamedTuple

import cv2
import numpy as np

from deeprftv2_plugin.metrics.inputs import MetricInputs, check_inputs, metric
from deeprftv2_plugin.metrics.pixelwise import to_decibel
from deeprftv2_plugin.metrics.structural import RADIUS, check_window_fits, ssim_distance

ITERATIONS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
SMOOTHING = 5
"""Side of the Gaussian filter that ECC applies to both images."""


@metric
def aligned_psnr(img: np.ndarray, img2: np.ndarray) -> float:
    r"""Return the PSNR in dB after alignment, over the pixels that both images show, as used for RealBlur.

    .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{3 \sum_{h,w} m}{\sum_{h,w,c} m (\hat z - x)^2}

    :math:`\hat z` is the aligned result in [0, 1], not rounded, and :math:`m` the mask, see the module docstring. The
    alignment, which takes nearly all the time, is cached for a following `aligned_ssim` of the same images.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16.
        img2: The ground truth, of the same shape and type.

    Returns:
        PSNR in dB, infinite for equal images.

    Raises:
        UserError: The images differ in size or type.
    """
    result, reference, mask = align(check_inputs(img, img2))
    pixels = mask.sum(dtype=np.float64) * result.size / mask.size
    return to_decibel(cv2.norm(result, reference, cv2.NORM_L2SQR) / pixels, 1.0)


@metric
def aligned_ssim(img: np.ndarray, img2: np.ndarray) -> float:
    """Return the SSIM after alignment, over the pixels that both images show, as used for RealBlur.

    This is `ssim` of the aligned result in [0, 1] and the ground truth, both zero outside the mask. The mean is taken
    over pixels of the mask whose window of 11x11 pixels lies inside the image.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16, at least 11x11 pixels.
        img2: The ground truth, of the same shape and type.

    Returns:
        A value in [-1, 1], 1 for equal images.

    Raises:
        UserError: The images differ in size or type, or are too small.
    """
    images = check_inputs(img, img2)
    check_window_fits(images.result)
    result, reference, mask = align(images)
    distance = ssim_distance(MetricInputs(result, reference, 1.0))
    mask = inner(mask)
    weighted = distance * (mask[..., None] if distance.ndim == 3 else mask)
    pixels = mask.sum(dtype=np.float64) * distance.size / mask.size
    return float(1 - weighted.sum(dtype=np.float64) / pixels)


class Alignment(NamedTuple):
    """An aligned result and its ground truth."""

    result: np.ndarray
    """Array (H, W, 3), RGB, or (H, W) of float32, scaled and warped, zero outside the mask."""
    reference: np.ndarray
    """Array like `result`, in [0, 1], zero outside the mask."""
    mask: np.ndarray
    """Array (H, W) of float32, one where the warped result has content, else zero."""


def align(images: MetricInputs) -> Alignment:
    """Align two images of uint8 or uint16. The last alignment is cached."""
    # RGB and float32 as in the published script, since the warp rounds coordinates and is sensitive to rounding errors.
    result, reference = (cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image for image in images[:2])
    return _align(result.tobytes(), reference.tobytes(), result.shape, result.dtype)


@functools.lru_cache(maxsize=1)
def _align(result_bytes: bytes, reference_bytes: bytes, shape: tuple[int, ...], dtype: np.dtype) -> Alignment:
    """Align images given as bytes, so that the cache compares their content."""
    scale = np.float32(np.iinfo(dtype).max)
    result, reference = (np.frombuffer(data, dtype).reshape(shape) / scale for data in (result_bytes, reference_bytes))
    try:
        alignment = warp(match_brightness(result, reference), reference)
        if inner(alignment.mask).any():
            return alignment
        reason = 'it was moved out of the frame'
    except cv2.error as error:
        reason = error.err
    warnings.warn(f'a result could not be aligned ({reason}) and is scored without alignment', stacklevel=2)
    return Alignment(result, reference, np.ones(shape[:2], np.float32))


def match_brightness(result: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scale the result by the factor that minimizes its squared distance to the reference. Zeros remain zero."""
    energy = np.sum(result * result)
    return (np.sum(reference * result) / energy if energy else energy) * result


def warp(result: np.ndarray, reference: np.ndarray) -> Alignment:
    """Warp the result to the position of the reference.

    Args:
        result, reference: Arrays (H, W, 3), RGB, or (H, W) of float32.

    Raises:
        cv2.error: ECC does not converge.
    """
    size = reference.shape[1::-1]
    start = np.eye(3, dtype=np.float32)
    motion = cv2.MOTION_HOMOGRAPHY
    everywhere = np.ones(result.shape[:2], np.uint8)
    images = to_gray(reference), to_gray(result)
    _, homography = cv2.findTransformECC(*images, start, motion, ITERATIONS, everywhere, SMOOTHING)
    cubic, nearest = (kind | cv2.WARP_INVERSE_MAP for kind in (cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    warped = cv2.warpPerspective(result, homography, size, flags=cubic, borderMode=cv2.BORDER_REFLECT)
    mask = np.asarray(cv2.warpPerspective(np.ones(size[::-1], np.float32), homography, size, flags=nearest))
    visible = mask[..., None] if result.ndim == 3 else mask
    return Alignment(warped * visible, reference * visible, mask)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Convert an RGB image to grayscale (H, W). Grayscale images are returned unchanged."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image


def inner(mask: np.ndarray) -> np.ndarray:
    """Return the part of a mask where the SSIM window lies inside the image."""
    return mask[RADIUS:-RADIUS, RADIUS:-RADIUS]
