"""Random crops, padding, flips and rotations, drawn once and applied to both images of a pair.

Random numbers come from any object with a method `random()`: Python's module `random`, which BasicSR seeds in every
worker, or a NumPy generator.
"""

import random
from typing import Any, Protocol

import numpy as np

from deeprftv2_plugin.utils.errors import UserError


class RandomSource(Protocol):
    """A source of random numbers."""

    def random(self) -> float:
        """Return a random number in [0, 1)."""


def crop_size(gt_size: Any) -> tuple[int, int]:
    """Return height and width of the crop for the option `gt_size`, a number or [height, width].

    Raises:
        UserError: The option is neither.
    """
    size = gt_size if isinstance(gt_size, list | tuple) else [gt_size, gt_size]
    if len(size) != 2 or not all(type(number) is int and number > 0 for number in size):
        raise UserError(f'gt_size is {gt_size!r}, expected a positive integer (pixels) or [height, width]')
    return size[0], size[1]


def random_window(shape: tuple[int, ...], size: tuple[int, int], rng: RandomSource = random) -> tuple[slice, slice]:
    """Return rows and columns of a random crop. In a direction in which the image is smaller, they cover all of it.

    Args:
        shape: Shape of the image, height and width first.
        size: Height and width of the crop.
        rng: Source of random numbers.
    """
    top, left = (int(rng.random() * (max(have - want, 0) + 1)) for have, want in zip(shape, size, strict=False))
    return slice(top, top + size[0]), slice(left, left + size[1])


def pad_to(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pad an image (H, W, C) with zeros at the bottom and right, where it is smaller than the size."""
    missing = [(0, max(want - have, 0)) for have, want in zip(image.shape, size, strict=False)]
    return np.pad(image, [*missing, (0, 0)]) if any(after for _, after in missing) else image


class FlipAndRotate:
    """A random vertical flip and rotation by multiples of 90 degrees, for arrays (H, W, C).

    With both enabled, a square crop gets each of its eight orientations with equal probability. A rectangular crop
    keeps its shape: it is rotated by 0 or 180 degrees, which gives four orientations.

    Args:
        square: Whether the crop is square.
        use_flip: Whether to flip.
        use_rot: Whether to rotate.
        rng: Source of random numbers.
    """

    def __init__(self, square: bool, use_flip: bool, use_rot: bool, rng: RandomSource = random):
        self.flip = use_flip and rng.random() < 0.5
        self.quarters = 0 if not use_rot else int(rng.random() * 4) if square else 2 * int(rng.random() * 2)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        rotated = np.rot90(image, self.quarters)
        return np.flipud(rotated) if self.flip else rotated
