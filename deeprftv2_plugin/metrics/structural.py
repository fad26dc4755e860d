r"""Structural similarity (SSIM) in a Gaussian window.

.. math:: \mathrm{SSIM} = \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
          {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}, \qquad c_1 = (0.01 L)^2, \; c_2 = (0.03 L)^2

Means, variances and the covariance are computed in a window around each pixel, weighted by a Gaussian of standard
deviation 1.5 truncated to 11 pixels. The score is the mean over pixels. Implementations differ in the window: 2-D for
each channel (`ssim`), or 3-D across the channels (`ssim_3d`).

With the sum :math:`a = x + y` and the difference :math:`b = x - y` of the images, the formula becomes

.. math:: \mathrm{SSIM} = \left(1 - \frac{2 \mu_b^2}{\mu_a^2 + \mu_b^2 + 2 c_1}\right)
          \left(1 - \frac{2 \sigma_b^2}{\sigma_a^2 + \sigma_b^2 + 2 c_2}\right),

which needs four averages instead of five. It is accurate in float32, since rounding errors shrink with the difference
of the images.

References:
    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", TIP 2004.
"""

import cv2
import numpy as np

from deeprftv2_plugin.metrics.inputs import MetricInputs, check_inputs, describe, metric, to_luma
from deeprftv2_plugin.utils.errors import UserError

WINDOW = cv2.getGaussianKernel(11, 1.5)
RADIUS = len(WINDOW) // 2
STRIP = 64
"""Number of rows to process at a time, so that the intermediate values of a 720p frame fit into the cache."""


@metric
def ssim(
    img: np.ndarray, img2: np.ndarray, crop_border: int = 0, input_order: str = 'HWC', test_y_channel: bool = False
) -> float:
    """Return the SSIM with a window of 11x11 pixels, averaged over channels, like BasicSR's `calculate_ssim`.

    The mean is taken over channels and over pixels whose window lies inside the image. For grayscale images this equals
    the original MATLAB implementation. It also equals scikit-image with `gaussian_weights=True` and
    `use_sample_covariance=False`. 16-bit images are supported.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16, at least 11x11 pixels.
        img2: The ground truth, of the same shape and type.
        crop_border: Number of pixels to crop at each edge.
        input_order: 'HWC', or 'CHW' for arrays (3, H, W).
        test_y_channel: Whether to compare the luma (ITU-R BT.601, [16, 235] of 255) instead of all channels.

    Returns:
        A value in [-1, 1], 1 for equal images.

    Raises:
        UserError: The images differ in size or type or are too small, or an argument is invalid.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import ssim
        >>> sharp = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> ssim(sharp, sharp)
        1.0
    """
    images = check_inputs(img, img2, crop_border, input_order)
    check_window_fits(images.result)
    return mean_ssim(to_luma(images) if test_y_channel else images)


@metric
def ssim_3d(img: np.ndarray, img2: np.ndarray, crop_border: int = 0) -> float:
    """Return the SSIM with a window of 11x11x11 over rows, columns and channels, as in NAFNet and its successors.

    The image is treated as a volume (H, W, 3) that is padded by replication in all three directions. The mean is taken
    over all H x W x 3 positions. Since the window is much wider than three channels, each position depends on all of
    them. The score is therefore not comparable with `ssim`. It follows the definition exactly, while the float32
    sums of those repositories can change its fourth digit.

    Args:
        img: The result, array (H, W, 3) or (H, W) of uint8 or uint16.
        img2: The ground truth, of the same shape and type.
        crop_border: Number of pixels to crop at each edge.

    Returns:
        A value in [-1, 1], 1 for equal images.

    Raises:
        UserError: The images differ in size or type, or an argument is invalid.

    References:
        Chen et al., "Simple Baselines for Image Restoration" (NAFNet), ECCV 2022, whose code computes it.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import ssim_3d
        >>> sharp = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> ssim_3d(sharp, sharp)
        1.0
    """
    images = check_inputs(img, img2, crop_border)
    margins = (RADIUS,) * 4
    result, reference = (np.asarray(cv2.copyMakeBorder(x, *margins, cv2.BORDER_REPLICATE)) for x in images[:2])
    channels = None if result.ndim == 2 else channel_window(result.shape[2])
    return mean_ssim(MetricInputs(result, reference, images.peak), channels)


def channel_window(count: int) -> np.ndarray:
    """Return the matrix (count, count) that applies the window along the channels, padded by replication."""
    matrix = np.zeros((count, count))
    for channel in range(count):
        for offset, weight in zip(range(-RADIUS, RADIUS + 1), WINDOW[:, 0], strict=True):
            matrix[channel, np.clip(channel + offset, 0, count - 1)] += weight
    return matrix


def check_window_fits(image: np.ndarray) -> None:
    """Check that an image is at least as large as the window.

    Raises:
        UserError: The image is smaller.
    """
    if min(image.shape[:2]) < len(WINDOW):
        raise UserError(
            f'SSIM needs at least {len(WINDOW)}x{len(WINDOW)} pixels, got {describe(image)} after cropping: '
            'remove the metric, or lower its crop_border'
        )


def mean_ssim(images: MetricInputs, channels: np.ndarray | None = None) -> float:
    """Return the mean SSIM over pixels whose window lies inside the images. For `channels` see `ssim_distance`."""
    result, reference, peak = images
    rows = len(result) - 2 * RADIUS
    total, count = 0.0, 0
    for top in range(0, rows, STRIP):
        strip = np.s_[top : min(top + STRIP, rows) + 2 * RADIUS]
        distance = ssim_distance(MetricInputs(result[strip], reference[strip], peak), channels)
        total += distance.sum(dtype=np.float64)
        count += distance.size
    return float(1 - total / count)


def ssim_distance(images: MetricInputs, channels: np.ndarray | None = None) -> np.ndarray:
    """Return 1 - SSIM for every pixel whose window lies inside the images.

    Args:
        images: Two images (H, W, 3) or (H, W) of uint8, uint16 or float32.
        channels: Matrix that applies the window along the channels, or None for a 2-D window.

    Returns:
        Array (H - 10, W - 10, 3) or (H - 10, W - 10) of float32.
    """

    def average(values: np.ndarray) -> np.ndarray:
        values = np.asarray(cv2.sepFilter2D(values, -1, WINDOW, WINDOW))[RADIUS:-RADIUS, RADIUS:-RADIUS]
        return values if channels is None else np.asarray(cv2.transform(values, channels))

    # Zero-mean values have small rounding errors in the variances.
    mixed = channels is not None
    (result, level), (reference, reference_level) = (center(image, mixed) for image in images[:2])
    mixture, difference = result + reference, result - reference
    mixture_mean, difference_mean = average(mixture), average(difference)
    # in place from here on, to keep fewer arrays in the cache
    structure = average(difference * difference)
    structure -= difference_mean * difference_mean
    variance = average(mixture * mixture)
    variance -= mixture_mean * mixture_mean
    variance += structure
    variance += 2 * (0.03 * images.peak) ** 2
    structure *= 2
    structure /= variance
    mixture_mean = add(mixture_mean, level + reference_level)
    difference_mean = add(difference_mean, level - reference_level)
    luminance = np.square(difference_mean, out=difference_mean)
    power = np.square(mixture_mean, out=mixture_mean)
    power += luminance
    power += 2 * (0.01 * images.peak) ** 2
    luminance *= 2
    luminance /= power
    return luminance + structure - luminance * structure


def center(image: np.ndarray, mixed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the mean of each channel, or the mean over all channels if `mixed`, and return float32 and the means."""
    level = np.array(cv2.mean(image)[: image.shape[2] if image.ndim == 3 else 1])
    if mixed:
        level[:] = level.mean()
    return add(image, -level), level


def add(image: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Add a number to each channel and return float32."""
    if image.ndim == 2:  # OpenCV would treat a column of four values as a scalar
        return np.add(image, level, dtype=np.float32)
    return np.asarray(cv2.add(image, level, dtype=cv2.CV_32F))  # broadcasting three numbers is slow in NumPy
