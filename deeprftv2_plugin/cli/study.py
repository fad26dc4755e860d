"""`basicsr study`: find out what the Fourier Kernel Estimator contributes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeprftv2_plugin.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

KERNELS = 'kernels'

HELP = 'study what the Fourier Kernel Estimator contributes'
EXAMPLES = """examples:
  basicsr study kernels -o results/study_kernels
  basicsr study kernels -o results/study_kernels --weights weights/gopro.pth --images photographs/*.png
  basicsr study options/study_estimator.yml -o results/study_estimator

"kernels" restores photographs with known blur, with the transfer functions that the network estimates and with those of
other images and blurs in their place, and compares point spread functions with the true kernels. An option file with a
section "study" trains several networks under the same recipe with several seeds; rerun the command to resume. Both write
study.json and study.md to the folder. docs/evidence.md describes the protocols and has results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('study', metavar='kernels|FILE', help='"kernels", or an option file with a section "study"')
    parser.add_argument('-o', '--output', required=True, metavar='FOLDER', help='folder for the results')
    group = parser.add_argument_group('arguments of "kernels"')
    group.add_argument(
        '--weights',
        metavar='FILE|NAME',
        help='checkpoint (.pth, .safetensors), or OWNER/NAME on the Hugging Face Hub; default: those of the package',
    )
    group.add_argument(
        '--images', nargs='+', metavar='PATH', help='sharp photographs; default: two that come with scikit-image'
    )
    group.add_argument(
        '--kernels', nargs='+', default=[], metavar='FILE', help='further blur kernels (.npy, .mat, .png, ...)'
    )
    group.add_argument('--variable', metavar='NAME', help='variable of .mat and .npz files with kernels')
    group.add_argument('--seeds', nargs='+', type=int, default=[1, 2, 3], metavar='N', help='default: 1 2 3')
    group.add_argument(
        '--size', type=int, default=128, metavar='N', help='height and width of the images; default: 128'
    )


def run(args: argparse.Namespace) -> None:
    """Run a study and write its results.

    Raises:
        UserError: The arguments are not valid, or a file cannot be read or written.
    """
    if args.study != KERNELS:
        raise UserError(f'{args.study}: expected "{KERNELS}"')
    result = _kernels(args)
    from deeprftv2_plugin.evaluation.kernel_evidence import tables

    _write(Path(args.output), result, tables(result))


def _kernels(args: argparse.Namespace) -> dict[str, Any]:
    """Run the study of the transfer functions."""
    import hashlib

    import torch

    from deeprftv2_plugin.archs import DeepRFTv2
    from deeprftv2_plugin.checkpoints.sources import SHIPPED, find_weights
    from deeprftv2_plugin.data.blur.kernel_files import read_kernels
    from deeprftv2_plugin.evaluation.kernel_evidence import study_kernels
    from deeprftv2_plugin.inference.restorer import load

    restorer = load(args.weights or SHIPPED, device='cpu')
    settings = restorer.settings or {}
    multiple = restorer.net.size_multiple
    if args.size < 64 or args.size % multiple:
        raise UserError(f'--size is {args.size}, expected a multiple of {multiple}, at least 64')
    photographs = _photographs(args.images, args.size)
    further = {
        f'{Path(path).stem} {number}': kernel
        for path in args.kernels
        for number, kernel in enumerate(read_kernels(path, args.variable))
    }

    def untrained(seed: int) -> DeepRFTv2:
        torch.manual_seed(seed)
        return DeepRFTv2(**settings)

    result = study_kernels(
        restorer.net, untrained, photographs, further, args.seeds, args.size, lambda text: print(text, flush=True)
    )
    return {
        'weights': args.weights or SHIPPED,
        'sha256': hashlib.sha256(find_weights(args.weights or SHIPPED).read_bytes()).hexdigest(),
        'photographs': list(photographs),
        **result,
    }


def _photographs(paths: list[str] | None, size: int) -> Mapping[str, np.ndarray]:
    """Return photographs by name, at least two that are twice as large as the images."""
    from deeprftv2_plugin.data.layouts.pairs import find_images
    from deeprftv2_plugin.data.storage.images import StoredImage
    from deeprftv2_plugin.data.storage.photographs import HELD_OUT, photograph

    if paths is None:
        stored = {name: StoredImage(str(photograph(name))) for name in HELD_OUT}
    else:
        stored = {name: image for path in paths for name, image in find_images(path).items()}
    found = {Path(name).stem: image.read() for name, image in stored.items()}
    small = [name for name, image in found.items() if min(image.shape[:2]) < 2 * size]
    if small:
        raise UserError(f'{small[0]} has a side of less than {2 * size} pixels, twice --size: choose a smaller size')
    if len(found) < 2:
        raise UserError('--images: found one photograph, expected at least two')
    return found


def _write(folder: Path, result: dict[str, Any], text: str) -> None:
    from deeprftv2_plugin.utils.atomic_io import advice, write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / 'study.json', f'{json.dumps(result, indent=1)}\n'.encode())
        write_whole(folder / 'study.md', text.encode())
    except OSError as error:
        raise UserError(f'cannot write {folder}: {error.strerror or error}. {advice(error)}') from error
    print(f'\n{text}\nwrote {folder / "study.json"} and {folder / "study.md"}')
