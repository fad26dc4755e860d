"""A camera model for synthetic blur: convolution in linear light, noise, clipping, rounding and JPEG compression."""

import functools

import cv2
import numpy as np

from deeprftv2_plugin.data.blur.convolution import convolve, convolve_varying

HIGHLIGHT = 0.8
"""Linear luminance above which a pixel is treated as a light source or a reflection of one."""


def srgb_to_linear(image: np.ndarray) -> np.ndarray:
    """Convert sRGB values in [0, 1] to linear intensities in [0, 1] (IEC 61966-2-1)."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: np.ndarray) -> np.ndarray:
    """Convert linear intensities in [0, 1] to sRGB values in [0, 1], the inverse of `srgb_to_linear`."""
    return np.where(image <= 0.0031308, image * 12.92, 1.055 * image.clip(0) ** (1 / 2.4) - 0.055)


def to_light(image: np.ndarray) -> np.ndarray:
    """Convert sRGB pixels of uint8 or uint16 to linear intensities of float32 in [0, 1]."""
    return np.take(_light_of_levels(image.dtype), image)


@functools.cache
def _light_of_levels(dtype: np.dtype) -> np.ndarray:
    highest = np.iinfo(dtype).max
    return srgb_to_linear(np.arange(highest + 1, dtype=np.float32) / highest)


def to_pixels(linear: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert linear intensities, clipped to [0, 1], to sRGB pixels of uint8 or uint16. The inverse of `to_light`."""
    return np.rint(linear_to_srgb(linear.clip(0, 1)) * np.iinfo(dtype).max).astype(dtype)


def overexpose(linear: np.ndarray, gain: float) -> np.ndarray:
    """Restore intensities above one, up to `gain`, in clipped highlights.

    All channels of a pixel with linear luminance Y are multiplied by 1 + (gain - 1) s, where s rises from 0 at
    Y = `HIGHLIGHT` to 1 at Y = 1. Blurring and then clipping such highlights gives the streaks of saturated light that
    Whyte et al. model. Rim et al. likewise add a random amount of light to saturated pixels of sharp images.

    Args:
        linear: Array (H, W, 3) of linear intensities in [0, 1], RGB.
        gain: Intensity of white, at least 1.

    References:
        Whyte, Sivic and Zisserman, "Deblurring Shaken and Partially Saturated Images", IJCV 110(2), 2014.
        Rim et al., "Realistic Blur Synthesis for Learning Image Deblurring", ECCV 2022.
    """
    luminance = linear @ np.array((0.2126, 0.7152, 0.0722), np.float32)  # ITU-R BT.709, the primaries of sRGB
    strength = ((luminance - HIGHLIGHT) / (1 - HIGHLIGHT)).clip(0, 1)
    return linear * (1 + (gain - 1) * strength)[..., None]


def add_sensor_noise(linear: np.ndarray, shot: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of variance shot * intensity + read**2 to linear intensities.

    Args:
        linear: Array of linear intensities in [0, 1], of any shape.
        shot: Variance of the photon noise at full intensity.
        read: Standard deviation of the read noise.
        rng: Random generator.

    Returns:
        Array of the same shape, not clipped to [0, 1].
    """
    deviation = np.sqrt(shot * linear.clip(0) + read**2)
    return linear + deviation * rng.standard_normal(linear.shape, dtype=np.float32)


def blur(
    sharp: np.ndarray,
    kernel: np.ndarray,
    rng: np.random.Generator,
    gain: float = 1,
    shot: float = 1e-4,
    read: float = 5e-4,
) -> np.ndarray:
    """Simulate a blurry exposure: linear light, overexposure, convolution, noise, clipping, sRGB.

    Args:
        sharp: Array (H, W, 3) of uint8 or uint16, sRGB.
        kernel: Array (k, k) of float32 with sum one, k odd, or a grid of kernels (rows, columns, k, k), see
            `convolve_varying`.
        rng: Random generator for the noise.
        gain: Intensity of white, see `overexpose`.
        shot: Variance of the photon noise at full intensity.
        read: Standard deviation of the read noise.

    Returns:
        Array (H - k + 1, W - k + 1, 3) of the same type. Pixels whose kernel crosses the border are left out.
    """
    linear = to_light(sharp)
    if gain != 1:
        linear = overexpose(linear, gain)
    spread = convolve(linear, kernel) if kernel.ndim == 2 else convolve_varying(linear, kernel)
    return to_pixels(add_sensor_noise(spread, shot, read, rng), sharp.dtype)


def blur_window(
    image: np.ndarray,
    window: tuple[slice, slice],
    kernel: np.ndarray,
    rng: np.random.Generator,
    gain: float = 1,
    **noise: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the blurry and the sharp version of a window of an image, both with the same overexposure.

    The blur takes the surroundings of the window into account. The image itself is extended by reflection.

    Args:
        image: Array (H, W, 3) of uint8 or uint16, sRGB.
        window: Rows and columns of the image.
        kernel, rng, gain, noise: See `blur`.

    Returns:
        Two arrays of the size of the window and the type of the image.
    """
    margin = kernel.shape[-1] // 2
    rows, columns = (
        np.pad(np.arange(length), margin, mode='reflect')[part.start : part.stop + 2 * margin]
        for length, part in zip(image.shape, window, strict=False)
    )
    blurry = blur(image[rows[:, None], columns], kernel, rng, gain, **noise)
    sharp = image[window]
    return blurry, sharp if gain == 1 else to_pixels(overexpose(to_light(sharp), gain), sharp.dtype)


def compress(image: np.ndarray, quality: int, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Return an image after JPEG compression with chroma at half the resolution.

    Args:
        image: Array (H, W, 3) of uint8 or uint16, RGB. 16 bits are rounded to the 8 bits of JPEG.
        quality: Quality of the JPEG encoder, from 1 to 100.
        corner: Row and column of the image's first pixel in its first JPEG block, each in [0, 16), since a crop of a
            photograph rarely begins at the border of a block.

    Returns:
        Array of the size and the type of the image.
    """
    if image.dtype == np.uint16:
        return compress(np.rint(image / 257).astype(np.uint8), quality, corner) * np.uint16(257)
    top, left = corner
    whole = cv2.copyMakeBorder(image[..., ::-1], top, 0, left, 0, cv2.BORDER_REFLECT)
    _, code = cv2.imencode('.jpg', whole, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.ascontiguousarray(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[top:, left:, ::-1])
