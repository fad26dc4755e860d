"""Match blurry with sharp images: in two LMDBs, two folders or two glob patterns, or by a list."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from glob import escape, glob
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeprftv2_plugin.data.storage.decoding import is_transparent
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.listing import SUFFIXES, is_image, list_images
from deeprftv2_plugin.data.storage.lmdb_reader import is_lmdb, read_keys
from deeprftv2_plugin.data.storage.text_files import read_lines
from deeprftv2_plugin.utils.errors import DataWarning, UserError


class Pair(NamedTuple):
    """A blurry image, its sharp version if there is one, and a unique name in the dataset."""

    name: str
    lq: StoredImage
    gt: StoredImage | None
    kernel: 'KernelFile | None' = None
    """The true kernel, if it is known."""
    trajectory: tuple[StoredImage, ...] = ()
    """All sharp images along the trajectory of the camera, if there are several."""


class KernelFile(NamedTuple):
    """The location of a kernel. Its file or variable contains no other kernels."""

    path: str
    variable: str | None = None
    turned: bool = False
    """Whether the blurry image is a correlation with the kernel, which then has to be rotated by 180 degrees."""


Readers = Mapping[str, Callable[[], list[Pair]]]
"""The splits of a dataset: functions that find the pairs, by the name of the split."""


def check_equal_size(pair: Pair, lq: np.ndarray, gt: np.ndarray) -> None:
    """Check that the two images of a pair, arrays (H, W, 3), have the same size.

    Raises:
        UserError: The sizes differ.
    """
    if lq.shape != gt.shape:
        sizes = ['{1}x{0}'.format(*image.shape) for image in (lq, gt)]
        raise UserError(
            f'the images of a pair differ in size: {pair.lq} has {sizes[0]} pixels, {pair.gt} has {sizes[1]}'
        )


_LISTED_NAME = re.compile(rf'\S.*?(?:{"|".join(map(re.escape, SUFFIXES))})(?=\s|$)', re.IGNORECASE)


def find_pairs(root_lq: str, root_gt: str | None = None, list_file: str | None = None) -> list[Pair]:
    """Return the pairs of a dataset, sorted by name.

    - LMDB: roots that end in '.lmdb'. Pairs have equal keys.
    - Folder: searched recursively. Pairs have equal relative paths without the suffix.
    - Pattern: a path with `*`, such as GoPro/train/*/blur and GoPro/train/*/sharp. In a pair, each star matches the
      same text, and the paths below the matched folders are equal.
    - List: a file whose lines name a sharp and a blurry image, or one name for both, relative to the roots.

    Names consist of the distinguishing parts of a path joined by underscores. The last part alone, under which BasicSR
    saves results, is often the same in different sequences.

    Args:
        root_lq: Root of the blurry images.
        root_gt: Root of the sharp images, if there are any.
        list_file: Path of the list.

    Raises:
        UserError: A root or image is missing, or an image has no partner.
    """
    root_lq, root_gt = os.path.expanduser(root_lq), root_gt and os.path.expanduser(root_gt)
    if list_file:
        pairs = _pairs_of_list(root_lq, root_gt, os.path.expanduser(list_file))
    else:
        blurry = _find(root_lq)
        sharp: Mapping[tuple[str, ...], StoredImage | None] = dict.fromkeys(blurry)
        if root_gt:
            sharp = _find(root_gt)
            _check_partners(blurry, sharp, root_lq, root_gt)
        pairs = [Pair(_name(key, lq), lq, sharp[key]) for key, lq in sorted(blurry.items())]
    check_unique_names(pairs)
    return pairs


def find_images(root: str) -> dict[str, StoredImage]:
    """Return all images of a root by name. Roots and names are those of `find_pairs`.

    Raises:
        UserError: There are no images.
    """
    return {_name(key, image): image for key, image in sorted(_find(os.path.expanduser(root)).items())}


def _name(key: tuple[str, ...], image: StoredImage) -> str:
    return '_'.join(key) + ('' if image.database else Path(image.path).suffix)


def _find(root: str) -> dict[tuple[str, ...], StoredImage]:
    """Return the images of a root, by the key that both images of a pair share."""
    if is_lmdb(root):
        return {(key,): StoredImage(key, root) for key in read_keys(root)}
    found: dict[tuple[str, ...], StoredImage] = {}
    for key, path in _walk(root):
        image = StoredImage(str(path))
        if key in found:
            raise UserError(f'{found[key]} and {image} differ only in their suffix: keep one of them')
        found[key] = image
    if not found:
        raise UserError(f'no images in {root}')
    return found


def _walk(root: str) -> Iterator[tuple[tuple[str, ...], Path]]:
    for matched, path in _expand(root):
        if os.path.isdir(path):
            for file in list_images(path):
                yield (*matched, *file.with_suffix('').parts), Path(path, file)
        elif is_image(path):
            yield matched, Path(path)


def _expand(root: str) -> list[tuple[tuple[str, ...], str]]:
    """Return the paths that match a root, each with the text that each star matches."""
    if '*' not in root:
        if not os.path.isdir(root):
            raise UserError(f'{root} is not a folder' if os.path.exists(root) else f'{root} does not exist')
        return [((), root)]
    pieces = os.path.normpath(root).split('*')
    pattern = re.compile('([^/]*)'.join(re.escape(piece) for piece in pieces))
    matches = [match for path in sorted(glob('*'.join(map(escape, pieces)))) if (match := pattern.fullmatch(path))]
    if not matches:
        raise UserError(f'nothing matches {root}')
    return [(match.groups(), match.string) for match in matches]


def _check_partners(
    blurry: Mapping[tuple[str, ...], StoredImage | None],
    sharp: Mapping[tuple[str, ...], StoredImage | None],
    root_lq: str,
    root_gt: str,
) -> None:
    for images, partners, root in ((blurry, sharp, root_gt), (sharp, blurry, root_lq)):
        unmatched = [str(images[key]) for key in sorted(images.keys() - partners.keys())]
        if unmatched:
            raise UserError(
                f'{len(unmatched)} of {len(images)} images have no partner in {root}: '
                f'{", ".join(unmatched[:3])}{", ..." if len(unmatched) > 3 else ""}'
            )


def _pairs_of_list(root_lq: str, root_gt: str | None, list_file: str) -> list[Pair]:
    for root in (root_lq, root_gt):
        if root and (is_lmdb(root) or '*' in root):
            raise UserError(f'meta_info_file {list_file} needs a plain folder as root, got {root}')
    named = read_list(list_file)
    folders = os.path.commonpath([os.path.dirname(lq) for _, lq in named])
    pairs = []
    for gt, lq in sorted(named, key=lambda names: names[1]):
        name = '_'.join(Path(os.path.relpath(lq, folders or '.')).parts)
        pair = Pair(
            name, StoredImage(os.path.join(root_lq, lq)), StoredImage(os.path.join(root_gt, gt)) if root_gt else None
        )
        check_files_exist(filter(None, (pair.lq, pair.gt)), list_file)
        pairs.append(pair)
    return pairs


def warn_of_transparency(pairs: Sequence[Pair]) -> None:
    """Emit a `DataWarning` if images have transparent pixels. Only a few pairs across the dataset are checked."""
    for pair in pairs[:: max(1, len(pairs) // 3)]:
        for image in filter(None, (pair.lq, pair.gt)):
            with suppress(UserError):  # raised again when the image is read
                if is_transparent(image.read_bytes()):
                    text = f'the transparency of images such as {image} is ignored; only their colors are used'
                    warnings.warn(DataWarning(text), stacklevel=2)
                    return


def read_list(list_file: str | os.PathLike) -> list[tuple[str, str]]:
    """Return the sharp and the blurry image of each line of a list. A single name in a line applies to both.

    Names end in the suffix of an image and may contain spaces. More fields, such as the shape of the image in BasicSR's
    own lists ('0001.png (480,480,3)'), are ignored.

    Raises:
        UserError: The list cannot be read, is empty, or has a line without the name of an image.
    """
    found = []
    for line in read_lines(list_file, 'the list of pairs'):
        names = _LISTED_NAME.findall(line)
        if not names:
            raise UserError(
                f'the list of pairs {list_file} has the line {line.strip()[:200]!r}, expected the names of a sharp and '
                f'a blurry image that end in {", ".join(SUFFIXES)}'
            )
        found.append((names[0], names[1] if len(names) > 1 else names[0]))
    return found


def check_files_exist(images: Iterable[StoredImage], list_file: str | os.PathLike) -> None:
    """Check that the images named in a list exist.

    Raises:
        UserError: An image is missing.
    """
    for image in images:
        if not os.path.isfile(image.path):
            raise UserError(f'{image}, listed in {list_file}, does not exist')


def check_unique_names(pairs: Iterable[Pair]) -> None:
    """Check that the names of pairs differ in more than their suffix.

    Raises:
        UserError: Two pairs have the same name.
    """
    seen: dict[str, Pair] = {}
    for pair in pairs:
        other = seen.setdefault(os.path.splitext(pair.name)[0], pair)
        if other is not pair:
            raise UserError(f'{other.lq} and {pair.lq} would both be saved as {pair.name}: rename one')
