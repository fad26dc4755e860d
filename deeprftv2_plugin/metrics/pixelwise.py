"""PSNR, its gain over the blurry image, and MAE."""

import cv2
import numpy as np

from deeprftv2_plugin.metrics.inputs import check_inputs, metric, to_luma


@metric
def psnr(
    img: np.ndarray, img2: np.ndarray, crop_border: int = 0, input_order: str = 'HWC', test_y_channel: bool = False
) -> float:
    r"""Return the peak signal-to-noise ratio in dB, like BasicSR's `calculate_psnr`, with support for 16 bit.

    .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{L^2}{\operatorname{mean}_{h,w,c} (\hat x - x)^2}

    :math:`L` is 255, or 65535 for 16 bit. The mean is taken over all pixels and channels.

    Args:
        img: The result, array (H, W, 3), BGR, or (H, W), grayscale, of uint8 or uint16.
        img2: The ground truth, of the same shape and type.
        crop_border: Number of pixels to crop at each edge.
        input_order: 'HWC', or 'CHW' for arrays (3, H, W).
        test_y_channel: Whether to compare the luma (ITU-R BT.601, [16, 235] of 255) instead of all channels.

    Returns:
        PSNR in dB, infinite for equal images.

    Raises:
        UserError: The images differ in size or type, or an argument is invalid.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import psnr
        >>> sharp = np.full((32, 32, 3), 100, np.uint8)
        >>> round(psnr(sharp + 2, sharp), 4)
        42.1102
    """
    images = check_inputs(img, img2, crop_border, input_order)
    result, reference, peak = to_luma(images) if test_y_channel else images
    return to_decibel(cv2.norm(result, reference, cv2.NORM_L2SQR) / result.size, peak)


def to_decibel(mean_squared_error: float, peak: float) -> float:
    """Return the PSNR of a mean squared error, infinite if the error is zero."""
    return float(10 * np.log10(peak**2 / mean_squared_error)) if mean_squared_error else float('inf')


@metric
def psnr_gain(img: np.ndarray, img2: np.ndarray, blurry: np.ndarray) -> float:
    """Return the PSNR of the result minus the PSNR of the blurry image, in dB.

    Args:
        img: The result, array (H, W, 3) or (H, W) of uint8 or uint16.
        img2: The ground truth, of the same shape and type.
        blurry: The image that was restored, of the same shape and type.

    Returns:
        Gain in dB: negative if the result is worse than the blurry image, not finite if one of them equals the ground
        truth.

    Raises:
        UserError: The images differ in size or type.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import psnr_gain
        >>> sharp = np.full((32, 32, 3), 100, np.uint8)
        >>> round(psnr_gain(sharp + 2, sharp, blurry=sharp + 4), 4)
        6.0206
    """
    return psnr(img, img2) - psnr(blurry, img2)


@metric
def mae(img: np.ndarray, img2: np.ndarray) -> float:
    r"""Return the mean absolute error of images scaled to [0, 1], as reported in papers on DPDD.

    .. math:: \mathrm{MAE} = \operatorname{mean}_{h,w,c} \frac{|\hat x - x|}{L}

    :math:`L` is 255, or 65535 for 16 bit.

    Args:
        img: The result, array (H, W, 3) or (H, W) of uint8 or uint16.
        img2: The ground truth, of the same shape and type.

    Returns:
        A value in [0, 1], lower is better.

    Raises:
        UserError: The images differ in size or type.

    References:
        Abuolaim and Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020.

    Example:
        >>> import numpy as np
        >>> from deeprftv2_plugin.metrics import mae
        >>> sharp = np.full((32, 32, 3), 100, np.uint8)
        >>> round(mae(sharp + 2, sharp), 4)
        0.0078
    """
    result, reference, peak = check_inputs(img, img2)
    return cv2.norm(result, reference, cv2.NORM_L1) / result.size / peak
