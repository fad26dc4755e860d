"""The mean over the neighborhood of every pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deeprftv2_plugin.ops.precision import at_least_float32


def local_mean(x: Tensor, window: Sequence[int]) -> Tensor:
    """Return the mean over the window around every pixel, which replaces a global mean in evaluation.

    With it, a network trained on crops sees the same statistics in a whole image as in a crop (Chu et al., "Improving
    image restoration by revisiting global information aggregation", ECCV 2022). The mean is computed where the window
    lies inside the map. Pixels closer to the border repeat the outermost mean.

    Args:
        x: Feature map of shape (N, C, H, W).
        window: Height and width of the window in pixels. They are limited to those of the map.

    Returns:
        Map of shape (N, C, H, W), or (N, C, 1, 1) if the window covers the whole map. It has the type of `x`. Sums are
        at least float32.
    """
    height, width = x.shape[-2:]
    if window[0] >= height and window[1] >= width:
        return x.mean((-2, -1), keepdim=True)
    mean = _running_mean(_running_mean(at_least_float32(x), min(window[0], height), -2), min(window[1], width), -1)
    lost_h, lost_w = height - mean.shape[-2], width - mean.shape[-1]
    margins = (lost_w // 2, (lost_w + 1) // 2, lost_h // 2, (lost_h + 1) // 2)
    return F.pad(mean, margins, mode='replicate').to(x.dtype)


def _running_mean(x, window, dim):
    """Return the means of `window` successive elements along `dim`.

    Each sum is computed from the previous one by adding and subtracting an element, which has smaller rounding errors
    than the difference of two cumulative sums.
    """
    moves = x.shape[dim] - window
    first = x.narrow(dim, 0, window).sum(dim, keepdim=True)
    change = x.narrow(dim, window, moves) - x.narrow(dim, 0, moves)
    return torch.cat((first, change), dim).cumsum(dim) / window
