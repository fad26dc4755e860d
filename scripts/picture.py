"""Draw docs/deblurred.webp: crops of held-out photographs, blurry, restored with the shipped weights, and sharp."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from deeprftv2_plugin import load
from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset

TARGET = Path(__file__).parents[1] / 'docs/deblurred.webp'
SIZE = 256
ROWS: tuple[tuple[int, tuple[int, int], int, dict[str, Any]], ...] = (
    (0, (0, 96), 2, {'type': 'CameraShake', 'length': [8, 15]}),
    (1, (60, 140), 0, {'type': 'CameraShake', 'length': [8, 15]}),
)
"""Index of the held-out photograph, top left corner of the crop, seed and blur."""


def main() -> None:
    restore = load(device='cpu')
    rows = []
    for index, (top, left), seed, blur in ROWS:
        sample = SyntheticBlurDataset({'phase': 'test', 'name': 'held-out', 'seed': seed, 'blurs': [blur]})[index]
        blurry, sharp = (sample[key][:, top : top + SIZE, left : left + SIZE] for key in ('lq', 'gt'))
        restored = restore(blurry)
        panels = [
            panel(with_kernel(blurry, sample['kernel']), f'blurry, {psnr(blurry, sharp):.2f} dB'),
            panel(restored, f'restored, {psnr(restored, sharp):.2f} dB'),
            panel(sharp, 'sharp'),
        ]
        rows.append(np.hstack(panels))
    Image.fromarray(np.vstack(rows)).save(TARGET, quality=90)
    print(f'wrote {TARGET}')


def psnr(image: Tensor, sharp: Tensor) -> float:
    """Return the PSNR in dB of an image with values in [0, 1]."""
    return -10 * torch.log10(F.mse_loss(image, sharp)).item()


def with_kernel(image: Tensor, kernel: Tensor, scale: int = 3) -> Tensor:
    """Draw the kernel (1, k, k) enlarged into the bottom left corner of an image (3, h, w)."""
    inset = F.interpolate((kernel / kernel.max())[None], scale_factor=scale)[0]
    image = image.clone()
    image[:, -inset.shape[1] :, : inset.shape[2]] = inset
    return image


def panel(image: Tensor, caption: str) -> np.ndarray:
    """Return an image (3, h, w) in [0, 1] as RGB of 8 bits, enlarged by 1.25, with a caption and a margin."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    side = SIZE * 5 // 4
    found = Image.new('RGB', (side + 8, side + 30), 'white')
    found.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS), (4, 26))
    ImageDraw.Draw(found).text((6, 4), caption, 'black', ImageFont.load_default(15))
    return np.asarray(found)


if __name__ == '__main__':
    main()
