"""Layouts that pair images by folder and file name: GoPro, HIDE, REDS, DPDD, and any two folders of pairs.

Each layout function takes a folder and returns its splits as `Readers`, which are empty if the folder has another
layout. Pairs are searched only when a reader is called.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deeprftv2_plugin.data.layouts.pairs import Pair, Readers, find_pairs
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.listing import list_images
from deeprftv2_plugin.utils.errors import UserError

SPLITS = ('train', 'val', 'test')
UNDIVIDED = 'all'
"""The only split of a folder of pairs without train, val and test folders."""
FOLDERS = (('blur', 'sharp'), ('input', 'target'), ('lq', 'gt'), ('source', 'target'))
"""Common names of the folders of blurry and of sharp images."""


def gopro(root: Path) -> Readers:
    """GoPro (Nah et al., CVPR 2017): train/GOPR0372_07_00/blur/000047.png and .../sharp/000047.png.

    File names repeat across sequences. The folders blur_gamma contain another blur of the same frames and are ignored.
    """
    splits = [split for split in SPLITS if all(any(root.glob(f'{split}/*/{kind}')) for kind in ('blur', 'sharp'))]
    return {split: partial(_by_name, root / split / '*' / 'blur', root / split / '*' / 'sharp') for split in splits}


def flat_gopro(root: Path) -> Readers:
    """GoPro without sequence folders: file names include the sequence, as in test/blur/GOPR0384_11_00-000001.png."""
    return pair_folders(root) if any(root.glob('*/*/GOPR*')) else {}


def pair_folders(root: Path) -> Readers:
    """Two folders of images with equal names, with or without splits: train/input/a.png, train/target/a.png."""
    found = {split: _pair_reader(root / split) for split in SPLITS}
    if not any(found.values()):
        found = {UNDIVIDED: _pair_reader(root)}
    return {split: reader for split, reader in found.items() if reader}


def _pair_reader(folder: Path) -> Callable[[], list[Pair]] | None:
    """Return a reader for the first two of `FOLDERS` that exist, or None."""
    for names in FOLDERS:
        lq, gt = (folder / name for name in names)
        if lq.is_dir() and gt.is_dir():
            return partial(_by_name, lq, gt)
    return None


def _by_name(lq: Path, gt: Path) -> list[Pair]:
    """Return the pairs with equal paths below two folders or patterns."""
    return [pair._replace(name=os.path.splitext(pair.name)[0]) for pair in find_pairs(str(lq), str(gt))]


def reds(root: Path) -> Readers:
    """REDS (Nah et al., CVPR Workshops 2019): val/val_blur/000/00000009.png and val/val_sharp/000/00000009.png.

    The folders blur_jpeg have compressed blurry frames. REDS-val-300, which papers report, consists of the frames of
    val whose number ends in 9.
    """
    found: dict[str, Callable[[], list[Pair]]] = {}
    for suffix in ('', '_jpeg'):
        for split in ('train', 'val'):
            lq, gt = (root / split / f'{split}_{kind}' for kind in (f'blur{suffix}', 'sharp'))
            if lq.is_dir():
                found[f'{split}{suffix}'] = partial(_by_name, lq, gt)
        if f'val{suffix}' in found:
            found[f'val_300{suffix}'] = partial(_ending_in_9, found[f'val{suffix}'])
    return found


def _ending_in_9(read: Callable[[], list[Pair]]) -> list[Pair]:
    pairs = read()
    chosen = [pair for pair in pairs if pair.name.endswith('9')]
    if not chosen:
        raise UserError(f'none of the {len(pairs)} frames next to {pairs[0].lq} has a number that ends in 9')
    return chosen


def hide(root: Path) -> Readers:
    """HIDE (Shen et al., ICCV 2019): test/test-close-ups/a.png, and the sharp frames of all splits in GT/a.png."""
    if not (root / 'GT').is_dir():
        return {}
    patterns = {'train': 'train', 'test': 'test/test-*'}
    return {split: partial(_hide, root, split) for split, pattern in patterns.items() if any(root.glob(pattern))}


def _hide(root: Path, split: str) -> list[Pair]:
    sharp: dict[str, Path] = {}
    for path in list_images(root / 'GT'):
        other = sharp.setdefault(path.stem, path)
        if other is not path:
            raise UserError(f'{other} and {path} in {root / "GT"} have the same name, but pairs are matched by name')
    blurry = list_images(root / split)
    if not blurry:
        raise UserError(f'no images in {root / split}')
    if unmatched := [str(path) for path in blurry if path.stem not in sharp]:
        raise UserError(
            f'{len(unmatched)} of {len(blurry)} images in {root / split} have no partner in {root / "GT"}: '
            f'{", ".join(unmatched[:3])}{", ..." if len(unmatched) > 3 else ""}'
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
    """DPDD (Abuolaim and Brown, ECCV 2020): test_c/source and test_c/target, 16 bit.

    The two images of a pair have different names, but the same place in sorted order. The suffix c is the combined
    view. The views l and r of the two half-pixels are for dual-pixel networks and are ignored.
    """
    return {split: partial(_by_order, root / f'{split}_c') for split in SPLITS if (root / f'{split}_c/source').is_dir()}


def _by_order(folder: Path) -> list[Pair]:
    lq, gt = (folder / name for name in ('source', 'target'))
    blurry, sharp = list_images(lq), list_images(gt)
    if len(blurry) != len(sharp) or not blurry:
        found = ' but '.join(
            f'{path} has {len(names)}{f" ({names[0]} to {names[-1]})" if names else ""}'
            for path, names in ((lq, blurry), (gt, sharp))
        )
        raise UserError(f'images of this layout are paired by sorted order, {found}: unpack the archive again')
    return [
        Pair('_'.join(source.with_suffix('').parts), StoredImage(str(lq / source)), StoredImage(str(gt / target)))
        for source, target in zip(blurry, sharp, strict=True)
    ]
