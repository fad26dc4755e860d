"""Measure whether a network's transfer functions depend on the blur.

Every image is blurred by every known kernel. The network restores each result with the transfer functions that it
estimates, and with those estimated for other blurs and images. docs/evidence.md describes the protocol.
"""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeprftv2_plugin.data.blur.camera import blur_window
from deeprftv2_plugin.data.blur.kernels import center_pad_or_crop, disc, gaussian
from deeprftv2_plugin.data.blur.trajectory import random_kernel
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.layers.fourier_kernel_estimator import FourierKernelEstimator
from deeprftv2_plugin.metrics.pixelwise import to_decibel

SHAKES = 8
"""Number of random camera shakes per seed."""
LENGTH = (5.0, 15.0)
"""Range of the path lengths of camera shakes, in pixels."""
DISCS = (1.5, 2.5)
"""Radii of discs, in pixels."""
GAUSSIANS = (1.0, 1.5)
"""Standard deviations of Gaussians, in pixels."""
BORDER = 16
"""Width of the border that is not scored, in pixels. The blur is not a circular convolution there."""

Transfers = dict[str, Tensor]
"""Transfer functions (1, 2 channels, h, w // 2 + 1), real parts first, by the name of the estimator."""


@dataclass(frozen=True)
class Grid:
    """Every image blurred by every kernel."""

    images: list[str]
    """Names of the images."""
    photographs: list[str]
    """Name of the photograph from which each image was cropped."""
    blurs: list[str]
    """Names of the blurs."""
    kernels: list[np.ndarray]
    """Blur kernels (k, k)."""
    sharp: list[Tensor]
    """Sharp images (3, h, w) in [0, 1]."""
    blurry: list[list[Tensor]]
    """Blurry images (3, h, w) in [0, 1], by image and blur."""


def draw_kernels(seed: int, further: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return blur kernels by name: random camera shakes, discs, Gaussians, and the given ones.

    Args:
        seed: Seed of the camera shakes.
        further: Additional kernels (k, k) by name.
    """
    rng = np.random.default_rng([seed, 15])  # independent of the seeds of the datasets
    return {
        **{f'shake {number}': random_kernel(rng, LENGTH) for number in range(SHAKES)},
        **{f'disc {radius}': disc(radius) for radius in DISCS},
        **{f'Gaussian {sigma}': gaussian(sigma) for sigma in GAUSSIANS},
        **further,
    }


def make_grid(photographs: Mapping[str, np.ndarray], kernels: Mapping[str, np.ndarray], size: int, seed: int) -> Grid:
    """Blur two crops of every photograph with every kernel, in linear light and with sensor noise.

    Args:
        photographs: Arrays (H, W, 3) of uint8 or uint16 by name, H and W at least twice the size. The crops are at the
            centers of the upper left and the lower right quarter.
        kernels: Kernels (k, k) by name.
        size: Height and width of a crop in pixels.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng([seed, 16])
    grid = Grid([], [], list(kernels), list(kernels.values()), [], [])
    for name, photograph in photographs.items():
        for number, quarter in enumerate((1, 3)):
            top, left = (length * quarter // 4 - size // 2 for length in photograph.shape[:2])
            window = slice(top, top + size), slice(left, left + size)
            grid.images.append(f'{name} {number}')
            grid.photographs.append(name)
            grid.sharp.append(to_tensor(photograph[window]))
            blurry = [blur_window(photograph, window, kernel, rng)[0] for kernel in grid.kernels]
            grid.blurry.append([to_tensor(each) for each in blurry])
    return grid


def estimators_of(net: nn.Module) -> dict[str, FourierKernelEstimator]:
    """Return the Fourier Kernel Estimators of a network by name."""
    return {name: each for name, each in net.named_modules() if isinstance(each, FourierKernelEstimator)}


def label_of(name: str) -> str:
    """Return the label of an estimator in tables and figures: 'stage 1, full scale' for stages.0.full_estimator."""
    found = re.fullmatch(r'stages\.(\d+)\.(\w+)_estimator', name)
    return f'stage {int(found[1]) + 1}, {found[2]} scale' if found else name


@contextmanager
def replaced_transfers(net: nn.Module, transfers: Transfers) -> Iterator[Transfers]:
    """Replace the transfer functions that a network estimates, within the block.

    Args:
        net: The network.
        transfers: Replacements by the name of the estimator. Other estimators are not affected.

    Yields:
        A dictionary to which each forward pass writes the transfer functions that are not replaced.
    """
    seen: Transfers = {}

    def hook(name: str) -> Callable[..., Tensor | None]:
        def replace(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            if name in transfers:
                return transfers[name].to(output)
            seen[name] = output.clone()
            return None

        return replace

    handles = [each.to_otf.register_forward_hook(hook(name)) for name, each in estimators_of(net).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def restore_with(net: nn.Module, blurry: Tensor, transfers: Transfers | None = None) -> tuple[Tensor, Transfers]:
    """Restore an image (3, h, w) in [0, 1], optionally with replaced transfer functions.

    Returns:
        The restored image (3, h, w) in [0, 1], and the transfer functions that were not replaced.
    """
    with replaced_transfers(net, transfers or {}) as seen:
        restored = net(blurry[None])[0]
    return restored.clamp(0, 1), seen


def mean_transfers(found: Sequence[Transfers]) -> Transfers:
    """Return the mean transfer functions of each estimator."""
    return {name: torch.stack([each[name] for each in found]).mean(0) for name in found[0]}


CONDITIONS = ('blurry', 'intact', 'mean', 'blur_mean', 'other_image', 'other_blur', 'other_both', 'zero')
"""The images that are scored. 'blurry' is the input. The others are restored with the transfer functions

- 'intact': estimated for the image itself,
- 'mean': the mean over all images and blurs,
- 'blur_mean': the mean over the images of other photographs with the same blur,
- 'other_image': of an image of another photograph with the same blur,
- 'other_blur': of the same image with another blur,
- 'other_both': of an image of another photograph with another blur,
- 'zero': zero, which leaves only the skip connection around the filter.
"""


def intervene(
    net: nn.Module,
    grid: Grid,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    visit: Callable[[int, int, Transfers, Tensor], None] = lambda *_: None,
) -> dict[str, np.ndarray]:
    """Restore every blurry image with its own transfer functions and with others.

    Args:
        net: The network in evaluation mode, on the CPU.
        grid: The images.
        seed: Seed of the choice of the other image and the other blur.
        say: Called with progress messages.
        visit: Called with the indices of the image and the blur, the transfer functions estimated for it, and the
            restored image.

    Returns:
        PSNR in dB, (images, blurs), by the name of the condition, see `CONDITIONS`.
    """
    rng = np.random.default_rng([seed, 17])
    images, blurs = range(len(grid.images)), range(len(grid.blurs))
    own: list[list[Transfers]] = []
    scores = {name: np.zeros((len(images), len(blurs))) for name in CONDITIONS}
    for i in images:
        own.append([])
        for b in blurs:
            restored, found = restore_with(net, grid.blurry[i][b])
            own[i].append(found)
            scores['blurry'][i, b] = score(grid.blurry[i][b], grid.sharp[i])
            scores['intact'][i, b] = score(restored, grid.sharp[i])
            visit(i, b, found, restored)
        say(f'own transfer functions: image {i + 1} of {len(images)}')
    everything = mean_transfers([each for row in own for each in row])
    zero = {name: torch.zeros_like(each) for name, each in everything.items()}
    for i in images:
        others = [j for j in images if grid.photographs[j] != grid.photographs[i]]
        for b in blurs:
            j = int(rng.choice(others))
            c = int(rng.choice([each for each in blurs if each != b]))
            replacements = {
                'mean': everything,
                'blur_mean': mean_transfers([own[each][b] for each in others]),
                'other_image': own[j][b],
                'other_blur': own[i][c],
                'other_both': own[j][c],
                'zero': zero,
            }
            for name, transfers in replacements.items():
                scores[name][i, b] = score(restore_with(net, grid.blurry[i][b], transfers)[0], grid.sharp[i])
        say(f'other transfer functions: image {i + 1} of {len(images)}')
    return scores


def score(image: Tensor, sharp: Tensor) -> float:
    """Return the PSNR in dB of an image (3, h, w) in [0, 1] without its border."""
    inner = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    return to_decibel(float((image[inner].double() - sharp[inner]).square().mean()), 1)


def dependence(
    scores: Sequence[Mapping[str, np.ndarray]],
    photographs: Sequence[str],
    blurs: Sequence[Sequence[Hashable]],
    draws: int = 2000,
) -> dict[str, dict[str, Any]]:
    """Summarize the scores of several seeds.

    Args:
        scores: The result of `intervene` for each seed.
        photographs: Name of the photograph from which each image was cropped.
        blurs: For each seed, a key for each blur. Blurs with the same key in several seeds have the same kernel.
        draws: Number of bootstrap samples. Photographs and kernels are resampled.

    Returns:
        For each condition: the mean 'psnr'; the mean 'cost', which is the PSNR of 'intact' minus that of the condition;
        'by_seed', the cost for each seed; 'spread', the sample standard deviation over the seeds, None for one seed;
        and 'interval', a 95 % confidence interval of the mean cost. 'excess' has the same, except for 'psnr', for the
        cost of another blur minus the cost of another image.
    """
    cost = {name: [each['intact'] - each[name] for each in scores] for name in CONDITIONS}
    cost['excess'] = [blur - image for blur, image in zip(cost['other_blur'], cost['other_image'], strict=True)]
    summary: dict[str, dict[str, Any]] = {}
    for name, values in cost.items():
        by_seed = [float(each.mean()) for each in values]
        summary[name] = {
            **({} if name == 'excess' else {'psnr': float(np.mean([each[name] for each in scores]))}),
            'cost': float(np.mean(by_seed)),
            'by_seed': by_seed,
            'spread': float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
            'interval': _interval(values, photographs, blurs, draws),
        }
    return summary


def _interval(values, photographs, blurs, draws):
    """Return the 95 % bootstrap interval of a mean over images, blurs and seeds, resampling photographs and kernels."""
    rng = np.random.default_rng(0)
    names = sorted(set(photographs))
    columns: dict[Hashable, list[np.ndarray]] = {}  # for each kernel, its means over the images of each photograph
    for each, keys in zip(values, blurs, strict=True):
        means = np.stack([each[[p == name for p in photographs]].mean(0) for name in names])
        for key, column in zip(keys, means.T, strict=True):
            columns.setdefault(key, []).append(column)
    sums, counts = np.array([sum(each) for each in columns.values()]), np.array([*map(len, columns.values())])
    drawn = []
    for _ in range(draws):
        kernels, rows = rng.integers(len(sums), size=len(sums)), rng.integers(len(names), size=len(names))
        drawn.append(sums[kernels][:, rows].sum() / (counts[kernels].sum() * len(names)))
    return [float(each) for each in np.percentile(drawn, [2.5, 97.5])]


def padded_kernels(kernels: Sequence[np.ndarray], side: int) -> Tensor:
    """Pad or crop kernels to the same odd size, (n, side, side)."""
    return torch.stack([torch.from_numpy(center_pad_or_crop(each, side)) for each in kernels])
