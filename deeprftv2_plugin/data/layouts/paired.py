"""Layouts in which folders say what pairs: GoPro, HIDE, REDS, DPDD, and any folder of pairs.

Each function here takes a folder and returns its splits, for each what reads the pairs; no splits where the folder
is laid out otherwise. Nothing is read before it is asked for.
"""

import os
from functools import partial
from pathlib import Path

from deeprftv2_plugin.data.layouts.pairs import Pair, Readers, find_pairs
from deeprftv2_plugin.data.storage.images import StoredImage, list_images
from deeprftv2_plugin.utils.errors import UserError

SPLITS = ('train', 'val', 'test')
UNDIVIDED = 'all'
"""The only split of a folder of pairs without division."""
FOLDERS = (('blur', 'sharp'), ('input', 'target'), ('lq', 'gt'), ('source', 'target'))
"""Names of the folders of blurry and of sharp pictures."""


def sequences(root: Path) -> Readers:
    """GoPro (Nah et al., CVPR 2017): train/GOPR0372_07_00/blur/000047.png and .../sharp/000047.png.

    Names repeat in every sequence. blur_gamma, another blurring of the same frames, is left alone.
    """
    splits = [split for split in SPLITS if all(any(root.glob(f'{split}/*/{kind}')) for kind in ('blur', 'sharp'))]
    return {split: partial(_by_name, root / split / '*' / 'blur', root / split / '*' / 'sharp') for split in splits}


def flat_gopro(root: Path) -> Readers:
    """GoPro without folders for the sequences, whose names the frames bear: test/blur/GOPR0384_11_00-000001.png."""
    return folders(root) if any(root.glob('*/*/GOPR*')) else {}


def folders(root: Path) -> Readers:
    """Any set of blurry and sharp pictures with equal names, divided or not: train/input/a.png, train/target/a.png."""
    found = {split: _paired(root / split) for split in SPLITS}
    if not any(found.values()):
        found = {UNDIVIDED: _paired(root)}
    return {split: reader for split, reader in found.items() if reader}


def _paired(folder):
    """What reads the pairs of the first two of `FOLDERS` that are there; None where none are."""
    for names in FOLDERS:
        lq, gt = (folder / name for name in names)
        if lq.is_dir() and gt.is_dir():
            return partial(_by_name, lq, gt)
    return None


def _by_name(lq: Path, gt: Path) -> list[Pair]:
    """Pairs with equal paths below two folders or patterns."""
    return [pair._replace(name=os.path.splitext(pair.name)[0]) for pair in find_pairs(str(lq), str(gt))]


def reds(root: Path) -> Readers:
    """REDS (Nah et al., CVPR Workshops 2019): val/val_blur/000/00000009.png and val/val_sharp/000/00000009.png.

    blur_jpeg holds the blurry frames compressed. REDS-val-300, on which the field reports, are the frames of val
    whose number ends in 9.
    """
    found = {}
    for suffix in ('', '_jpeg'):
        for split in ('train', 'val'):
            lq, gt = (root / split / f'{split}_{kind}' for kind in (f'blur{suffix}', 'sharp'))
            if lq.is_dir():
                found[f'{split}{suffix}'] = partial(_by_name, lq, gt)
        if f'val{suffix}' in found:
            found[f'val_300{suffix}'] = partial(_ending_in_9, found[f'val{suffix}'])
    return found


def _ending_in_9(read):
    pairs = read()
    chosen = [pair for pair in pairs if pair.name.endswith('9')]
    if not chosen:
        raise UserError(f'none of the {len(pairs)} frames beside {pairs[0].lq} has a number that ends in 9')
    return chosen


def hide(root: Path) -> Readers:
    """HIDE (Shen et al., ICCV 2019): test/test-close-ups/a.png, and the sharp frames of all splits in GT/a.png."""
    if not (root / 'GT').is_dir():
        return {}
    places = {'train': 'train', 'test': 'test/test-*'}
    return {split: partial(_hide, root, split) for split, place in places.items() if any(root.glob(place))}


def _hide(root, split):
    sharp = {}
    for path in list_images(root / 'GT'):
        other = sharp.setdefault(path.stem, path)
        if other is not path:
            raise UserError(f'{other} and {path} in {root / "GT"} have one name, by which blurry frames find theirs')
    blurry = list_images(root / split)
    if not blurry:
        raise UserError(f'no pictures in {root / split}')
    if alone := [str(path) for path in blurry if path.stem not in sharp]:
        raise UserError(
            f'{len(alone)} of {len(blurry)} pictures in {root / split} have no partner in {root / "GT"}: '
            f'{", ".join(alone[:3])}{", ..." if len(alone) > 3 else ""}'
        )
    return [
        Pair(
            '_'.join(path.with_suffix('').parts),
            StoredImage(str(root / split / path)),
            StoredImage(str(root / 'GT' / sharp[path.stem])),
        )
        for path in blurry
    ]


def dpdd(root: Path) -> Readers:
    """DPDD (Abuolaim and Brown, ECCV 2020): test_c/source and test_c/target, 16 bit; names differ, their order agrees.

    c is the combined view; l and r, those of the two halves of the sensor's pixels, are for other networks.
    """
    return {split: partial(_by_order, root / f'{split}_c') for split in SPLITS if (root / f'{split}_c/source').is_dir()}


def _by_order(folder):
    lq, gt = (folder / name for name in ('source', 'target'))
    blurry, sharp = list_images(lq), list_images(gt)
    if len(blurry) != len(sharp) or not blurry:
        found = ' but '.join(
            f'{place} holds {len(paths)}{f" ({paths[0]} to {paths[-1]})" if paths else ""}'
            for place, paths in ((lq, blurry), (gt, sharp))
        )
        raise UserError(f'pictures here pair by the order of their names, {found}: unpack the archive again')
    return [
        Pair('_'.join(source.with_suffix('').parts), StoredImage(str(lq / source)), StoredImage(str(gt / target)))
        for source, target in zip(blurry, sharp, strict=True)
    ]
