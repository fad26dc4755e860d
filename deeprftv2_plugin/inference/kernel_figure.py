"""A figure of the kernels that Fourier Kernel Estimators apply to an image."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deeprftv2_plugin.inference.kernels import Estimator, crop_to_radius, spread, transfer_modulus
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.utils.errors import UserError

FORMATS = ('.png', '.webp', '.pdf', '.svg')
CHANNELS = 3
"""Number of single channels shown."""
DECIBELS = 40
"""Range of the magnitudes shown, in decibels below the largest one of a panel."""
RADII = (6, 20)
"""Smallest and largest radius of the point spread functions shown, in pixels."""
CAPTION = (
    'Kernels: positive values are red, negative ones blue; square root, scaled to the largest value. Below: magnitudes '
    f'of the transfer functions,\nfrequency zero in the center, from the largest value (bright) to {DECIBELS} dB less '
    f'(dark). Below the image: its power spectrum, to {2 * DECIBELS} dB less.'
)


class Panel(NamedTuple):
    """A column of an estimator: an image or a kernel, and below it the magnitude of its Fourier transform."""

    title: str
    above: Tensor
    """Kernel (h, w), or image (H, W, 3)."""
    below: Tensor
    """Modulus (h, w)."""


def figure_class() -> type:
    """Return matplotlib's `Figure` class.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the figure needs matplotlib: pip install 'deeprftv2-plugin[demo]'") from error
    return Figure


def draw_kernels(estimators: Sequence[Estimator], image: Tensor, file_format: str) -> bytes:
    """Draw the kernels for the first image.

    The columns show the image, the true kernel if it is known, the mean over channels, the strongest channels, and with
    several images the strongest channel minus its mean over the images.

    Args:
        estimators: The estimators from `kernels.analyze`.
        image: The first image (3, H, W) in [0, 1].
        file_format: 'png', 'webp', 'pdf' or 'svg'.

    Returns:
        The content of the file.

    Raises:
        UserError: matplotlib is not installed.
    """
    lines = [list(_panels(estimator, image)) for estimator in estimators]
    figure = figure_class()(figsize=(1.35 * len(lines[0]), 2.9 * len(lines) + 0.4), layout='constrained')
    parts = figure.subfigures(len(lines), 1, squeeze=False)[:, 0]
    for estimator, panels, part in zip(estimators, lines, parts, strict=True):
        part.suptitle(describe(estimator), fontsize=8, x=0.005, ha='left')
        radius = _shown_radius(estimator)
        for (above, below), panel in zip(part.subplots(2, len(panels), squeeze=False).T, panels, strict=True):
            above.set_title(panel.title, fontsize=7, pad=2)
            for axis in (above, below):
                axis.set_axis_off()
            if panel.above.ndim == 3:
                above.imshow(panel.above.clamp(0, 1).numpy())
            else:
                _show_kernel(above, crop_to_radius(panel.above, radius))
            decibels = 20 * torch.log10(panel.below / panel.below.max() + 1e-9)
            below.imshow(decibels.numpy(), cmap='magma', vmin=-DECIBELS * (2 if panel.above.ndim == 3 else 1), vmax=0)
    figure.supxlabel(CAPTION, fontsize=7)
    content = io.BytesIO()
    figure.savefig(content, format=file_format, dpi=100)
    return content.getvalue()


def describe(estimator: Estimator) -> str:
    """Return the statistics of an estimator as one or two lines of text."""
    radius = _shown_radius(estimator)
    share = float(spread(estimator.psf)[min(radius, len(spread(estimator.psf)) - 1)])
    text = (
        f'Stage {estimator.stage}, {estimator.scale} scale, {estimator.psf.shape[1]} channels: '
        f'{share:.0%} of the power within {radius} pixels'
    )
    if estimator.varying is not None:
        text += f', {estimator.varying:.0%} of the power changes between {len(estimator.psf)} images'
    if (found := estimator.likeness) is not None:
        text += (
            f'\ncorrelation with the true kernel: mean over channels {found.mean:.2f}, best channel {found.best:.2f} '
            f'(controls: true kernel turned by 90° {found.turned:.2f}, impulse {found.impulse:.2f})'
        )
    return text


def _shown_radius(estimator: Estimator) -> int:
    truths = [max(truth.shape) // 2 for truth in estimator.truths]
    return max([min(max(estimator.radius, RADII[0]), RADII[1]), *truths])


def _panels(estimator: Estimator, image: Tensor) -> Iterator[Panel]:
    psf, channel = estimator.psf[0], estimator.strongest[0]
    scaled = half_scale(image[None])[0] if estimator.scale == 'half' else image
    window = torch.outer(*(torch.hann_window(length, periodic=False) for length in scaled.shape[-2:]))
    yield Panel('image', scaled.permute(1, 2, 0), transfer_modulus((scaled.mean(0) - scaled.mean()) * window))
    if estimator.truths:
        yield _panel('true kernel', crop_to_radius(estimator.truths[0], max(psf.shape[-2:]) // 2))
    yield _panel('mean over channels', psf.mean(0))
    for each in estimator.strongest[:CHANNELS]:
        yield _panel(f'channel {each}', psf[each])
    if estimator.varying is not None:
        yield _panel(f'channel {channel} − mean', psf[channel] - estimator.psf[:, channel].mean(0))


def _panel(title: str, kernel: Tensor) -> Panel:
    return Panel(title, kernel, transfer_modulus(kernel))


def _show_kernel(axis: Any, kernel: Tensor) -> None:
    values = kernel.sign() * kernel.abs().sqrt()
    largest = float(values.abs().max()) or 1.0
    axis.imshow(values.numpy(), cmap='RdBu_r', vmin=-largest, vmax=largest, interpolation='nearest')
