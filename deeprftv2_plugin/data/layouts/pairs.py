"""Which blurry picture belongs to which sharp one: in two LMDBs, two folders, two patterns, or by a list."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from glob import escape, glob
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeprftv2_plugin.data.storage.images import StoredImage, is_image, list_images
from deeprftv2_plugin.data.storage.lmdb_reader import is_lmdb, read_keys
from deeprftv2_plugin.utils.errors import UserError


class Pair(NamedTuple):
    """A blurry picture, the sharp one where there is one, and a name that is unique in the data set."""

    name: str
    lq: StoredImage
    gt: StoredImage | None


Readers = Mapping[str, Callable[[], list[Pair]]]
"""The splits of a data set: for each name what reads its pairs."""


def require_equal_size(pair: Pair, lq: np.ndarray, gt: np.ndarray) -> None:
    """UserError where the two pictures of a pair, arrays (H, W, 3), differ in size."""
    if lq.shape != gt.shape:
        sizes = ['{1}x{0}'.format(*image.shape) for image in (lq, gt)]
        raise UserError(
            f'the pictures of a pair differ in size: {pair.lq} has {sizes[0]} pixels, {pair.gt} has {sizes[1]}'
        )


def find_pairs(root_lq: str, root_gt: str | None = None, list_file: str | None = None) -> list[Pair]:
    """The pairs of a data set, in the order of their names.

    - LMDB: roots that end in '.lmdb'; pairs have equal keys.
    - Folder: searched with all its subfolders; pairs have equal paths up to the suffix.
    - Pattern: a path with `*`, such as GoPro/train/*/blur and GoPro/train/*/sharp; pairs have equal texts in
      the place of the stars, and equal paths below the matched folders.
    - List: a file whose lines name a sharp and a blurry picture, or one name for both, relative to the roots.

    The name joins with underscores what distinguishes a pair, since BasicSR saves results under the last part
    of a path, and frames of different sequences are called alike.

    Args:
        root_lq: Where the blurry pictures are.
        root_gt: Where the sharp pictures are, if they are known.
        list_file: Path of the list.

    Raises:
        UserError: A root or picture is missing, or a picture has no partner.
    """
    root_lq, root_gt = os.path.expanduser(root_lq), root_gt and os.path.expanduser(root_gt)
    if list_file:
        pairs = _pairs_of_list(root_lq, root_gt, os.path.expanduser(list_file))
    else:
        blurry, sharp = _find(root_lq), _find(root_gt) if root_gt else None
        if sharp is not None:
            _require_partners(blurry, sharp, root_lq, root_gt)
        pairs = [Pair(_name(key, lq), lq, sharp and sharp[key]) for key, lq in sorted(blurry.items())]
    require_unique(pairs)
    return pairs


def find_images(root: str) -> dict[str, StoredImage]:
    """All pictures of a root as in `find_pairs`, by their names.

    Raises:
        UserError: There is none.
    """
    return {_name(key, image): image for key, image in sorted(_find(os.path.expanduser(root)).items())}


def _name(key: tuple[str, ...], image: StoredImage) -> str:
    return '_'.join(key) + ('' if image.database else Path(image.path).suffix)


def _find(root: str) -> dict[tuple[str, ...], StoredImage]:
    """Pictures of a root, by what must be equal in a pair."""
    if is_lmdb(root):
        return {(key,): StoredImage(key, root) for key in read_keys(root)}
    found = {}
    for key, path in _walk(root):
        image = StoredImage(str(path))
        if key in found:
            raise UserError(f'{found[key]} and {image} differ only in their suffix: keep one of them')
        found[key] = image
    if not found:
        raise UserError(f'no pictures in {root}')
    return found


def _walk(root: str) -> Iterator[tuple[tuple[str, ...], Path]]:
    for matched, path in _expand(root):
        if os.path.isdir(path):
            for file in list_images(path):
                yield (*matched, *file.with_suffix('').parts), Path(path, file)
        elif is_image(path):
            yield matched, Path(path)


def _expand(root: str) -> list[tuple[tuple[str, ...], str]]:
    """Paths that a root stands for, each with the texts in the place of its stars."""
    if '*' not in root:
        if not os.path.isdir(root):
            raise UserError(f'{root} is no folder' if os.path.exists(root) else f'{root} does not exist')
        return [((), root)]
    pieces = os.path.normpath(root).split('*')
    pattern = re.compile('([^/]*)'.join(re.escape(piece) for piece in pieces))
    paths = glob('*'.join(escape(piece) for piece in pieces))
    if not paths:
        raise UserError(f'nothing matches {root}')
    return [(pattern.fullmatch(path).groups(), path) for path in sorted(paths)]


def _require_partners(blurry: dict, sharp: dict, root_lq: str, root_gt: str) -> None:
    for images, partners, root in ((blurry, sharp, root_gt), (sharp, blurry, root_lq)):
        alone = [str(images[key]) for key in sorted(images.keys() - partners.keys())]
        if alone:
            raise UserError(
                f'{len(alone)} of {len(images)} pictures have no partner in {root}: '
                f'{", ".join(alone[:3])}{", ..." if len(alone) > 3 else ""}'
            )


def _pairs_of_list(root_lq: str, root_gt: str | None, list_file: str) -> list[Pair]:
    for root in (root_lq, root_gt):
        if root and (is_lmdb(root) or '*' in root):
            raise UserError(f'meta_info_file {list_file} names files below a plain folder, not below {root}')
    named = read_list(list_file)
    folders = os.path.commonpath([os.path.dirname(lq) for _, lq in named])
    pairs = []
    for gt, lq in sorted(named, key=lambda names: names[1]):
        name = '_'.join(Path(os.path.relpath(lq, folders or '.')).parts)
        pair = Pair(
            name, StoredImage(os.path.join(root_lq, lq)), StoredImage(os.path.join(root_gt, gt)) if root_gt else None
        )
        require_files(filter(None, (pair.lq, pair.gt)), list_file)
        pairs.append(pair)
    return pairs


def read_list(list_file: str | os.PathLike) -> list[tuple[str, str]]:
    """The sharp and the blurry picture that each line of a list names; one name stands for both.

    Raises:
        UserError: The list cannot be read or is empty.
    """
    try:
        lines = [line.split() for line in Path(list_file).read_text('utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f'cannot read the list of pairs {list_file}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'the list of pairs {list_file} is no text') from error
    if not lines:
        raise UserError(f'the list of pairs {list_file} is empty')
    # In BasicSR's own lists the second field is the shape of the picture, as in '0001.png (480,480,3)'.
    return [(line[0], line[1] if len(line) > 1 and line[1][0] != '(' else line[0]) for line in lines]


def require_files(images: Iterable[StoredImage], list_file: str | os.PathLike) -> None:
    """Sees that the pictures that a list names are there.

    Raises:
        UserError: One is not.
    """
    for image in images:
        if not os.path.isfile(image.path):
            raise UserError(f'{image}, which {list_file} names, does not exist')


def require_unique(pairs: Iterable[Pair]) -> None:
    """Sees that no two pairs have a name in common, up to the suffix.

    Raises:
        UserError: Two have.
    """
    seen = {}
    for pair in pairs:
        other = seen.setdefault(os.path.splitext(pair.name)[0], pair)
        if other is not pair:
            raise UserError(f'{other.lq} and {pair.lq} would both be saved as {pair.name}: rename one')
