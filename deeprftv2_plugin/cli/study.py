"""`basicsr study`: measure whether the transfer functions of a network depend on the blur."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeprftv2_plugin.cli.arguments import add_weights
from deeprftv2_plugin.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

HELP = 'measure whether the transfer functions of a network depend on the blur'
EXAMPLES = """examples:
  basicsr study -o results/study_kernels
  basicsr study -o results/study_kernels --weights weights/gopro.pth --images photographs

Photographs with known blur are restored with the transfer functions that the network estimates for them, and with those
estimated for other images and blurs. Point spread functions are compared with the true kernels. The results are written
to study.json and study.md. docs/evidence.md describes the protocol and the results, also those of networks trained
without the estimator (basicsr compare --train options/study_estimator.yml)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('-o', '--output', required=True, metavar='FOLDER', help='folder for the results')
    add_weights(parser)
    parser.add_argument(
        '--images', nargs='+', metavar='FOLDER', help='sharp photographs; default: two that come with scikit-image'
    )
    parser.add_argument(
        '--kernels', nargs='+', default=[], metavar='FILE', help='additional blur kernels (.npy, .mat, .png, ...)'
    )
    parser.add_argument('--variable', metavar='NAME', help='variable of .mat and .npz files with kernels')
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[1, 2, 3], metavar='N', help='seeds of the repetitions (default: 1 2 3)'
    )
    parser.add_argument(
        '--size', type=int, default=128, metavar='N', help='height and width of the images (default: %(default)s)'
    )
    parser.add_argument(
        '--figure', action='store_true', help='only draw kernels and images to study.webp; requires matplotlib'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace the results of an earlier study')


def run(args: argparse.Namespace) -> None:
    """Run the study, print its tables, and write the results.

    Raises:
        UserError: The arguments are not valid, or a file cannot be read or written.
    """
    import hashlib

    import torch

    from deeprftv2_plugin.archs import DeepRFTv2
    from deeprftv2_plugin.checkpoints.sources import SHIPPED, find_weights
    from deeprftv2_plugin.comparison.measurement import machine
    from deeprftv2_plugin.data.blur.kernel_files import read_kernels
    from deeprftv2_plugin.evaluation.kernel_evidence import study_kernels, tables
    from deeprftv2_plugin.evaluation.kernel_study import draw_kernels, make_grid
    from deeprftv2_plugin.evaluation.kernel_study_figure import draw_study
    from deeprftv2_plugin.inference.outputs import require_free, require_writable
    from deeprftv2_plugin.inference.restorer import load

    restorer = load(args.weights or SHIPPED, device='cpu')
    settings = restorer.settings or {}
    multiple = restorer.net.size_multiple
    if args.size < 64 or args.size % multiple:
        raise UserError(f'--size is {args.size}, expected a multiple of {multiple}, at least 64')
    stage: Any = restorer.net.stages[0]  # nn.ModuleList has no type parameter
    window = stage.full_estimator.window
    if window is not None and args.size > min(window):
        raise UserError(f'--size is {args.size}, but the kernel windows of the network have only {min(window)} pixels')
    if min(args.seeds) < 0:
        raise UserError(f'--seeds: {min(args.seeds)} is negative, expected numbers such as 1 2 3')
    if len({*args.seeds}) < len(args.seeds):
        raise UserError('--seeds: two are equal, expected different ones, since equal seeds give equal results')
    photographs = _photographs(args.images, args.size)
    further = _by_name(
        '--kernels',
        (
            (f'{Path(path).stem} {number}', kernel)
            for path in args.kernels
            for number, kernel in enumerate(read_kernels(path, args.variable))
        ),
    )
    for name in ('study.webp',) if args.figure else ('study.json', 'study.md'):
        require_free('-o', Path(args.output, name), args.overwrite)
    require_writable(Path(args.output))

    if args.figure:
        grid = make_grid(photographs, draw_kernels(args.seeds[0], further), args.size, args.seeds[0])
        _write(Path(args.output), {'study.webp': draw_study(restorer.net, grid, 'webp')})
        return

    def untrained(seed: int) -> DeepRFTv2:
        torch.manual_seed(seed)
        return DeepRFTv2(**settings)

    result = study_kernels(
        restorer.net, untrained, photographs, further, args.seeds, args.size, lambda text: print(text, flush=True)
    )
    about = {
        'weights': args.weights or SHIPPED,
        'sha256': hashlib.sha256(find_weights(args.weights or SHIPPED).read_bytes()).hexdigest(),
        'photographs': list(photographs),
        'machine': machine('cpu'),
    }
    text = tables(result)
    print(f'\n{text}')
    content = f'{json.dumps(about | result, indent=1)}\n'
    _write(Path(args.output), {'study.json': content.encode(), 'study.md': text.encode()})


def _photographs(paths: list[str] | None, size: int) -> Mapping[str, np.ndarray]:
    """Return at least two photographs by name, (H, W, 3) with H and W at least twice the size.

    Raises:
        UserError: A photograph cannot be read or is too small, or there are fewer than two.
    """
    from deeprftv2_plugin.data.layouts.pairs import find_images
    from deeprftv2_plugin.data.storage.images import StoredImage
    from deeprftv2_plugin.data.storage.photographs import HELD_OUT, photograph

    if paths is None:
        stored = [(name, StoredImage(str(photograph(name)))) for name in HELD_OUT]
    else:
        stored = [each for path in paths for each in find_images(path).items()]
    found = _by_name('--images', ((Path(name).stem, image.read()) for name, image in stored))
    small = [name for name, image in found.items() if min(image.shape[:2]) < 2 * size]
    if small:
        raise UserError(f'{small[0]} has a side of less than {2 * size} pixels, twice --size: use a smaller size')
    if len(found) < 2:
        raise UserError('--images: found one photograph, expected at least two')
    return found


def _by_name(option: str, items: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return arrays by name.

    Raises:
        UserError: Two of them have the same name.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in items:
        if name in found:
            raise UserError(f'{option}: two files are named {name}: rename one of them')
        found[name] = array
    return found


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, by name, to a folder.

    Raises:
        UserError: A file cannot be written.
    """
    from deeprftv2_plugin.utils.atomic_io import write_whole, writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(folder / name, content)
            print(f'wrote {folder / name}')
