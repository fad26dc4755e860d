"""Verify prepared or downloaded datasets."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from deeprftv2_plugin.data.layouts.known import recognize, require_folder
from deeprftv2_plugin.data.layouts.pairs import Pair, find_pairs
from deeprftv2_plugin.data.preparation.archive import JOURNAL
from deeprftv2_plugin.data.preparation.stores import SIDES, FolderPair, LmdbPair
from deeprftv2_plugin.data.preparation.workers import Workers
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.lmdb_reader import check_structure, is_lmdb, read_shapes
from deeprftv2_plugin.utils.errors import UserError


class Check(NamedTuple):
    """A pair to verify, with the shapes of both images according to meta_info.txt."""

    pair: Pair
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None] = (None, None)


def verify(root: str | Path, progress: bool = True, say: Callable[[str], None] = lambda text: None) -> int:
    """Decode every pair below a folder, prepared or with a layout known to `layouts.known.recognize`.

    The images of a pair must be undamaged, have the same size and bit depth and, in a database, the size listed in
    meta_info.txt.

    Args:
        root: The folder.
        progress: Whether to show a progress bar.
        say: Function called with messages about the datasets found and about every invalid pair.

    Returns:
        The number of pairs.

    Raises:
        UserError: There are invalid pairs, or the folder is not a dataset or is incomplete.
    """
    root = Path(root).expanduser()
    require_folder(root)
    unfinished = os.path.exists(root / JOURNAL)
    checks = _prepared(root, say) or ([] if unfinished else _downloaded(root, say))
    invalid = 0
    with Workers() as workers, tqdm(total=len(checks), unit='pair', disable=not progress) as bar:
        for check, problems in zip(checks, workers.map(find_problems, checks), strict=True):
            if problems:
                bar.clear()
                say(f'{check.pair.name}: {"; ".join(problems)}')
                invalid += 1
            bar.update()
    if invalid:
        raise UserError(f'{invalid} of {len(checks)} pairs in {root} are invalid')
    if unfinished:
        raise UserError(f'{root} is not finished: rerun the command that prepares it')
    say(f'all {len(checks)} pairs are valid')
    return len(checks)


def find_problems(check: Check) -> list[str]:
    """Return a message for each problem of a pair."""
    problems, arrays = [], []
    for image, shape in zip((check.pair.lq, check.pair.gt), check.shapes, strict=True):
        if image is None:
            continue
        try:
            array = image.read()
        except UserError as error:
            problems.append(str(error))
            continue
        arrays.append(array)
        if shape and shape[:2] != array.shape[:2]:
            problems.append(f'{image} has {_size(array.shape)} pixels, but meta_info.txt lists {_size(shape)}')
    if not problems:
        lq, gt = arrays[0], arrays[-1]
        if lq.shape != gt.shape:
            problems.append(f'the blurry image has {_size(lq.shape)} pixels, the sharp image {_size(gt.shape)}')
        if lq.dtype != gt.dtype:
            problems.append(f'the blurry image has type {lq.dtype}, the sharp image {gt.dtype}')
    return problems


def _size(shape: tuple[int, ...]) -> str:
    return f'{shape[1]}x{shape[0]}'


def _prepared(root: Path, say: Callable[[str], None]) -> list[Check]:
    """Return the pairs of all prepared splits in a folder."""
    checks: list[Check] = []
    for store in (LmdbPair, FolderPair):
        ends = [f'_{side}{store.suffix}' for side in SIDES]
        for blurry in sorted(path for path in root.glob(f'*{ends[0]}') if os.path.isdir(path)):
            split = blurry.name.removesuffix(ends[0])
            roots = [str(root / f'{split}{end}') for end in ends]
            if not os.path.isdir(roots[1]):
                if is_lmdb(roots[1]):
                    raise UserError(f'{roots[0]} exists, but {roots[1]} is missing: rerun the command that writes it')
                continue
            pairs = find_pairs(*roots)
            say(f'{root} has the prepared split {split}: {len(pairs)} pairs')
            checks += _with_shapes(pairs, roots) if is_lmdb(roots[0]) else map(Check, pairs)
    return checks


def _with_shapes(pairs: list[Pair], roots: list[str]) -> list[Check]:
    for database in roots:
        check_structure(database)
    lq, gt = map(read_shapes, roots)
    return [Check(pair, (lq[pair.name], gt[pair.name])) for pair in pairs]


def _downloaded(root: Path, say: Callable[[str], None]) -> list[Check]:
    """Return the pairs of all splits of a downloaded dataset. A pair in several splits is returned once."""
    dataset = recognize(root)
    found: dict[tuple[StoredImage, StoredImage | None], Pair] = {}
    for split in dataset.splits:
        pairs = dataset.pairs(split)
        say(f'{dataset.root} is recognized as {dataset.layout}: {split} {len(pairs)} pairs')
        found |= {(pair.lq, pair.gt): pair for pair in pairs if (pair.lq, pair.gt) not in found}
    return [Check(pair) for pair in found.values()]
