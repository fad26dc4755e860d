"""`basicsr prepare`: prepare a dataset for training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from deeprftv2_plugin.utils.errors import UserError

if TYPE_CHECKING:
    from deeprftv2_plugin.data.preparation.crops import CropGrid

PHOTOGRAPHS = 'skimage'

HELP = 'prepare a dataset for training'
EXAMPLES = """examples:
  basicsr prepare downloads/GOPRO_Large datasets/GoPro_crops --crop 512 --step 256
  basicsr prepare downloads/REDS datasets/REDS-lmdb --split train_jpeg val_300_jpeg
  basicsr prepare datasets/GoPro_crops --verify
  basicsr prepare skimage datasets/quickstart

SOURCE is the folder of an unpacked archive, or its parent. --list shows the known layouts. Every split is written to
DEST/SPLIT_blur.lmdb and DEST/SPLIT_sharp.lmdb. Images that are not cropped are stored byte for byte.
PairedDeblurDataset and BasicSR's PairedImageDataset (which reduces 16 bits to 8) can read the databases.

To resume an interrupted run, rerun the command. Unfinished work is in DEST/.partial. Remove that folder to start over
with other settings. Finished splits are never overwritten.

Crops start at multiples of the step, and the last ones are aligned with the border. Smaller images are not cropped. The
crops of a pair are named NAME_s001, NAME_s002, ... and stored as PNGs with the bit depth of the image.

SOURCE skimage needs no download. It writes the photographs of the scikit-image wheel with random camera shake to
DEST/{train,test}_{blur,sharp}.lmdb, and the kernels to DEST/{train,test}_kernels.npz."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', metavar='SOURCE', nargs='?', help='folder of a dataset, or skimage')
    parser.add_argument('destination', metavar='DEST', nargs='?', help='folder to write to')
    parser.add_argument('--split', nargs='+', action='extend', metavar='SPLIT', help='splits to prepare (default: all)')
    parser.add_argument('--crop', type=int, metavar='N', help='cut training splits into crops of N x N pixels')
    parser.add_argument(
        '--step', type=int, metavar='N', help='distance between crops in pixels (default: size of --crop)'
    )
    parser.add_argument('--folders', action='store_true', help='write folders of files instead of LMDBs')
    parser.add_argument(
        '--verify', action='store_true', help='decode every pair in SOURCE, prepared or downloaded; takes no DEST'
    )
    parser.add_argument('--list', action='store_true', help='list the known dataset layouts')


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: The arguments conflict, or the dataset is invalid.
    """
    from tqdm import tqdm

    from deeprftv2_plugin.data.preparation import prepare_archive, prepare_photographs, verify

    settings = {'--split': args.split, '--crop': args.crop, '--step': args.step, '--folders': args.folders}
    given = [flag for flag, value in settings.items() if value not in (None, False)]
    if args.list:
        _list_layouts()
    elif args.verify:
        if not args.source or args.destination or given:
            raise UserError(f'--verify accepts only a folder: basicsr prepare {args.source or "DEST"} --verify')
        verify(args.source, say=tqdm.write)
    elif not args.source or not args.destination:
        raise UserError('name a dataset and a folder to write to: basicsr prepare SOURCE DEST')
    elif args.source == PHOTOGRAPHS:
        if given:
            raise UserError(
                f'{PHOTOGRAPHS} does not support {", ".join(given)}, which apply to datasets on disk: remove them'
            )
        print(f'wrote {prepare_photographs(args.destination)}')
    else:
        prepare_archive(
            args.source, args.destination, args.split, _crop_grid(args.crop, args.step), args.folders, say=tqdm.write
        )


def _list_layouts() -> None:
    from deeprftv2_plugin.data.layouts.known import LAYOUTS

    for known in LAYOUTS:
        print(f'{known.name:10}  {known.description}')
    print(f'{PHOTOGRAPHS:10}  photographs of scikit-image with synthetic camera shake, no folder needed')


def _crop_grid(size: int | None, step: int | None) -> CropGrid | None:
    from deeprftv2_plugin.data.preparation.crops import CropGrid

    if size is None:
        if step is not None:
            raise UserError(f'--step {step} needs --crop: use both or neither')
        return None
    step = size if step is None else step
    if size < 1 or step < 1:
        raise UserError(f'--crop {size} --step {step}: expected positive numbers of pixels')
    return CropGrid(size, step)
