"""Report of the quickstart: a table of scores of held-out photographs, and a figure with images and kernels."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from deeprftv2_plugin import register
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import load_network
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.data.storage.photographs import REAL_BLUR, photograph
from deeprftv2_plugin.inference.restoration import restore

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

DATA = Path('datasets/quickstart')
WEIGHTS = Path('experiments/train_quickstart/models/net_g_latest.safetensors')  # contains the settings of the network
FIGURE = Path('results/quickstart.png')


def main() -> None:
    register()
    net = load_network(WEIGHTS)
    samples = {sample['lq_path']: sample for sample in held_out()}
    restored = {name: restore(net, sample['lq'][None])[0] for name, sample in samples.items()}
    scores = {name: score(sample, restored[name]) for name, sample in samples.items()}
    print_table(scores)
    shown = max(scores, key=lambda name: scores[name][1] - scores[name][0])
    draw(net, samples[shown], restored[shown], np.load(DATA / 'test_kernels.npz')[shown])
    print(f'\nwrote {FIGURE}')


def held_out() -> list[dict]:
    """Return the samples of the held-out photographs."""
    from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset

    dataset = PairedDeblurDataset(
        {'phase': 'test', 'dataroot_lq': str(DATA / 'test_blur.lmdb'), 'dataroot_gt': str(DATA / 'test_sharp.lmdb')}
    )
    return [dataset[i] for i in range(len(dataset))]


def score(sample: dict, restored: Tensor) -> list[float]:
    """Return the PSNR of the blurry and the restored image, and the SSIM of both, on 8-bit RGB as in `basicsr test`."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    images, sharp = [to_bytes(image) for image in (sample['lq'], restored)], to_bytes(sample['gt'])
    return [metric(image, sharp, crop_border=0) for metric in (calculate_psnr, calculate_ssim) for image in images]


def print_table(scores: dict[str, list[float]]) -> None:
    """Print the metrics of every image and their mean."""
    rows = {**scores, 'mean': np.mean(list(scores.values()), axis=0)}
    print(f'\n{"held-out image":18}{"PSNR blurry":>13}{"restored":>10}{"gain":>8}{"SSIM blurry":>14}{"restored":>10}')
    for name, (blurry, better, ssim, better_ssim) in rows.items():
        print(f'{name:18}{blurry:13.2f}{better:10.2f}{better - blurry:+8.2f}{ssim:14.4f}{better_ssim:10.4f}')


def to_bytes(image: Tensor) -> np.ndarray:
    """Convert an image (C, H, W) in [0, 1] to 8-bit (H, W, C)."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def draw(net: DeepRFTv2, sample: dict, restored: Tensor, kernel: np.ndarray) -> None:
    """Draw a held-out image with its kernel, kernels of the estimator, and a photograph with real blur."""
    clock = to_tensor(cv2.cvtColor(cv2.imread(str(photograph(REAL_BLUR))), cv2.COLOR_BGR2RGB))
    figure = plt.figure(figsize=(10, 9.2), layout='constrained')
    images, kernels, photographs = figure.subfigures(3, 1, height_ratios=[1, 0.5, 0.8])

    images.suptitle('most improved part of the held-out image with the largest gain', fontsize=9)
    part = most_improved(sample, restored)
    panels = (('blurry', sample['lq']), ('restored', restored), ('sharp', sample['gt']))
    show(images.subplots(1, 3), [(title, to_bytes(image[part])) for title, image in panels])
    kernels.suptitle(
        "true kernel, and point spread functions of the estimator's strongest channels\n"
        '(learned without labels in feature space, not estimates of the true kernel)',
        fontsize=9,
    )
    psfs = strongest_kernels(net, sample['lq'][part])
    show(
        kernels.subplots(1, 1 + len(psfs)), [('true', kernel), *((f'channel {c}', psf) for c, psf in psfs)], cmap='gray'
    )
    show(
        photographs.subplots(1, 2),
        [('photograph with real blur', to_bytes(clock)), ('restored', to_bytes(restore(net, clock[None])[0]))],
    )
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=100)


def most_improved(sample: dict, restored: Tensor, size: int = 96) -> tuple:
    """Return the index of the square window with the largest reduction of the squared error."""
    reduction = (sample['lq'] - sample['gt']).square() - (restored - sample['gt']).square()
    windows = torch.nn.functional.avg_pool2d(reduction.mean(0)[None], size, stride=1)[0]
    top, left = divmod(windows.argmax().item(), windows.shape[1])
    return ..., slice(top, top + size), slice(left, left + size)


def show(axes: Sequence[Axes], panels: Iterable[tuple[str, np.ndarray | Tensor]], **settings: Any) -> None:
    """Show titled images on axes."""
    for axis, (title, image) in zip(axes, panels, strict=True):
        axis.imshow(image, **settings)
        axis.set_title(title, fontsize=9)
        axis.axis('off')


def strongest_kernels(net: DeepRFTv2, image: Tensor, count: int = 5, radius: int = 10) -> list[tuple[int, Tensor]]:
    """Return the channels with the most energy in the last full-scale estimator, and the centers of their kernels.

    Kernels are averaged over the windows of the image.
    """
    psf = net.kernels(image[None])[-1].full.psf.mean(0)
    channels = psf.square().sum((1, 2)).topk(count).indices
    row, column = psf.shape[-2] // 2, psf.shape[-1] // 2
    center = psf[channels, row - radius : row + radius + 1, column - radius : column + radius + 1]
    return list(zip(channels.tolist(), torch.unbind(center), strict=True))


if __name__ == '__main__':
    main()
