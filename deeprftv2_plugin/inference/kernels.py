"""Analyze the kernels that Fourier Kernel Estimators apply: their size, variation, and similarity to a blur kernel.

The kernels are point spread functions in feature space, one for each channel and image: arrays (images, channels, h, w)
with the origin at pixel (h // 2, w // 2), as returned by `DeepRFTv2.kernels`. They are compared with blur kernels
(k, k), as returned by `data.blur.kernel_files.read_kernels`.

"Power" is the sum of squares in space. By Parseval's theorem, it is proportional to that of the transfer functions.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2


def estimated_psfs(net: DeepRFTv2, images: Iterable[Tensor]) -> dict[tuple[int, str], Tensor]:
    """Return the point spread functions that a network applies to images.

    Args:
        net: The network, on the device of the images.
        images: Images (channels, H, W) in [0, 1] of equal size, H and W multiples of `net.size_multiple` and not larger
            than the kernel windows.

    Returns:
        Tensors (images, channels, h, w) on the CPU, by the number of the stage, from 1, and the scale, 'half' or
        'full'. They are in the order in which the network applies them.
    """
    found: dict[tuple[int, str], list[Tensor]] = {}
    for image in images:
        for number, stage in enumerate(net.kernels(image[None]), 1):
            for scale in ('half', 'full'):
                found.setdefault((number, scale), []).append(getattr(stage, scale).psf.cpu())
    return {key: torch.cat(psfs) for key, psfs in found.items()}


def strongest_channels(psf: Tensor, count: int) -> list[int]:
    """Return the channels of point spread functions (N, channels, h, w) with the most power, the strongest first."""
    power = psf.square().sum((0, 2, 3))
    return power.topk(min(count, len(power))).indices.tolist()


def spread(psf: Tensor) -> Tensor:
    """Return the share of the power within 0, 1, 2, ... pixels of the origin, in the maximum norm.

    Args:
        psf: Point spread functions (..., h, w). Their power is summed.

    Returns:
        Tensor (r + 1,), where r is the largest distance. Entry i is the share of the central window of
        (2 i + 1) x (2 i + 1) pixels, and the last entry is 1.
    """
    power = psf.double().square().reshape(-1, *psf.shape[-2:]).sum(0)
    rows, columns = ((torch.arange(length) - length // 2).abs() for length in power.shape)
    rings = torch.maximum(rows[:, None], columns)
    within = power.new_zeros(int(rings.max()) + 1).index_add(0, rings.flatten(), power.flatten()).cumsum(0)
    return within / within[-1]


def support_radius(psf: Tensor, share: float = 0.9) -> int:
    """Return the smallest radius in pixels within which a given share of the power lies, see `spread`.

    Args:
        psf: Point spread functions (..., h, w). Their power is summed.
        share: Share of the power, from 0 to 1.
    """
    return int((spread(psf) < share - 1e-9).sum())  # rounding can make the last entry less than 1


def crop_to_radius(psf: Tensor, radius: int) -> Tensor:
    """Return the windows (..., 2 radius + 1, 2 radius + 1) around the origin, zero-padded where necessary."""
    below = [length // 2 - radius for length in psf.shape[-2:]]
    above = [length - length // 2 - radius - 1 for length in psf.shape[-2:]]
    return torch.nn.functional.pad(psf, (-below[1], -above[1], -below[0], -above[0]))


def transfer_modulus(psf: Tensor) -> Tensor:
    """Return the magnitudes (..., h, w) of the transfer functions, with frequency zero at pixel (h // 2, w // 2)."""
    return torch.fft.fftshift(torch.fft.fft2(psf).abs(), dim=(-2, -1))


def varying_share(psf: Tensor) -> float:
    r"""Return the share of the power of kernels that changes with the image.

    .. math:: \frac{\frac{1}{N-1} \sum_n \lVert k_n - \bar k \rVert^2}{\frac{1}{N} \sum_n \lVert k_n \rVert^2}

    with the mean :math:`\bar k` over images. It is 0 for kernels that do not depend on the image, and 1 on average for
    independent kernels of mean zero, for any number of images.

    Args:
        psf: Point spread functions (N, ...) of at least two images.

    Raises:
        ValueError: There are fewer than two images.
    """
    if len(psf) < 2:
        raise ValueError(f'the variation over images needs at least two, found {len(psf)}')
    return float(psf.double().var(0).sum() / psf.double().square().mean(0).sum())


class Match(NamedTuple):
    """The best alignment of a kernel with the true one."""

    correlation: float
    """From -1 to 1. The sign of a kernel in feature space is arbitrary, since learned weights follow it."""
    shift: tuple[int, int]
    """Rows and columns by which the true kernel is shifted, after the flip."""
    flipped: bool
    """Whether the true kernel is rotated by 180 degrees."""


def best_match(psf: Tensor, truth: Tensor) -> Match:
    r"""Return the correlation of a kernel with the true one after the best shift and flip.

    .. math:: \max_{s, f} \frac{\left| \sum_p k(p)\, t_f(p - s) \right|}{\lVert k \rVert\, \lVert t \rVert}

    over all integer shifts s and the true kernel t with and without a rotation by 180 degrees, without wrapping around.
    For nonnegative kernels without the rotation, this is the kernel similarity of Hu and Yang. The means are not
    subtracted, so any two nonnegative kernels correlate. Compare the result with that of an impulse, which is
    :math:`\max t / \lVert t \rVert`, or of another kernel.

    Args:
        psf: The kernel (h, w).
        truth: The true kernel (k, l).

    References:
        Hu and Yang, "Good Regions to Deblur", ECCV 2012.
    """
    psf, truth = psf.double(), truth.double()
    size = [one + other - 1 for one, other in zip(psf.shape, truth.shape, strict=True)]
    norm = float(psf.norm() * truth.norm())
    best = Match(0.0, (0, 0), False)
    for flipped in (False, True):
        moved = truth.flip(0, 1) if flipped else truth
        origin = [(length - 1) // 2 if flipped else length // 2 for length in truth.shape]
        product = torch.fft.rfft2(psf, s=size) * torch.fft.rfft2(moved, s=size).conj()
        found = torch.fft.irfft2(product, s=size)
        index = int(found.abs().argmax())
        correlation = float(found.flatten()[index]) / norm if norm else 0.0
        if abs(correlation) > abs(best.correlation) + 1e-9:  # rounding must not rotate a symmetric kernel
            # the first h entries have lags from 0, the others negative lags that end at -1
            entries = zip(divmod(index, size[1]), size, psf.shape, origin, strict=True)
            row, column = ((i - length if i >= h else i) + o - h // 2 for i, length, h, o in entries)
            best = Match(correlation, (row, column), flipped)
    return best


def impulse_correlation(truth: Tensor) -> float:
    """Return the correlation of an impulse with a kernel (k, l) after the best shift, a control for `best_match`."""
    return float(truth.abs().max() / truth.norm())


def half_scale_kernel(kernel: Tensor) -> Tensor:
    """Resample a kernel (k, l) with the origin at (k // 2, l // 2) to half scale by linear interpolation.

    The sum is preserved, and the distance of the centroid from the origin is halved.
    """
    for dim in (0, 1):
        origin = kernel.shape[dim] // 2
        reach = (origin + 1) // 2
        positions = (torch.arange(kernel.shape[dim], dtype=kernel.dtype) - origin) / 2
        weights = (1 - (torch.arange(-reach, reach + 1)[:, None] - positions).abs()).clamp(min=0)
        kernel = torch.tensordot(weights, kernel, dims=([1], [dim])).movedim(0, dim)
    return kernel


class Likeness(NamedTuple):
    """Magnitudes of the correlations with the true kernels after the best shift and flip, averaged over images."""

    mean: float
    """Correlation of the mean over channels."""
    best: float
    """Correlation of the best channel."""
    turned: float
    """Correlation of the best channel with the true kernel rotated by 90 degrees, a control for `best`."""
    impulse: float
    """Correlation of an impulse, a control for all of them."""


def likeness(psf: Tensor, truths: Sequence[Tensor]) -> Likeness:
    """Compare kernels with the true ones.

    Args:
        psf: Point spread functions (images, channels, h, w).
        truths: The true kernel of each image at the scale of `psf`.
    """

    def best(kernels: Iterable[Tensor], truth: Tensor) -> float:
        return max(abs(best_match(kernel, truth).correlation) for kernel in kernels)

    rows = [
        (
            best([kernels.mean(0)], truth),
            best(kernels, truth),
            best(kernels, truth.rot90()),
            impulse_correlation(truth),
        )
        for kernels, truth in zip(psf, truths, strict=True)
    ]
    return Likeness(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))


class Estimator(NamedTuple):
    """The kernels that a Fourier Kernel Estimator applies to images, and their statistics."""

    stage: int
    """Number of the stage, from 1."""
    scale: str
    """'half' or 'full'."""
    psf: Tensor
    """Point spread functions (images, channels, h, w)."""
    radius: int
    """`support_radius` over all images and channels."""
    strongest: list[int]
    """All channels, the one with the most power first."""
    varying: float | None
    """`varying_share` over all channels, None for a single image."""
    truths: list[Tensor]
    """The true kernel of each image at this scale; empty if unknown."""
    likeness: Likeness | None
    """The comparison with the true kernels; None if unknown."""


def analyze(net: DeepRFTv2, images: Sequence[Tensor], truths: Sequence[Tensor] = ()) -> list[Estimator]:
    """Analyze the kernels that a network applies.

    Args:
        net: The network.
        images: Images as in `estimated_psfs`.
        truths: The true kernel (k, l) of each image; empty if unknown.

    Returns:
        The estimators in the order in which the network applies them.
    """
    found = []
    for (stage, scale), psf in estimated_psfs(net, images).items():
        scaled = [half_scale_kernel(truth) if scale == 'half' else truth for truth in truths]
        found.append(
            Estimator(
                stage,
                scale,
                psf,
                support_radius(psf),
                strongest_channels(psf, psf.shape[1]),
                varying_share(psf) if len(psf) > 1 else None,
                scaled,
                likeness(psf, scaled) if scaled else None,
            )
        )
    return found
