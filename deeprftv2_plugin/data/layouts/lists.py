"""Layouts that pair images by lists: RealBlur-J, RealBlur-R and RSBlur.

A line of a list starts with the sharp and the blurry image, relative to the folder that contains the dataset. The lists
are next to the dataset or inside it. Each layout function takes a folder and returns its splits as `Readers`.
"""

import os
from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path

from deeprftv2_plugin.data.layouts.pairs import Pair, Readers, check_files_exist, read_list
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.utils.errors import UserError


def realblur_j(root: Path) -> Readers:
    """RealBlur-J (Rim et al., ECCV 2020): JPEGs of the camera, RealBlur-J_ECC_IMCORR_centroid_itensity_ref."""
    return _find(root, 'RealBlur-J', 'RealBlur_J_{}_list.txt', ('train', 'test'))


def realblur_r(root: Path) -> Readers:
    """RealBlur-R (Rim et al., ECCV 2020): developed from raw, RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref."""
    return _find(root, 'RealBlur-R', 'RealBlur_R_{}_list.txt', ('train', 'test'))


def rsblur(root: Path) -> Readers:
    """RSBlur (Rim et al., ECCV 2022)."""
    return _find(root, 'RSBlur', 'RSBlur*{}*.txt', ('train', 'val', 'test'))


def _find(root: Path, name: str, pattern: str, splits: Sequence[str]) -> Readers:
    """Return the splits of a dataset that is recognized by its folder name.

    If no split has a list, all splits are returned, and their readers report the missing list.
    """
    if not any(_has_name(own, name) for own in (root.name, root.resolve().name)):
        return {}
    if any(_has_name(path.name, name) for path in root.iterdir() if path.is_dir()):
        return {}
    folders = dict.fromkeys([root, root.parent, root.resolve().parent])
    lists = {
        split: [path for folder in folders for path in sorted(folder.glob(pattern.format(split)))] for split in splits
    }
    lists = {split: found for split, found in lists.items() if found} or lists
    return {split: partial(_read, root, name, pattern.format(split), lists[split]) for split in lists}


def _has_name(folder: str, name: str) -> bool:
    """Return whether a folder name starts with the name of a dataset, ignoring case and hyphens or underscores."""
    return folder.lower().replace('_', '-').startswith(name.lower())


def _read(root: Path, name: str, pattern: str, lists: list[Path]) -> list[Pair]:
    if not lists:
        raise UserError(
            f'{name} needs a list of pairs, but {pattern} is neither in {root} nor next to it: copy it there'
        )
    if len({path.resolve() for path in lists}) > 1:
        raise UserError(f'{" and ".join(map(str, lists))} are lists of the same split: keep one of them')
    list_file = lists[0]
    lines = [(Path(gt), Path(lq)) for gt, lq in read_list(list_file)]
    base, skipped = _resolve_base(root, list_file, lines[0])
    pairs = []
    for listed_gt, listed_lq in lines:
        if listed_gt == listed_lq:
            raise UserError(f'{list_file} has a line with only {listed_gt}, expected a sharp and then a blurry image')
        gt, lq = (base.joinpath(*path.parts[skipped:]) for path in (listed_gt, listed_lq))
        check_files_exist([StoredImage(str(lq)), StoredImage(str(gt))], list_file)
        key = '_'.join([name, *_common_parts(*(Path(os.path.relpath(path, root)) for path in (gt, lq)))])
        pairs.append(Pair(key, StoredImage(str(lq)), StoredImage(str(gt))))
    return pairs


def _resolve_base(root: Path, list_file: Path, line: tuple[Path, Path]) -> tuple[Path, int]:
    """Return the base folder of the paths in a list, and the number of their leading parts to drop."""
    for base, skipped in ((root.parent, 0), (root, 0), (root, 1)):  # the last one for a renamed dataset folder
        found = [base.joinpath(*path.parts[skipped:]) for path in line]
        if any(path.is_file() and path.is_relative_to(root) for path in found):
            return base, skipped
    raise UserError(f'{line[0]}, listed in {list_file}, is neither below {root} nor next to it')


def _common_parts(gt: Path, lq: Path) -> list[str]:
    """Return the parts that two paths share: scene050 and 1 for scene050/gt/gt_1.png and scene050/blur/blur_1.png."""
    folders = os.path.commonpath([gt.parent, lq.parent])
    ends = zip(reversed(gt.stem.split('_')), reversed(lq.stem.split('_')), strict=False)
    tail = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], ends)]
    return [*Path(folders).parts, *reversed(tail)]
