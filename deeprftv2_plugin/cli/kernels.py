"""`basicsr kernels`: show the kernels that a network applies to an image."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeprftv2_plugin.cli.arguments import add_weights
from deeprftv2_plugin.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2
    from deeprftv2_plugin.inference.kernels import Estimator

LARGEST_CROP = 512

HELP = 'show the kernels that a network applies to an image'
EXAMPLES = """examples:
  basicsr kernels photo.jpg -o kernels.png
  basicsr kernels one.jpg two.jpg three.jpg -o kernels.png --npz kernels.npz --weights weights/gopro.pth
  basicsr kernels blurry.png -o kernels.png --kernel true_kernel.npy

The figure shows the kernels of all Fourier Kernel Estimators for the first image, as point spread functions and as
magnitudes of the transfer functions. With several images, the share of the power that changes between them is printed.
With --kernel, the correlations with the true kernel after the best shift and flip are printed, next to those of
controls. The kernels are learned in feature space without labels and need not resemble a blur."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('images', metavar='IMAGE', nargs='+', help='image; the figure shows the first one')
    parser.add_argument('-o', '--output', required=True, metavar='OUT', help='figure: .png, .webp, .pdf or .svg')
    add_weights(parser)
    parser.add_argument(
        '--kernel', metavar='FILE', help='true kernel, or a file or folder with one for each image (.npy, .mat, ...)'
    )
    parser.add_argument('--variable', metavar='NAME', help='variable of a .mat or .npz file with the true kernels')
    parser.add_argument(
        '--crop',
        type=int,
        metavar='N',
        help='height and width of the central part that is used; default: the part that all images have in common, '
        f'at most {LARGEST_CROP}',
    )
    parser.add_argument('--npz', metavar='FILE', help='write the point spread functions and all numbers')
    parser.add_argument('--device', help='cpu or cuda:N; default: a GPU if there is one')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')


def run(args: argparse.Namespace) -> None:
    """Compute the kernels, print their statistics, and write the figure.

    Raises:
        UserError: The arguments are not valid, or a file cannot be read or written.
    """
    from deeprftv2_plugin.checkpoints.sources import SHIPPED
    from deeprftv2_plugin.inference.kernel_figure import FORMATS, describe, draw_kernels, figure_class
    from deeprftv2_plugin.inference.kernels import analyze
    from deeprftv2_plugin.inference.outputs import require_free, require_writable
    from deeprftv2_plugin.inference.restorer import load

    suffix = Path(args.output).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f'-o {args.output}: expected a name that ends in {", ".join(FORMATS)}')
    if args.npz and Path(args.npz).suffix != '.npz':
        raise UserError(f'--npz {args.npz}: expected a name that ends in .npz')
    for option, path in (('-o', args.output), ('--npz', args.npz)):
        if path:
            require_free(option, Path(path), args.overwrite)
            require_writable(Path(path).parent)
    figure_class()  # fail before the computation, which can take minutes
    truths = _read_truths(args.kernel, args.variable, len(args.images))
    restorer = load(args.weights or SHIPPED, device=args.device)
    images = _read_images(args.images, restorer.net, args.crop)
    estimators = analyze(restorer.net, [image.to(restorer.device) for image in images], truths)
    figure = draw_kernels(estimators, images[0], suffix[1:])
    height, width = images[0].shape[-2:]
    print(f'the central {width}x{height} pixels (width x height)')
    for estimator in estimators:
        print(describe(estimator))
    _write(args.output, figure)
    if args.npz:
        _write(args.npz, _npz(estimators, args.images))


def _read_images(paths: Sequence[str], net: DeepRFTv2, crop: int | None) -> list[Tensor]:
    """Return the central parts of images as tensors (3, H, W) of one size that the network accepts."""
    from deeprftv2_plugin.data.storage.images import to_tensor
    from deeprftv2_plugin.inference.photographs.reading import read

    multiple = net.size_multiple
    if crop is not None and (crop < 2 * multiple or crop % multiple):
        raise UserError(f'--crop is {crop}, expected a multiple of {multiple}, at least {2 * multiple}')
    arrays = [read(path).pixels for path in paths]
    sizes = [array.shape[:2] for array in arrays]
    most = crop or LARGEST_CROP
    stage: Any = net.stages[0]  # nn.ModuleList has no type parameter
    window = stage.full_estimator.window or (most, most)
    size = [min(most, side, *lengths) // multiple * multiple for side, *lengths in zip(window, *sizes, strict=True)]
    if crop is not None and size != [crop, crop]:
        raise UserError(
            f'--crop is {crop}, but an image or the kernel window of the network has only {size[1]}x{size[0]} pixels'
        )
    if min(size) < 2 * multiple:
        raise UserError(f'the images have {size[1]}x{size[0]} pixels in common, expected at least {2 * multiple}')
    images = []
    for array in arrays:
        top, left = ((length - side) // 2 for length, side in zip(array.shape, size, strict=False))
        images.append(to_tensor(array[top : top + size[0], left : left + size[1]]).expand(3, -1, -1))
    return images


def _read_truths(path: str | None, variable: str | None, images: int) -> list[Tensor]:
    import torch

    from deeprftv2_plugin.data.blur.kernel_files import read_kernels

    if path is None:
        if variable is not None:
            raise UserError('--variable is the variable in the file of --kernel: also set --kernel')
        return []
    found = read_kernels(path, variable)
    if len(found) not in (1, images):
        raise UserError(f'--kernel {path} has {len(found)} kernels, expected one, or one for each of {images} images')
    return [torch.from_numpy(kernel) for kernel in (found if len(found) == images else found * images)]


def _npz(estimators: Sequence[Estimator], names: Sequence[str]) -> bytes:
    """Return the content of an .npz file with all arrays. docs/kernels.md describes their names."""
    import numpy as np

    arrays: dict[str, Any] = {'images': np.array(names)}
    for each in estimators:
        key = f'stage{each.stage}_{each.scale}'
        arrays[f'{key}_psf'] = each.psf.numpy()
        arrays[f'{key}_radius'] = np.array(each.radius)
        if each.varying is not None:
            arrays[f'{key}_varying'] = np.array(each.varying)
        if each.likeness is not None:
            arrays |= {f'{key}_correlation_{name}': np.array(value) for name, value in each.likeness._asdict().items()}
            arrays |= {f'{key}_true_{number}': truth.numpy() for number, truth in enumerate(each.truths)}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _write(path: str, content: bytes) -> None:
    from deeprftv2_plugin.utils.atomic_io import write_whole, writing

    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    print(f'wrote {path}')
