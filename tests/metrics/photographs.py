"""Photographs, and versions of them that resemble results of a network."""

import cv2
import numpy as np

from deeprftv2_plugin.data.storage.photographs import photograph

NAMES = ('astronaut.png', 'coffee.png', 'retina.jpg', 'motorcycle_left.png')


def load(name):
    """Return an array (H, W, 3) of uint8, BGR."""
    return cv2.imread(str(photograph(name)))


def sixteen_bit(image):
    return image.astype(np.uint16) * 257


def restored(sharp, seed=0, dim=0.97):
    """Return a soft, noisy and slightly darker version of an image."""
    rng = np.random.default_rng(seed)
    noisy = dim * cv2.GaussianBlur(sharp.astype(np.float64), (0, 0), 1.2) + rng.normal(0, 3, sharp.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def load_pair(name):
    sharp = load(name)
    return restored(sharp), sharp
