"""Kinds of blur to draw from: camera shake, defocus, Gaussians, kernels of files, and any mixture of them.

A kind is called with a random generator and draws one blur: a function that takes the height and width of the
picture and returns its kernel (k, k), or the kernels (rows, columns, k, k) of `convolve_varying`. What holds
light and is not shifted: kernels are nowhere negative, have sum one and their centroid in the middle pixel.
"""

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from deeprftv2_plugin.data.blur.kernel_files import read_kernels
from deeprftv2_plugin.data.blur.trajectory import camera_roll, camera_shake, kernel_grid, kernel_size, random_kernel
from deeprftv2_plugin.utils import build as by_name
from deeprftv2_plugin.utils.errors import UserError

Blur = Callable[[tuple[int, int]], np.ndarray]


class CameraShake:
    """Camera shake of `camera_shake`, the same all over the picture or, with a roll, different from place to place.

    Args:
        length: Least and greatest length of the camera's path in pixels.
        anxiety: Least and greatest anxiety of the hand: 0 is a straight line, 0.005 shaky.
        roll: Least and greatest range, in degrees, of the angle of the camera about its optical axis, as in
            `kernel_grid`. A range of 1 moves the corner of a crop of 256 pixels by 3 pixels, that of a frame of
            1280 x 720 by 13.
    """

    def __init__(self, length: object = (4, 10), anxiety: object = (0, 0.003), roll: object = (0, 0)):
        self.length = number_range('length', length, least=1)
        self.anxiety = number_range('anxiety', anxiety, least=0)
        self.roll = number_range('roll', roll, least=0)
        self.side = kernel_size(self.length[1])

    def __call__(self, rng: np.random.Generator) -> Blur:
        if not self.roll[1]:
            return _everywhere(random_kernel(rng, self.length, self.anxiety))
        length, anxiety = rng.uniform(*self.length), rng.uniform(*self.anxiety)
        path = camera_shake(length, anxiety, rng)
        angles = camera_roll(math.radians(rng.uniform(*self.roll)), anxiety, rng)
        return functools.partial(kernel_grid, path, angles)


class Defocus:
    """Discs: what a lens with a round aperture makes of a point out of focus, all over the picture.

    Args:
        radius: Least and greatest radius in pixels; 0.5 is sharp.
    """

    def __init__(self, radius: object = (1, 5)):
        self.radius = number_range('radius', radius, least=0.5)
        self.side = disc(self.radius[1]).shape[0]

    def __call__(self, rng: np.random.Generator) -> Blur:
        return _everywhere(disc(rng.uniform(*self.radius)))


class Gaussian:
    """Round Gaussians.

    Args:
        sigma: Least and greatest standard deviation in pixels.
    """

    def __init__(self, sigma: object = (0.5, 3)):
        self.sigma = number_range('sigma', sigma, least=0.1)
        self.side = gaussian(self.sigma[1]).shape[0]

    def __call__(self, rng: np.random.Generator) -> Blur:
        return _everywhere(gaussian(rng.uniform(*self.sigma)))


class KernelFiles:
    """The kernels of files, each equally often.

    Args:
        path, variable: See `read_kernels`.
    """

    def __init__(self, path: str, variable: str | None = None):
        self.kernels = read_kernels(path, variable)
        self.side = max(kernel.shape[0] for kernel in self.kernels)

    def __call__(self, rng: np.random.Generator) -> Blur:
        return _everywhere(self.kernels[rng.integers(len(self.kernels))])


KINDS = {kind.__name__: kind for kind in (CameraShake, Defocus, Gaussian, KernelFiles)}


class Mixture:
    """Several kinds of blur, of which each call draws one.

    Args:
        settings: For each kind its name as `type`, its arguments and, as `weight`, how often it comes compared
            to the others; 1 when absent. For example [{'type': 'Defocus', 'radius': [1, 3], 'weight': 0.5}].

    Attributes:
        side: Side of the largest kernel in the middle of a picture.

    Raises:
        UserError: A kind is unknown or does not take its arguments, or a weight is not positive.
    """

    def __init__(self, settings: object):
        entries = settings if isinstance(settings, list | tuple) else []
        if not entries or not all(isinstance(entry, Mapping) for entry in entries):
            raise UserError(f'blurs is {settings!r}: give a list such as [{{type: CameraShake, length: [4, 10]}}]')
        self.kinds, weights = [], []
        for number, entry in enumerate(entries):
            entry = dict(entry)
            weights.append(entry.pop('weight', 1))
            if type(weights[-1]) not in (int, float) or not 0 < weights[-1] < math.inf:
                raise UserError(f'blurs[{number}].weight is {weights[-1]!r}: give a number greater than 0')
            self.kinds.append(by_name.build(f'blurs[{number}]', entry, KINDS))
        self.shares = np.array(weights) / sum(weights)
        self.side = max(kind.side for kind in self.kinds)

    def __call__(self, rng: np.random.Generator) -> Blur:
        # the only kind is not drawn for
        kind = self.kinds[rng.choice(len(self.kinds), p=self.shares) if len(self.kinds) > 1 else 0]
        return kind(rng)


def _everywhere(kernel: np.ndarray) -> Blur:
    return lambda shape: kernel


def number_range(key: str, value: object, least: float) -> tuple[float, float]:
    """An option that is the least and the greatest of the numbers to draw from.

    Raises:
        UserError: It is no such pair.
    """
    numbers = isinstance(value, list | tuple) and all(type(n) in (int, float) for n in value)
    if not numbers or len(value) != 2 or not least <= value[0] <= value[1] < math.inf:
        raise UserError(f'{key} is {value!r}: give [least, greatest], two numbers from {least} up')
    return tuple(value)


def disc(radius: float, lines: int = 64) -> np.ndarray:
    """Kernel (k, k) of float32: the share of each pixel that lies in a disc around the middle pixel.

    Args:
        radius: In pixels, more than 0.
        lines: Lines per pixel along which the share is measured.
    """
    reach = max(math.ceil(radius - 0.5), 0)
    heights = (np.arange((2 * reach + 1) * lines) + 0.5) / lines - (reach + 0.5)
    half_chords = np.sqrt((radius**2 - heights**2).clip(0))[:, None]
    edges = np.arange(2 * reach + 2) - (reach + 0.5)
    shares = np.diff(edges.clip(-half_chords, half_chords)).reshape(2 * reach + 1, lines, -1).sum(axis=1)
    return (shares / shares.sum()).astype(np.float32)


def gaussian(sigma: float) -> np.ndarray:
    """Kernel (k, k) of float32 with samples of exp(-r**2 / (2 sigma**2)) as far as 3 sigma to each side."""
    reach = math.ceil(3 * sigma)
    profile = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    weights = np.outer(profile, profile)
    return (weights / weights.sum()).astype(np.float32)


def resize_frame(kernel: np.ndarray, side: int) -> np.ndarray:
    """The kernel in a frame of another odd side, zeros added or cut off around it alike."""
    more = max(side - kernel.shape[0], 0) // 2
    less = max(kernel.shape[0] - side, 0) // 2
    return np.pad(kernel, more)[less : less + side, less : less + side]
