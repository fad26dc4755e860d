"""A figure of the kernel study: true and estimated kernels, and images restored with other transfer functions."""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeprftv2_plugin.evaluation.kernel_matching import blur_specific, windows_of
from deeprftv2_plugin.evaluation.kernel_study import (
    Grid,
    Transfers,
    estimators_of,
    label_of,
    padded_kernels,
    restore_with,
    score,
)
from deeprftv2_plugin.inference.kernel_figure import figure_class
from deeprftv2_plugin.inference.kernels import crop_to_radius, strongest_channels

ROWS = 5
"""Number of blurs shown."""
RADIUS = 10
"""Radius of the kernels shown, in pixels."""


def draw_study(net: nn.Module, grid: Grid, file_format: str) -> bytes:
    """Draw the image with the lowest PSNR before restoration, with the first blurs of a grid.

    The columns show the true kernel; the blur-specific kernels of each full-scale estimator, in the channel where they
    are strongest; and the blurry image, the images restored with the network's own transfer functions, with those of
    the next blur and with zero, and the sharp image. The titles state the PSNR.

    Args:
        net: A network with Fourier Kernel Estimators in evaluation mode, on the CPU.
        grid: The images. The blur-specific kernels are computed from all of them.
        file_format: 'png', 'webp', 'pdf' or 'svg'.

    Returns:
        The content of the file.

    Raises:
        UserError: matplotlib is not installed.
    """
    new_figure = figure_class()  # fails before the computation, which takes minutes
    blurs = range(min(ROWS, len(grid.blurs)))
    own = [[restore_with(net, row[b])[1] for b in blurs] for row in grid.blurry]
    shown = int(
        np.argmin(
            [np.mean([score(each, sharp) for each in row]) for row, sharp in zip(grid.blurry, grid.sharp, strict=True)]
        )
    )
    zero = {name: torch.zeros_like(each) for name, each in own[0][0].items()}
    names = [name for name in estimators_of(net) if not name.endswith('half_estimator')]
    kernels = {name: _specific(own, name, grid) for name in names}
    truths = padded_kernels(grid.kernels, 2 * RADIUS + 1)
    figure = new_figure(figsize=(1.15 * (6 + len(names)), 1.3 * len(blurs) + 0.3), layout='constrained')
    axes = figure.subplots(len(blurs), 6 + len(names), squeeze=False)
    for b, row in zip(blurs, axes, strict=True):
        _show(row[0], truths[b], grid.blurs[b])
        for axis, name in zip(row[1:], names, strict=False):
            _show(axis, kernels[name][b], label_of(name))
        blurry, sharp = grid.blurry[shown][b], grid.sharp[shown]
        restored = {
            'own': restore_with(net, blurry)[0],
            'other blur': restore_with(net, blurry, own[shown][(b + 1) % len(blurs)])[0],
            'zero': restore_with(net, blurry, zero)[0],
        }
        images = {'blurry': blurry, **restored, 'sharp': sharp}
        for axis, (title, image) in zip(row[1 + len(names) :], images.items(), strict=True):
            _show(axis, image, title if title == 'sharp' else f'{title} {score(image, sharp):.2f} dB')
    content = io.BytesIO()
    figure.savefig(content, format=file_format, dpi=110)
    return content.getvalue()


def _specific(own: list[list[Transfers]], name: str, grid: Grid) -> Tensor:
    """Return the blur-specific kernels (blurs, k, k) of an estimator in its strongest channel."""
    width = grid.sharp[0].shape[-1]
    psf = torch.stack([torch.stack([windows_of(each[name], width) for each in row]) for row in own])
    specific = blur_specific(psf)
    return crop_to_radius(specific[:, strongest_channels(specific, 1)[0]], RADIUS)


def _show(axis: Any, content: Tensor, title: str) -> None:
    """Show an image (3, h, w), or a kernel (h, w) with positive values in red and negative values in blue."""
    axis.set_axis_off()
    axis.set_title(title, fontsize=7, pad=2)
    if content.ndim == 3:
        axis.imshow(content.clamp(0, 1).permute(1, 2, 0).numpy())
        return
    largest = float(content.abs().max()) or 1.0
    axis.imshow(content.numpy(), cmap='RdBu_r', vmin=-largest, vmax=largest, interpolation='nearest')
