"""Layouts in which lists say what pairs: RealBlur-J, RealBlur-R and RSBlur.

A line of a list begins with the sharp and the blurry picture, relative to the folder that holds the set. The lists lie
beside the set or in it. Each function here takes a folder and returns its splits, for each what reads the pairs.
"""

import os
from functools import partial
from itertools import takewhile
from pathlib import Path

from deeprftv2_plugin.data.layouts.pairs import Pair, Readers, read_list, require_files
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.utils.errors import UserError


def realblur_j(root: Path) -> Readers:
    """RealBlur-J (Rim et al., ECCV 2020): the camera's JPEGs, RealBlur-J_ECC_IMCORR_centroid_itensity_ref."""
    return _find(root, 'RealBlur-J', 'RealBlur_J_{}_list.txt', ('train', 'test'))


def realblur_r(root: Path) -> Readers:
    """RealBlur-R (Rim et al., ECCV 2020): developed from raw, RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref."""
    return _find(root, 'RealBlur-R', 'RealBlur_R_{}_list.txt', ('train', 'test'))


def rsblur(root: Path) -> Readers:
    """RSBlur (Rim et al., ECCV 2022)."""
    return _find(root, 'RSBlur', 'RSBlur*{}*.txt', ('train', 'val', 'test'))


def _find(root, name, pattern, splits):
    """The splits of a set that is known by the name of its folder; those without a list where none has one."""
    inside = (path.name for path in root.iterdir() if path.is_dir())
    if not any(_begins(own, name) for own in (root.name, root.resolve().name)) or any(_begins(i, name) for i in inside):
        return {}
    places = dict.fromkeys([root, root.parent, root.resolve().parent])
    lists = {
        split: [path for place in places for path in sorted(place.glob(pattern.format(split)))] for split in splits
    }
    lists = {split: found for split, found in lists.items() if found} or lists
    return {split: partial(_read, root, name, pattern.format(split), lists[split]) for split in lists}


def _begins(folder: str, name: str) -> bool:
    """Whether a folder bears the name of a set, whatever the case and the hyphens."""
    return folder.lower().replace('_', '-').startswith(name.lower())


def _read(root, name, pattern, lists):
    if not lists:
        raise UserError(f'{name} pairs by lists, but {pattern} lies neither in {root} nor beside it: copy it there')
    if len({path.resolve() for path in lists}) > 1:
        raise UserError(f'{" and ".join(map(str, lists))} are lists of the same split: keep the one that is meant')
    list_file = lists[0]
    named = [tuple(map(Path, line)) for line in read_list(list_file)]
    place, skipped = _place(root, list_file, named[0])
    pairs = []
    for gt, lq in named:
        if gt == lq:
            raise UserError(f'{list_file} names {gt} alone in its line: a sharp and then a blurry picture are expected')
        gt, lq = (place.joinpath(*path.parts[skipped:]) for path in (gt, lq))
        require_files([StoredImage(str(lq)), StoredImage(str(gt))], list_file)
        key = '_'.join([name, *_shared(*(Path(os.path.relpath(path, root)) for path in (gt, lq)))])
        pairs.append(Pair(key, StoredImage(str(lq)), StoredImage(str(gt))))
    return pairs


def _place(root, list_file, line):
    """The folder that the paths of a list are relative to, and how many of their first parts are not below it."""
    for place, skipped in ((root.parent, 0), (root, 0), (root, 1)):  # the last where the set's folder has a new name
        found = [place.joinpath(*path.parts[skipped:]) for path in line]
        if any(path.is_file() and path.is_relative_to(root) for path in found):
            return place, skipped
    raise UserError(f'{line[0]}, which {list_file} names, is neither below {root} nor beside it')


def _shared(gt: Path, lq: Path) -> list[str]:
    """What the paths of a pair have in common: scene050 and 1 of scene050/gt/gt_1.png and scene050/blur/blur_1.png."""
    folders = os.path.commonpath([gt.parent, lq.parent])
    ends = zip(reversed(gt.stem.split('_')), reversed(lq.stem.split('_')), strict=False)
    tail = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], ends)]
    return [*Path(folders).parts, *reversed(tail)]
