r"""Metrics of Köhler's benchmark: the best score against the sharp images along the recorded camera trajectory.

The blurry images were taken while a robot played back a recorded camera shake. About 200 sharp images were taken at
positions along the trajectory; a perfect result can match any of them. The procedure is that of the authors' scripts
(`eval_image.m`), with the 8-bit result :math:`z` and a sharp image :math:`x`, both in RGB:

1. Brightness: :math:`z` is scaled by the factor :math:`\sum x z / \sum z^2` over all pixels and channels.
2. Position: :math:`z` is shifted by the integer number of rows and columns that maximizes the circular
   cross-correlation of the means over channels (`dftregistration` with an upsampling factor of 1). Both images are set
   to zero where the shifted :math:`z` is undefined.
3. The metric of MeTriX MuX is computed on gray values 0.299 R + 0.587 G + 0.114 B of the whole image.

The score is the maximum over the trajectory. The paper describes an optimal translation; these functions register to
whole pixels, as the scripts do. The scripts omit image 30 of trajectory 3 of the first scene, which is missing in their
data. Here, all existing images are used.

References:
    Köhler et al., "Recording and Playback of Camera Shake: Benchmarking Blind Deconvolution with a Real-World
    Database", ECCV 2012, and the evaluation scripts of the benchmark.
    Wang et al., "Multi-Scale Structural Similarity for Image Quality Assessment", Asilomar 2003.
"""

import functools
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from deeprftv2_plugin.metrics.inputs import check_image, describe, metric
from deeprftv2_plugin.metrics.pixelwise import to_decibel
from deeprftv2_plugin.metrics.structural import RADIUS, WINDOW
from deeprftv2_plugin.utils.errors import UserError

SCALES = 5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of contrast and structure at each scale. The last one is also the exponent of the luminance."""
LEAST_SIDE = 2 ** (SCALES - 1) * len(WINDOW)
"""Minimum height and width of an image, so that the window of the SSIM fits into the coarsest scale."""
LOW_PASS = (0.037828455507260, -0.023849465019560, -0.110624404418440, 0.377402855612830, 0.852698679008890)
"""First half of the symmetric low-pass filter of the biorthogonal 9/7 wavelet, including the center."""


class Trajectory(Hashable, Protocol):
    """The sharp images (H, W, 3), BGR, uint8, along a trajectory. Can be iterated several times."""

    def __iter__(self) -> Iterator[np.ndarray]: ...


@metric
def trajectory_psnr(img: np.ndarray, trajectory: Trajectory | None = None) -> float:
    """Return the largest PSNR in dB along the camera trajectory after registration, as in Köhler's benchmark.

    Args:
        img: The result, array (H, W, 3), BGR, of uint8.
        trajectory: The sharp images, of the same shape and type.

    Returns:
        PSNR in dB of gray values, infinite for an equal image.

    Raises:
        UserError: The trajectory is not known, or the images differ in shape or type.
    """
    return _best(
        img, trajectory, lambda result, reference: to_decibel(float(np.square(result - reference).mean()), 255)
    )


@metric
def trajectory_mssim(img: np.ndarray, trajectory: Trajectory | None = None) -> float:
    """Return the largest multi-scale SSIM along the camera trajectory after registration, as in Köhler's benchmark.

    This is the MSSIM of MeTriX MuX, see `multi_scale_ssim`.

    Args:
        img: The result, array (H, W, 3), BGR, of uint8, at least 176x176 pixels.
        trajectory: The sharp images, of the same shape and type.

    Returns:
        A value up to 1, 1 for an equal image.

    Raises:
        UserError: The trajectory is not known, or the images are too small or differ in shape or type.
    """
    if min(check_image(img).shape[:2]) < LEAST_SIDE:
        raise UserError(
            f'MSSIM with {SCALES} scales needs at least {LEAST_SIDE} pixels in both directions, got {describe(img)}: '
            'remove the metric'
        )
    return _best(img, trajectory, multi_scale_ssim)


class Registration(NamedTuple):
    """The brightness and the shift that align a result with a sharp image."""

    factor: float
    shift: tuple[int, int]
    """Rows and columns by which the result is shifted."""


def register(result: np.ndarray, reference: np.ndarray) -> Registration:
    """Align a result with a sharp image, both (H, W, 3) of float64."""
    factor = float((reference * result).sum() / max(np.square(result).sum(), 1e-12))
    spectra = (np.fft.rfft2(image.mean(2)) for image in (reference, factor * result))
    size = result.shape[:2]
    correlation = np.fft.irfft2(next(spectra) * next(spectra).conj(), size)
    index = np.unravel_index(correlation.argmax(), size)
    row, column = (int(i) - length if i + 1 > length // 2 else int(i) for i, length in zip(index, size, strict=True))
    return Registration(factor, (row, column))


def apply(registration: Registration, result: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the aligned result and the sharp image, both zero where the shifted result is undefined."""
    (row, column), (height, width) = registration.shift, result.shape[:2]
    inside = np.s_[max(row, 0) : height + min(row, 0), max(column, 0) : width + min(column, 0)]
    source = np.s_[max(-row, 0) : height + min(-row, 0), max(-column, 0) : width + min(-column, 0)]
    moved, visible = np.zeros_like(result), np.zeros_like(reference)
    moved[inside] = registration.factor * result[source]
    visible[inside] = reference[inside]
    return moved, visible


def multi_scale_ssim(result: np.ndarray, reference: np.ndarray) -> float:
    r"""Return the MSSIM of MeTriX MuX for two grayscale images (H, W) with values from 0 to 255.

    .. math:: \bar l_5^{\,0.1333} \prod_{j=1}^{5} \bar c_j^{\,\beta_j} \bar s_j^{\,\beta_j}

    with the means of the luminance, contrast and structure of the SSIM at each scale. Other versions average the
    product of contrast and structure. The resolution is halved after the low-pass filter of the biorthogonal 9/7
    wavelet.
    """
    row = np.array([*LOW_PASS, *LOW_PASS[-2::-1]])
    row /= row.sum()
    score = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            result, reference = (
                np.asarray(cv2.sepFilter2D(image, -1, row, row, borderType=cv2.BORDER_REFLECT))[::2, ::2]
                for image in (result, reference)
            )
        luminance, contrast, structure = _components(result, reference)
        score *= abs(contrast) ** weight * abs(structure) ** weight
    return float(score * abs(luminance) ** WEIGHTS[-1])


def _components(result: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Return the means of luminance, contrast and structure over pixels whose window lies inside the images."""

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.sepFilter2D(values, -1, WINDOW, WINDOW))[RADIUS:-RADIUS, RADIUS:-RADIUS]

    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean, other_mean = average(result), average(reference)
    variance, other_variance = (
        np.maximum(average(image * image) - level**2, 0) for image, level in ((result, mean), (reference, other_mean))
    )
    covariance = average(result * reference) - mean * other_mean
    deviations = np.sqrt(variance * other_variance)
    luminance = (2 * mean * other_mean + first) / (mean**2 + other_mean**2 + first)
    contrast = (2 * deviations + second) / (variance + other_variance + second)
    structure = (covariance + second / 2) / (deviations + second / 2)
    return float(luminance.mean()), float(contrast.mean()), float(structure.mean())


def _best(img: np.ndarray, trajectory: Trajectory | None, score: Callable[[np.ndarray, np.ndarray], float]) -> float:
    if trajectory is None:
        raise UserError(
            'a metric needs the sharp images along a trajectory, which the dataset does not have: remove it, or test '
            "on Köhler's benchmark"
        )
    result = check_image(img)
    if result.ndim != 3 or result.dtype != np.uint8:
        raise UserError(f'a metric along a trajectory got {describe(img)}, expected (H, W, 3) of uint8')
    found = _registrations(result.tobytes(), result.shape, trajectory)
    scores = [
        score(*(to_gray(image) for image in apply(registration, result.astype(np.float64), reference)))
        for registration, reference in zip(found, _frames(trajectory, result.shape), strict=True)
    ]
    return max(scores)


@functools.lru_cache(maxsize=1)
def _registrations(result: bytes, shape: tuple[int, ...], trajectory: Trajectory) -> list[Registration]:
    """Register an image given as bytes, so that the cache, shared by several metrics, compares the content."""
    image = np.frombuffer(result, np.uint8).reshape(shape).astype(np.float64)
    return [register(image, reference) for reference in _frames(trajectory, shape)]


def _frames(trajectory: Trajectory, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the sharp images as float64."""
    for frame in trajectory:
        if frame.shape != shape:
            raise UserError(f'a result has shape {shape}, but an image of its trajectory has {frame.shape}')
        yield frame.astype(np.float64)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Return 0.299 R + 0.587 G + 0.114 B of an array (H, W, 3), BGR."""
    return image @ np.array([0.114, 0.587, 0.299])
