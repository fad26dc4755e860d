"""Random blur kernels: camera shake, motion, defocus, Gaussians, kernels from files, and mixtures of these.

A blur source is called with a random generator and draws one blur: a function that takes the height and width of the
image and returns its kernel (k, k), or the kernels (rows, columns, k, k) of `convolve_varying`. Kernels are
nonnegative, sum to one and have their centroid at the center pixel, so a blur does not change the brightness or shift
the image.
"""

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from deeprftv2_plugin.data.blur.kernel_files import read_kernels
from deeprftv2_plugin.data.blur.trajectory import (
    arc,
    camera_roll,
    camera_shake,
    kernel_grid,
    kernel_size,
    random_kernel,
    rasterize,
)
from deeprftv2_plugin.utils.build import build
from deeprftv2_plugin.utils.errors import UserError

Blur = Callable[[tuple[int, int]], np.ndarray]


class BlurSource(Protocol):
    """A distribution of blurs."""

    side: int
    """Height and width of the largest kernel at the center of an image."""

    def __call__(self, rng: np.random.Generator) -> Blur:
        """Draw a blur."""


class CameraShake:
    """Camera shake of `camera_shake`, uniform across the image or, with a roll, varying.

    Args:
        length: Range [minimum, maximum] of the length of the camera path in pixels.
        anxiety: Range of the anxiety, the shakiness of the hand: 0 is a straight line, 0.005 a shaky hand.
        roll: Range of the extent, in degrees, of the rotation about the optical axis, see `kernel_grid`. An extent of 1
            moves the corner of a 256x256 crop by 3 pixels and that of a 1280x720 frame by 13.
    """

    def __init__(
        self,
        length: Sequence[float] = (4, 10),
        anxiety: Sequence[float] = (0, 0.003),
        roll: Sequence[float] = (0, 0),
    ):
        self.length = number_range('length', length, least=1)
        self.anxiety = number_range('anxiety', anxiety, least=0)
        self.roll = number_range('roll', roll, least=0)
        self.side = kernel_size(self.length[1])

    def __call__(self, rng: np.random.Generator) -> Blur:
        if not self.roll[1]:
            return _uniform(random_kernel(rng, self.length, self.anxiety))
        length, anxiety = rng.uniform(*self.length), rng.uniform(*self.anxiety)
        path = camera_shake(length, anxiety, rng)
        angles = camera_roll(math.radians(rng.uniform(*self.roll)), anxiety, rng)
        return functools.partial(kernel_grid, path, angles)


class Motion:
    """Steady motion in a random direction, straight or along an arc, uniform across the image.

    Args:
        length: Range [minimum, maximum] of the length of the path in pixels. A length of 0 leaves the image sharp.
        bend: Range of the angle in degrees through which the direction of the motion turns: 0 is a straight line.
    """

    def __init__(self, length: Sequence[float] = (0, 20), bend: Sequence[float] = (0, 45)):
        self.length = number_range('length', length, least=0)
        self.bend = number_range('bend', bend, least=0)
        self.side = kernel_size(self.length[1])

    def __call__(self, rng: np.random.Generator) -> Blur:
        length, bend, direction = rng.uniform(*self.length), rng.uniform(*self.bend), rng.uniform(0, 2 * math.pi)
        return _uniform(rasterize(arc(length, math.radians(bend), direction), self.side))


class _OneParameter:
    """Kernels with one random parameter, uniform across the image."""

    def __init__(self, kernel: Callable[[float], np.ndarray], name: str, values: Sequence[float], least: float):
        self.kernel, self.values = kernel, number_range(name, values, least=least)
        self.side = kernel(self.values[1]).shape[0]

    def __call__(self, rng: np.random.Generator) -> Blur:
        return _uniform(self.kernel(rng.uniform(*self.values)))


class Defocus(_OneParameter):
    """Discs, the blur of a lens with a round aperture, uniform across the image.

    Args:
        radius: Range [minimum, maximum] of the radius in pixels. A radius of 0.5 leaves the image sharp.
    """

    def __init__(self, radius: Sequence[float] = (1, 5)):
        super().__init__(disc, 'radius', radius, 0.5)


class Gaussian(_OneParameter):
    """Isotropic Gaussians, uniform across the image.

    Args:
        sigma: Range [minimum, maximum] of the standard deviation in pixels.
    """

    def __init__(self, sigma: Sequence[float] = (0.5, 3)):
        super().__init__(gaussian, 'sigma', sigma, 0.1)


class KernelFiles:
    """Kernels from files, drawn with equal probability.

    Args:
        path: File or folder with kernels: arrays in .npy, .npz and .mat files, or images, see `read_kernels`.
        variable: Name of the variable in .mat and .npz files. By default, all arrays of an .npz file and the only
            variable of a .mat file are read.
    """

    def __init__(self, path: str, variable: str | None = None):
        self.kernels = read_kernels(path, variable)
        self.side = max(kernel.shape[0] for kernel in self.kernels)

    def __call__(self, rng: np.random.Generator) -> Blur:
        return _uniform(self.kernels[rng.integers(len(self.kernels))])


SOURCES = {source.__name__: source for source in (CameraShake, Motion, Defocus, Gaussian, KernelFiles)}


class BlurMixture:
    """Several blur sources. Each call draws one of them.

    Args:
        settings: A list with, for each source, its name as `type`, its arguments and an optional `weight`, 1 by
            default. For example [{'type': 'Defocus', 'radius': [1, 3], 'weight': 0.5}].

    Attributes:
        side: Side of the largest kernel at the center of an image.

    Raises:
        UserError: A type is unknown or rejects its arguments, or a weight is not positive.
    """

    def __init__(self, settings: Any):
        entries = settings if isinstance(settings, list | tuple) else []
        if not entries or not all(isinstance(entry, Mapping) for entry in entries):
            raise UserError(f'blurs is {settings!r}, expected a list such as [{{type: CameraShake, length: [4, 10]}}]')
        self.sources: list[BlurSource] = []
        weights = []
        for number, entry in enumerate(entries):
            entry = dict(entry)
            weights.append(entry.pop('weight', 1))
            if type(weights[-1]) not in (int, float) or not 0 < weights[-1] < math.inf:
                raise UserError(f'blurs[{number}].weight is {weights[-1]!r}, expected a number greater than 0')
            self.sources.append(build(f'blurs[{number}]', entry, SOURCES))
        self.probabilities = np.array(weights) / sum(weights)
        self.side = max(source.side for source in self.sources)

    def __call__(self, rng: np.random.Generator) -> Blur:
        # no random number is used for a single source, which therefore draws the same blurs as without a mixture
        number = rng.choice(len(self.sources), p=self.probabilities) if len(self.sources) > 1 else 0
        return self.sources[number](rng)


def _uniform(kernel: np.ndarray) -> Blur:
    return lambda shape: kernel


def number_range(key: str, value: Any, least: float, most: float = sys.float_info.max) -> tuple[float, float]:
    """Check an option that is a range [minimum, maximum] and return it as a tuple.

    Args:
        key: Name of the option.
        value: Its value.
        least, most: Bounds of both numbers.

    Raises:
        UserError: The value is not such a range.
    """
    numbers = isinstance(value, list | tuple) and all(type(n) in (int, float) for n in value)
    if not numbers or len(value) != 2 or not least <= value[0] <= value[1] <= most:
        bounds = f'of at least {least}' if most == sys.float_info.max else f'from {least} to {most}'
        raise UserError(f'{key} is {value!r}, expected [minimum, maximum], two numbers {bounds}')
    return value[0], value[1]


def disc(radius: float, lines: int = 64) -> np.ndarray:
    """Return the kernel (k, k) of float32 of a disc: the fraction of each pixel that the disc covers.

    Args:
        radius: Radius in pixels, greater than 0.
        lines: Number of lines per pixel along which the coverage is measured.
    """
    reach = max(math.ceil(radius - 0.5), 0)
    heights = (np.arange((2 * reach + 1) * lines) + 0.5) / lines - (reach + 0.5)
    half_chords = np.sqrt((radius**2 - heights**2).clip(0))[:, None]
    edges = np.arange(2 * reach + 2) - (reach + 0.5)
    coverage = np.diff(edges.clip(-half_chords, half_chords)).reshape(2 * reach + 1, lines, -1).sum(axis=1)
    return (coverage / coverage.sum()).astype(np.float32)


def gaussian(sigma: float) -> np.ndarray:
    """Return a kernel (k, k) of float32 that samples exp(-r**2 / (2 sigma**2)) up to 3 sigma on each side."""
    reach = math.ceil(3 * sigma)
    profile = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    weights = np.outer(profile, profile)
    return (weights / weights.sum()).astype(np.float32)


def center_pad_or_crop(kernel: np.ndarray, side: int) -> np.ndarray:
    """Pad a kernel (k, k) with zeros or crop it to another odd size, keeping its center."""
    more = max(side - kernel.shape[0], 0) // 2
    less = max(kernel.shape[0] - side, 0) // 2
    return np.pad(kernel, more)[less : less + side, less : less + side]
