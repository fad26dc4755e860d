"""Blur a photograph as a camera does: light adds up, then the sensor clips it, adds noise and rounds."""

import functools

import numpy as np

from deeprftv2_plugin.data.blur.convolution import convolve, convolve_varying

HIGHLIGHT = 0.8
"""Linear luminance from which on a pixel is taken for a light source or its reflection."""


def srgb_to_linear(image: np.ndarray) -> np.ndarray:
    """Linear intensities in [0, 1] of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] of linear intensities in [0, 1]: undoes `srgb_to_linear`."""
    return np.where(image <= 0.0031308, image * 12.92, 1.055 * image.clip(0) ** (1 / 2.4) - 0.055)


def to_light(picture: np.ndarray) -> np.ndarray:
    """Linear intensities in [0, 1], float32, of sRGB pixels of uint8 or uint16."""
    return np.take(_light_of_levels(picture.dtype), picture)


@functools.cache
def _light_of_levels(dtype: np.dtype) -> np.ndarray:
    highest = np.iinfo(dtype).max
    return srgb_to_linear(np.arange(highest + 1, dtype=np.float32) / highest)


def to_pixels(linear: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """sRGB pixels of uint8 or uint16: intensities are clipped to [0, 1] and rounded. Undoes `to_light`."""
    return np.rint(linear_to_srgb(linear.clip(0, 1)) * np.iinfo(dtype).max).astype(dtype)


def over_expose(linear: np.ndarray, gain: float) -> np.ndarray:
    """Gives lights back what the photograph lost of them: intensities above one, up to `gain`.

    A pixel of linear luminance Y is multiplied, with all its channels, by 1 + (gain - 1) s, where s rises from
    0 at Y = `HIGHLIGHT` to 1 at Y = 1. Blurred and then clipped, they draw the streaks of saturated light that
    Whyte, Sivic and Zisserman model in "Deblurring Shaken and Partially Saturated Images", International
    Journal of Computer Vision 110(2), 2014. Rim et al., "Realistic Blur Synthesis for Learning Image
    Deblurring", ECCV 2022, likewise add a random amount of light where a sharp picture is saturated.

    Args:
        linear: Array (H, W, 3) of linear intensities in [0, 1], RGB.
        gain: Intensity of white, at least 1.
    """
    luminance = linear @ np.float32((0.2126, 0.7152, 0.0722))  # ITU-R BT.709, the primaries of sRGB
    share = ((luminance - HIGHLIGHT) / (1 - HIGHLIGHT)).clip(0, 1)
    return linear * (1 + (gain - 1) * share)[..., None]


def add_sensor_noise(linear: np.ndarray, shot: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise of variance shot * intensity + read**2 to intensities in [0, 1]."""
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
    """What a camera makes of a sharp picture: linear light, over-exposure, convolution, noise, clipping, sRGB.

    Args:
        sharp: Array (H, W, 3) of uint8 or uint16, sRGB.
        kernel: Array (k, k) of float32, k odd, with sum one; or (rows, columns, k, k), see `convolve_varying`.
        rng: Source of the noise.
        gain: Intensity of white; see `over_expose`.
        shot: Variance of the photon noise at full intensity.
        read: Standard deviation of the read noise.

    Returns:
        Array (H - k + 1, W - k + 1, 3) like `sharp`, without the border where the kernel looks beyond the
        picture.
    """
    linear = to_light(sharp)
    if gain != 1:
        linear = over_expose(linear, gain)
    spread = convolve(linear, kernel) if kernel.ndim == 2 else convolve_varying(linear, kernel)
    return to_pixels(add_sensor_noise(spread, shot, read, rng), sharp.dtype)


def blur_window(
    picture: np.ndarray,
    window: tuple[slice, slice],
    kernel: np.ndarray,
    rng: np.random.Generator,
    gain: float = 1,
    **noise: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Blurry and sharp version of a window of a picture, both clipped alike where it is over-exposed.

    Light comes in from around the window; only beyond the picture's own border its mirror image stands in.

    Args:
        picture: Array (H, W, 3) of uint8 or uint16, sRGB.
        window: Rows and columns within the picture.
        kernel, rng, gain, noise: See `blur`.

    Returns:
        Two arrays like `picture`, of the window's size.
    """
    margin = kernel.shape[-1] // 2
    rows, columns = (
        np.pad(np.arange(length), margin, mode='reflect')[part.start : part.stop + 2 * margin]
        for length, part in zip(picture.shape, window, strict=False)
    )
    blurry = blur(picture[rows[:, None], columns], kernel, rng, gain, **noise)
    sharp = picture[window]
    return blurry, sharp if gain == 1 else to_pixels(over_expose(to_light(sharp), gain), sharp.dtype)
