"""Draw docs/deblurred.webp: crops of held-out photographs, blurry, restored with the bundled weights, and sharp."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from deeprftv2_plugin import load
from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset
from deeprftv2_plugin.inference.photographs.writing import convert
from deeprftv2_plugin.metrics.pixelwise import to_decibel

TARGET = Path(__file__).parents[1] / 'docs/deblurred.webp'
SIZE = 256
BLUR = {'type': 'CameraShake', 'length': [8, 15]}
ROWS = ((0, (0, 96), 2), (1, (60, 140), 0))
"""Index of the held-out photograph, top left corner of the crop, and seed of the blur."""


def main() -> None:
    restore = load(device='cpu')
    rows = []
    for index, (top, left), seed in ROWS:
        sample = SyntheticBlurDataset({'phase': 'test', 'name': 'held-out', 'seed': seed, 'blurs': [BLUR]})[index]
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
    return to_decibel(F.mse_loss(image, sharp).item(), 1)


def with_kernel(image: Tensor, kernel: Tensor, scale: int = 3) -> Tensor:
    """Draw the kernel (1, k, k) enlarged into the bottom left corner of an image (3, h, w)."""
    inset = F.interpolate((kernel / kernel.max())[None], scale_factor=scale)[0]
    image = image.clone()
    image[:, -inset.shape[1] :, : inset.shape[2]] = inset
    return image


def panel(image: Tensor, caption: str) -> np.ndarray:
    """Return an image (3, h, w) in [0, 1] as RGB of 8 bits, enlarged by 1.25, with a caption and a margin."""
    pixels = convert(image.clamp(0, 1).permute(1, 2, 0).numpy(), np.uint8)
    side = SIZE * 5 // 4
    found = Image.new('RGB', (side + 8, side + 30), 'white')
    found.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS), (4, 26))
    ImageDraw.Draw(found).text((6, 4), caption, 'black', ImageFont.load_default(15))
    return np.asarray(found)


if __name__ == '__main__':
    main()
