r"""Structural similarity (SSIM) in a Gaussian window.

.. math:: \mathrm{SSIM} = \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
          {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \qquad c_1 = (0.01 L)^2, \; c_2 = (0.03 L)^2

Means, variances and the covariance are those of the window around a pixel, weighted by a Gaussian of standard
deviation 1.5 cut off at 11 pixels; the score is the mean over pixels. What differs between implementations is the
window: in the plane, for each channel, or in space, across the channels. Hence two functions.

With the sum :math:`a = x + y` and the difference :math:`b = x - y` of the pictures the same reads

.. math:: \mathrm{SSIM} = \left(1 - \frac{2 \mu_b^2}{\mu_a^2 + \mu_b^2 + 2 c_1}\right)
          \left(1 - \frac{2 \sigma_b^2}{\sigma_a^2 + \sigma_b^2 + 2 c_2}\right),

which takes four averages instead of five, and float32: rounding errors shrink with the difference of the pictures.

References:
    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP 2004.
"""

import cv2
import numpy as np

from deeprftv2_plugin.metrics.calls import metric
from deeprftv2_plugin.metrics.pictures import Pair, describe, luma, pair
from deeprftv2_plugin.utils.errors import UserError

WINDOW = cv2.getGaussianKernel(11, 1.5)
RADIUS = len(WINDOW) // 2
STRIP = 64
"""Rows that are worked on at a time, so that all intermediate values of a 720p frame stay in the cache."""


@metric
def ssim(
    img: np.ndarray, img2: np.ndarray, crop_border: int = 0, input_order: str = 'HWC', test_y_channel: bool = False
) -> float:
    """SSIM in a window of 11x11 pixels, the mean over the channels, as BasicSR's `calculate_ssim` defines it.

    The mean runs over the channels and over the pixels whose window lies inside the picture. That is also what
    MATLAB's first implementation gives for a gray picture, and scikit-image with `gaussian_weights=True` and
    `use_sample_covariance=False`; 16 bit are taken too.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W) of uint8 or uint16, of at least 11x11 pixels.
        img2: The ground truth, likewise.
        crop_border: Pixels that are cut off at every edge.
        input_order: 'HWC', or 'CHW' for arrays (3, H, W).
        test_y_channel: Whether the luma (ITU-R BT.601, [16, 235] of 255) is compared instead of all channels.

    Returns:
        A value in [-1, 1]; 1 for equal pictures.

    Raises:
        UserError: The pictures differ in size or type, are too small, or cannot be compared as asked.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import ssim
        >>> sharp = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> ssim(sharp, sharp)
        1.0
    """
    pictures = pair(img, img2, crop_border, input_order)
    demand_window(pictures.result)
    return mean_ssim(luma(pictures) if test_y_channel else pictures)


@metric
def ssim_3d(img: np.ndarray, img2: np.ndarray, crop_border: int = 0) -> float:
    """SSIM in a window of 11x11x11 over rows, columns and channels: what the NAFNet line of repositories reports.

    The picture is taken for a volume (H, W, 3). Beyond its faces, those of the first and the last channel included,
    the nearest value is repeated, and the mean runs over all H x W x 3 positions. As the window is far wider than
    three channels, each position sees all of them, the nearest ones with more weight: the number is not comparable
    with that of `ssim`. It is that of the definition; the repositories' own sums in float32 can move its fourth digit.

    Args:
        img: The result, array (H, W, 3) or (H, W) of uint8 or uint16.
        img2: The ground truth, likewise.
        crop_border: Pixels that are cut off at every edge.

    Returns:
        A value in [-1, 1]; 1 for equal pictures.

    Raises:
        UserError: The pictures differ in size or type, or cannot be compared as asked.

    References:
        Chen et al., Simple Baselines for Image Restoration (NAFNet), ECCV 2022, whose code computes it.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import ssim_3d
        >>> sharp = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> ssim_3d(sharp, sharp)
        1.0
    """
    result, reference, peak = pair(img, img2, crop_border)
    margins = (RADIUS,) * 4
    framed = (cv2.copyMakeBorder(picture, *margins, cv2.BORDER_REPLICATE) for picture in (result, reference))
    return mean_ssim(Pair(*framed, peak), None if result.ndim == 2 else across_channels(result.shape[2]))


def across_channels(count: int) -> np.ndarray:
    """Matrix (count, count) of the window along the channels, the first and the last of them repeated."""
    matrix = np.zeros((count, count))
    for channel in range(count):
        for offset, weight in zip(range(-RADIUS, RADIUS + 1), WINDOW[:, 0], strict=True):
            matrix[channel, np.clip(channel + offset, 0, count - 1)] += weight
    return matrix


def demand_window(picture: np.ndarray):
    """UserError where no window fits into a picture."""
    if min(picture.shape[:2]) < len(WINDOW):
        raise UserError(
            f'SSIM needs at least {len(WINDOW)}x{len(WINDOW)} pixels, but {describe(picture)} is left to compare: '
            'leave the metric out, or lower its crop_border'
        )


def mean_ssim(pictures: Pair, channels: np.ndarray | None = None) -> float:
    """Mean SSIM over the pixels whose window lies inside the pictures; `channels` as in `distance_to_one`."""
    result, reference, peak = pictures
    rows = len(result) - 2 * RADIUS
    total, count = 0.0, 0
    for top in range(0, rows, STRIP):
        strip = np.s_[top : min(top + STRIP, rows) + 2 * RADIUS]
        distance = distance_to_one(Pair(result[strip], reference[strip], peak), channels)
        total += distance.sum(dtype=np.float64)
        count += distance.size
    return float(1 - total / count)


def distance_to_one(pictures: Pair, channels: np.ndarray | None = None) -> np.ndarray:
    """1 - SSIM of every pixel whose window lies inside the pictures.

    Args:
        pictures: Two pictures (H, W, 3) or (H, W) of uint8, uint16 or float32.
        channels: Matrix of the window along the channels; None for a window in the plane.

    Returns:
        Array (H - 10, W - 10, 3) or (H - 10, W - 10) of float32.
    """

    def average(values):
        values = cv2.sepFilter2D(values, -1, WINDOW, WINDOW)[RADIUS:-RADIUS, RADIUS:-RADIUS]
        return values if channels is None else cv2.transform(values, channels)

    # Values around zero leave small rounding errors in the variances.
    mixed = channels is not None
    (result, level), (reference, reference_level) = (centred(picture, mixed) for picture in pictures[:2])
    mixture, difference = result + reference, result - reference
    mixture_mean, difference_mean = average(mixture), average(difference)
    # in place from here on: an array less to pass through the cache
    structure = average(difference * difference)
    structure -= difference_mean * difference_mean
    variance = average(mixture * mixture)
    variance -= mixture_mean * mixture_mean
    variance += structure
    variance += 2 * (0.03 * pictures.peak) ** 2
    structure *= 2
    structure /= variance
    mixture_mean = add(mixture_mean, level + reference_level)
    difference_mean = add(difference_mean, level - reference_level)
    luminance = np.square(difference_mean, out=difference_mean)
    power = np.square(mixture_mean, out=mixture_mean)
    power += luminance
    power += 2 * (0.01 * pictures.peak) ** 2
    luminance *= 2
    luminance /= power
    return luminance + structure - luminance * structure


def centred(picture: np.ndarray, mixed: bool) -> tuple[np.ndarray, np.ndarray]:
    """A picture as float32 without the mean of each channel, or of all if their values will be mixed; and the means."""
    level = np.array(cv2.mean(picture)[: picture.shape[2] if picture.ndim == 3 else 1])
    if mixed:
        level[:] = level.mean()
    return add(picture, -level), level


def add(picture: np.ndarray, level: np.ndarray) -> np.ndarray:
    """A picture as float32, with a number added to each channel."""
    if picture.ndim == 2:  # OpenCV takes one column of four values for a number
        return np.add(picture, level, dtype=np.float32)
    return cv2.add(picture, level, dtype=cv2.CV_32F)  # numpy is slow to repeat three numbers
