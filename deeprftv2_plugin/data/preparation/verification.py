"""Which pairs of a data set cannot be read, be it prepared or as it was downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from deeprftv2_plugin.data.layouts.known import recognize
from deeprftv2_plugin.data.layouts.pairs import Pair, find_pairs
from deeprftv2_plugin.data.preparation.archive import JOURNAL
from deeprftv2_plugin.data.preparation.stores import SIDES, FolderPair, LmdbPair
from deeprftv2_plugin.data.preparation.workers import Workers
from deeprftv2_plugin.data.storage.lmdb_reader import check_complete, is_lmdb, read_shapes
from deeprftv2_plugin.utils.errors import UserError


class Check(NamedTuple):
    """A pair, and what its meta_info.txt says of either side."""

    pair: Pair
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None] = (None, None)


def verify(root: str | Path, progress: bool = True, say: Callable[[str], None] = lambda text: None) -> int:
    """Decodes every pair below a folder, prepared or laid out as `layouts.recognize` knows it.

    The pictures of a pair must be undamaged, of one size and depth, and in a database of the size that its
    meta_info.txt says.

    Args:
        root: The folder.
        progress: Whether to show a progress bar.
        say: Takes what was found, and the sentences about every pair that is broken.

    Returns:
        The number of pairs.

    Raises:
        UserError: Pairs are broken, or the folder as a whole is no data set, incomplete or not finished.
    """
    root = Path(root).expanduser()
    unfinished = (root / JOURNAL).exists()
    checks = _prepared(root, say) or ([] if unfinished else _raw(root, say))
    broken = 0
    with Workers() as workers, tqdm(total=len(checks), unit='pair', disable=not progress) as bar:
        for check, faults in zip(checks, workers.map(find_faults, checks), strict=True):
            if faults:
                bar.clear()
                say(f'{check.pair.name}: {"; ".join(faults)}')
                broken += 1
            bar.update()
    if broken:
        raise UserError(f'{broken} of {len(checks)} pairs in {root} are broken')
    if unfinished:
        raise UserError(f'{root} is not finished: repeat the command that was to prepare it')
    say(f'all {len(checks)} pairs are sound')
    return len(checks)


def find_faults(check: Check) -> list[str]:
    """What is wrong with a pair, a sentence for each fault."""
    faults, images = [], []
    for image, shape in zip((check.pair.lq, check.pair.gt), check.shapes, strict=True):
        try:
            picture = image.read()
        except UserError as error:
            faults.append(str(error))
            continue
        images.append(picture)
        if shape and shape[:2] != picture.shape[:2]:
            faults.append(f'{image} has {_size(picture.shape)} pixels, its meta_info.txt says {_size(shape)}')
    if not faults:
        lq, gt = images
        if lq.shape != gt.shape:
            faults.append(f'the blurry picture has {_size(lq.shape)} pixels, the sharp one {_size(gt.shape)}')
        if lq.dtype != gt.dtype:
            faults.append(f'the blurry picture holds {lq.dtype}, the sharp one {gt.dtype}')
    return faults


def _size(shape):
    return f'{shape[1]}x{shape[0]}'


def _prepared(root, say):
    """The pairs of all splits that were prepared in a folder."""
    checks = []
    for store in (LmdbPair, FolderPair):
        ends = [f'_{side}{store.suffix}' for side in SIDES]
        for blurry in sorted(path for path in root.glob(f'*{ends[0]}') if path.is_dir()):
            split = blurry.name.removesuffix(ends[0])
            roots = [str(root / f'{split}{end}') for end in ends]
            if not Path(roots[1]).is_dir():
                if is_lmdb(roots[1]):
                    raise UserError(f'{roots[0]} is there, but {roots[1]} is missing: repeat the command that wrote it')
                continue
            pairs = find_pairs(*roots)
            say(f'{root} holds {split}, prepared: {len(pairs)} pairs')
            checks += _with_shapes(pairs, roots) if is_lmdb(roots[0]) else map(Check, pairs)
    return checks


def _with_shapes(pairs, roots):
    for database in roots:
        check_complete(database)
    lq, gt = map(read_shapes, roots)
    return [Check(pair, (lq[pair.name], gt[pair.name])) for pair in pairs]


def _raw(root, say):
    """The pairs of all splits of a data set as it was downloaded; those of several splits once."""
    layout = recognize(root)
    found = {}
    for split in layout.splits:
        pairs = layout.pairs(split)
        say(f'{layout.root} is recognized as {layout.layout}: {split} {len(pairs)} pairs')
        found |= {(pair.lq, pair.gt): pair for pair in pairs if (pair.lq, pair.gt) not in found}
    return [Check(pair) for pair in found.values()]
