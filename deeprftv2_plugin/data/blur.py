"""Blur a photograph as a shaken camera does: light adds up, then the sensor adds noise and rounds."""

import cv2
import numpy as np


def srgb_to_linear(image: np.ndarray) -> np.ndarray:
    """Linear intensities in [0, 1] of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(image: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] of linear intensities in [0, 1]: undoes `srgb_to_linear`."""
    return np.where(image <= 0.0031308, image * 12.92, 1.055 * image.clip(0) ** (1 / 2.4) - 0.055)


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """True convolution of (H, W, C) with (k, k), k odd, where the kernel lies inside the picture.

    Returns:
        Array (H - k + 1, W - k + 1, C).
    """
    margin = kernel.shape[0] // 2
    # OpenCV correlates; with the kernel turned by 180 degrees that is a convolution.
    full = cv2.filter2D(image, -1, np.ascontiguousarray(kernel[::-1, ::-1])).reshape(image.shape)
    return full[margin : full.shape[0] - margin, margin : full.shape[1] - margin]


def add_sensor_noise(linear: np.ndarray, shot: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian noise of variance shot * intensity + read**2 to intensities in [0, 1]."""
    deviation = np.sqrt(shot * linear.clip(0) + read**2)
    return linear + deviation * rng.standard_normal(linear.shape, dtype=np.float32)


def blur(
    sharp: np.ndarray, kernel: np.ndarray, rng: np.random.Generator, shot: float = 1e-4, read: float = 5e-4
) -> np.ndarray:
    """What a shaken camera makes of a sharp picture: linear light, convolution, noise, sRGB, 8 bits.

    Args:
        sharp: Array (H, W, C) of uint8, sRGB.
        kernel: Array (k, k) of float32, k odd, with sum one.
        rng: Source of the noise.
        shot: Variance of the photon noise at full intensity.
        read: Standard deviation of the read noise.

    Returns:
        Array (H - k + 1, W - k + 1, C) of uint8, sRGB, without the border where the kernel looks beyond the
        picture.
    """
    linear = convolve(srgb_to_linear(sharp.astype(np.float32) / 255), kernel)
    noisy = add_sensor_noise(linear, shot, read, rng)
    return np.rint(linear_to_srgb(noisy.clip(0, 1)) * 255).astype(np.uint8)


def blur_window(
    picture: np.ndarray, window: tuple[slice, slice], kernel: np.ndarray, rng: np.random.Generator, **noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blurry and sharp version of a window of a picture.

    Light comes in from around the window; only beyond the picture's own border its mirror image stands in.

    Args:
        picture: Array (H, W, C) of uint8, sRGB.
        window: Rows and columns within the picture.
        kernel, rng, noise: See `blur`.

    Returns:
        Two arrays of uint8 of the window's size.
    """
    margin = kernel.shape[0] // 2
    rows, columns = window
    beyond = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode='reflect')
    seen = beyond[rows.start : rows.stop + 2 * margin, columns.start : columns.stop + 2 * margin]
    return blur(seen, kernel, rng, **noise), picture[window]
