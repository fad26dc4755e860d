"""Measure whether estimated point spread functions resemble the blur kernels of their images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeprftv2_plugin.inference.kernels import crop_to_radius
from deeprftv2_plugin.ops.fourier import as_complex
from deeprftv2_plugin.ops.otf import psf_from_otf

RADIUS = 32
"""Radius of the windows in which kernels are compared, in pixels. The authors' figures show windows of 65x65 pixels."""


def windows_of(transfer: Tensor, width: int) -> Tensor:
    """Return the central windows of point spread functions, (channels, 2 r + 1, 2 r + 1).

    The radius r is `RADIUS`, or less if the map is smaller.

    Args:
        transfer: Transfer functions (1, 2 channels, h, w // 2 + 1), the real parts first.
        width: Width w of the map.
    """
    height = transfer.shape[2]
    psf = psf_from_otf(as_complex(transfer), (height, width))[0]
    return crop_to_radius(psf, min(RADIUS, (min(height, width) - 1) // 2))


def correlations(estimates: Tensor, truths: Tensor) -> Tensor:
    """Return the largest correlation magnitude over all shifts, with and without a rotation by 180 degrees.

    The same as `inference.kernels.best_match`, for many kernels at once.

    Args:
        estimates: Kernels (..., k, k).
        truths: True kernels (n, l, l).

    Returns:
        Tensor (..., n), 0 for estimates that are zero.
    """
    estimates, truths = estimates.double(), truths.double()
    size = estimates.shape[-1] + truths.shape[-1] - 1
    spectra = torch.fft.rfft2(estimates, s=(size, size))
    columns = []
    for truth in truths:
        best = torch.zeros(estimates.shape[:-2], dtype=torch.float64)
        for moved in (truth, truth.flip(0, 1)):
            product = spectra * torch.fft.rfft2(moved, s=(size, size)).conj()
            best = torch.maximum(best, torch.fft.irfft2(product, s=(size, size)).abs().amax((-2, -1)))
        norm = estimates.square().sum((-2, -1)).sqrt() * truth.norm()
        columns.append(torch.where(norm > 0, best / norm.clamp(min=1e-300), 0))
    return torch.stack(columns, -1)


def matching(found: Tensor) -> dict[str, float]:
    """Summarize how well estimates match their own true kernels.

    Args:
        found: Correlations (..., n, n) of n estimates with n true kernels. Each estimate on the diagonal belongs to its
            true kernel.

    Returns:
        'auc', the probability that the estimate for a blur correlates better with the true kernel than the estimate
        for another blur does, which is 0.5 for estimates that do not depend on the blur; and the mean correlations
        'own' and 'other' with the estimate's own kernel and with the others.
    """
    n = found.shape[-1]
    own = found.diagonal(dim1=-2, dim2=-1)[..., None, :]  # compared within columns, each of which has one true kernel
    different = ~torch.eye(n, dtype=torch.bool)
    wins = (own > found).double() + 0.5 * (own == found)
    return {
        'auc': float(wins[..., different].mean()),
        'own': float(own.mean()),
        'other': float(found[..., different].mean()),
    }


def blur_specific(psf: Tensor) -> Tensor:
    """Return the mean over images minus the mean over images and blurs, (images, blurs, ...) to (blurs, ...)."""
    means = psf.mean(0)
    return means - means.mean(0)


def power_shares(psf: Tensor) -> dict[str, float]:
    """Return the shares of the power of kernels that vary with the image, the blur, both, or neither.

    Args:
        psf: Kernels (images, blurs, ...) of at least two images and two blurs.

    Returns:
        Variance components divided by the mean power: 'image', 'blur', 'both' (the interaction and noise), and
        'static', the rest. The estimates are unbiased and can therefore be negative.

    References:
        Searle, Casella and McCulloch, "Variance Components", 1992: two-way crossed classification, random effects.
    """
    x = psf.double().flatten(2)
    images, blurs = x.shape[:2]
    mean, by_image, by_blur = x.mean((0, 1)), x.mean(1, keepdim=True), x.mean(0, keepdim=True)
    squares = {
        'image': float(blurs * (by_image - mean).square().sum() / (images - 1)),
        'blur': float(images * (by_blur - mean).square().sum() / (blurs - 1)),
        'both': float((x - by_image - by_blur + mean).square().sum() / ((images - 1) * (blurs - 1))),
    }
    power = float(x.square().sum(-1).mean())
    shares = {
        'image': (squares['image'] - squares['both']) / blurs / power,
        'blur': (squares['blur'] - squares['both']) / images / power,
        'both': squares['both'] / power,
    }
    return {'static': 1 - sum(shares.values()), **shares}


def identified(psf: Tensor, photographs: Sequence[str]) -> float:
    """Return the accuracy of a nearest-mean classifier that predicts the blur of a kernel.

    The class means are those over the other photographs. The mean over blurs is first subtracted for each image.

    Args:
        psf: Kernels (images, blurs, ...).
        photographs: Name of the photograph from which each image was cropped, at least two different ones.
    """
    x = psf.double().flatten(2)
    x = x - x.mean(1, keepdim=True)
    hits = []
    for i, photograph in enumerate(photographs):
        others = x[[j for j, name in enumerate(photographs) if name != photograph]].mean(0)
        hits.append((torch.cdist(x[i], others).argmin(1) == torch.arange(x.shape[1])).double().mean())
    return float(torch.stack(hits).mean())


def summarize(psf: Tensor, truths: Tensor, photographs: Sequence[str]) -> dict[str, Any]:
    """Return all statistics of one estimator.

    Args:
        psf: Kernels (images, blurs, channels, k, k).
        truths: True kernels (blurs, l, l) at the scale of the estimator.
        photographs: Name of the photograph from which each image was cropped.

    Returns:
        'channel_mean' and 'channels', the results of `matching` for `blur_specific` kernels averaged over channels and
        for those of each channel; 'power', see `power_shares`; and 'identified'.
    """
    specific = blur_specific(psf)  # (blurs, channels, k, k)
    return {
        'channel_mean': matching(correlations(specific.mean(1), truths)),
        'channels': matching(correlations(specific.transpose(0, 1), truths)),
        'power': power_shares(psf),
        'identified': identified(psf, photographs),
    }


def divided(blurry: Tensor, reference: Tensor) -> Tensor:
    r"""Estimate a kernel from two images by spectral division, the regularized least-squares estimate

    .. math:: k = F^{-1} \frac{\overline{F x}\, F y}{|F x|^2 + \varepsilon}

    for the gray values of the blurry image y and the reference x under a Hann window, where :math:`\varepsilon` is
    0.001 times the mean power. Any sharper image yields the true kernel, with or without a network.

    Args:
        blurry: Image (3, h, w).
        reference: Sharper image (3, h, w).

    Returns:
        Kernel (2 r + 1, 2 r + 1) with r = `RADIUS`.
    """
    y, x = _windowed_spectrum(blurry), _windowed_spectrum(reference)
    power = x.abs().square()
    height, width = blurry.shape[1:]
    return crop_to_radius(psf_from_otf(x.conj() * y / (power + 1e-3 * power.mean()), (height, width)), RADIUS)


def log_power(image: Tensor) -> Tensor:
    """Return the logarithm of the power spectrum (h, w // 2 + 1) of an image (3, h, w), a control for `identified`.

    The spectrum is that of the gray values under a Hann window, plus 0.001 times its mean. A blur adds a term that
    hardly depends on the image, so it identifies blurs without a network.
    """
    power = _windowed_spectrum(image).abs().square()
    return (power + 1e-3 * power.mean()).log()


def _windowed_spectrum(image):
    """Return the spectrum (h, w // 2 + 1) of the gray values of an image, without their mean, under a Hann window."""
    gray = image.double().mean(0)
    rows, columns = (torch.hann_window(length, dtype=torch.float64) for length in gray.shape)
    return torch.fft.rfft2((gray - gray.mean()) * rows[:, None] * columns)


def read_out(
    blurry: Sequence[Sequence[Tensor]], reference: Callable[[int, int], Tensor], truths: Tensor
) -> dict[str, float]:
    """Return how well kernels from spectral division match the true ones, see `matching`.

    Args:
        blurry: Blurry images (3, h, w) by image and blur.
        reference: Returns the reference image (3, h, w), given the indices of the image and the blur.
        truths: True kernels (blurs, l, l).
    """
    found = torch.stack(
        [
            correlations(torch.stack([divided(each, reference(i, b)) for b, each in enumerate(row)]), truths)
            for i, row in enumerate(blurry)
        ]
    )
    return matching(found)


def unsharp_mask(image: Tensor, sigma: float = 2.0, amount: float = 1.0) -> Tensor:
    """Sharpen an image (3, h, w) with an unsharp mask, clipped to [0, 1]."""
    import cv2

    array = image.permute(1, 2, 0).numpy()
    blurred = cv2.GaussianBlur(array, (0, 0), sigma)
    return torch.from_numpy(np.clip(array + amount * (array - blurred), 0, 1)).permute(2, 0, 1)
