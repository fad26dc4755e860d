"""Crops, padding, flips and quarter turns for training, drawn once and applied alike to several pictures.

Random numbers come from anything with a method random() in [0, 1): Python's module `random`, which BasicSR
seeds in every worker, or a numpy Generator.
"""

import random

import numpy as np

from deeprftv2_plugin.utils.errors import UserError


def crop_size(gt_size: object) -> tuple[int, int]:
    """Height and width of the crop that the option `gt_size` asks for: one number or [height, width].

    Raises:
        UserError: It is neither.
    """
    size = gt_size if isinstance(gt_size, list | tuple) else [gt_size, gt_size]
    if len(size) != 2 or not all(type(number) is int and number > 0 for number in size):
        raise UserError(f'gt_size is {gt_size!r}: give a positive whole number of pixels, or [height, width]')
    return tuple(size)


def random_window(shape: tuple[int, ...], size: tuple[int, int], rng=random) -> tuple[slice, slice]:
    """Rows and columns of a random crop, uniform over all places; where the picture is smaller, all of it."""
    starts = [int(rng.random() * (max(have - want, 0) + 1)) for have, want in zip(shape, size, strict=False)]
    return tuple(slice(start, start + want) for start, want in zip(starts, size, strict=True))


def pad_to(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture with zeros at the bottom and on the right, where it is smaller than the size."""
    missing = [(0, max(want - have, 0)) for have, want in zip(image.shape, size, strict=False)]
    return np.pad(image, [*missing, (0, 0)]) if any(after for _, after in missing) else image


class Turn:
    """Random quarter turns and a random flip upside down; a call applies both to an array (H, W, C).

    With both, a square crop gets each of its eight versions with equal probability. A rectangular one keeps
    its shape: it is turned by 0 or 180 degrees, which makes four.
    """

    def __init__(self, square: bool, use_flip: bool, use_rot: bool, rng=random):
        self.flip = use_flip and rng.random() < 0.5
        self.quarters = 0 if not use_rot else int(rng.random() * 4) if square else 2 * int(rng.random() * 2)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        turned = np.rot90(image, self.quarters)
        return np.flipud(turned) if self.flip else turned
