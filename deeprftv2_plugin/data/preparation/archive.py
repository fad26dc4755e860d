"""Convert an unpacked dataset to LMDBs or folders of pairs."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deeprftv2_plugin.data.layouts.folders import UNDIVIDED
from deeprftv2_plugin.data.layouts.known import RecognizedDataset, recognize
from deeprftv2_plugin.data.layouts.pairs import Pair, warn_of_transparency
from deeprftv2_plugin.data.preparation.crops import CropGrid, EncodedPair, encode_pair
from deeprftv2_plugin.data.preparation.journal import Journal
from deeprftv2_plugin.data.preparation.stores import SIDES, FolderPair, LmdbPair, PairStore
from deeprftv2_plugin.data.preparation.workers import Workers
from deeprftv2_plugin.data.storage.lmdb_writer import LONGEST_KEY, check_key
from deeprftv2_plugin.utils.atomic_io import advice, sync_folder
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.locks import UNLOCKED

JOURNAL = '.partial/journal'
"""Path of the journal in the destination. Unfinished splits are stored next to it."""
LONGEST_FILE_KEY = 240
"""Maximum length of the name of a crop in a folder of files, without the suffix."""
BATCH = 2**25
"""Number of bytes to store at a time. A killed run loses at most these and the images being encoded."""


def prepare_archive(
    source: str | Path,
    dest: str | Path,
    splits: list[str] | None = None,
    crops: CropGrid | None = None,
    folders: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Write the splits of a dataset to dest/SPLIT_blur.lmdb and dest/SPLIT_sharp.lmdb.

    Pairs are stored under their names with the bytes of their files. Crops are stored as PNGs, see `encode_pair`. Every
    image is decoded, so that damaged images are not stored. A split appears in `dest` once it is complete. Unfinished
    work is kept in dest/.partial, and the next run with the same settings resumes from there.

    Args:
        source: The unpacked folder of an archive, or its parent.
        dest: Folder to write to, created if missing.
        splits: Names of the splits. Default: all that have sharp images.
        crops: Windows to cut training splits into. Training splits have names that start with 'train', or are
            undivided. Other splits are stored whole.
        folders: Whether to write folders of files, dest/SPLIT_blur and dest/SPLIT_sharp, instead of LMDBs.
        progress: Whether to show progress bars.
        say: Function called with messages about the recognized dataset and the written paths.

    Returns:
        The paths of the blurry and the sharp images of each split.

    Raises:
        UserError: The source is not a known dataset, an image is damaged, an output path exists, or dest/.partial
            belongs to other settings.
    """
    dataset = recognize(source)
    dest = Path(dest).expanduser()
    pairs = {split: dataset.pairs(split) for split in splits or dataset.splits}
    for split in [] if splits else [name for name, found in pairs.items() if found[0].gt is None]:
        say(f'{split} has no sharp images and is skipped')
        del pairs[split]
    counts = ', '.join(f'{split} {len(found)} pairs' for split, found in pairs.items())
    say(f'{dataset.root} is recognized as {dataset.layout}: {counts}')
    _check(dataset, dest, pairs, crops, folders)
    for split, found in pairs.items():
        if crops and _is_training(split):
            warn_of_transparency(found)
    store: type[PairStore] = FolderPair if folders else LmdbPair
    settings = {
        'source': str(dataset.root.resolve()),
        'layout': dataset.layout,
        'splits': list(pairs),
        'crop': crops and crops.size,
        'step': crops and crops.step,
        'format': 'folders' if folders else 'LMDB',
    }
    outputs = {split: [dest / f'{split}_{side}{store.suffix}' for side in SIDES] for split in pairs}
    written = [path for paths in outputs.values() for path in paths]
    journal = _open_journal(dest, settings, written)
    if not journal.is_locked:
        say(UNLOCKED.format(dest))
    try:
        with Workers() as workers:
            for split, paths in outputs.items():
                partial_paths = [journal.path.parent / path.name for path in paths]
                if split not in journal.finished:
                    _check_absent(paths)
                    encode = partial(encode_pair, crops=crops if _is_training(split) else None)
                    _store_split(
                        store, partial_paths, split, pairs[split], journal, partial(workers.map, encode), progress
                    )
                _publish(partial_paths, paths)
                say(f'{split}: ' + ', '.join(map(str, paths)))
        journal.remove()
    except OSError as error:
        raise UserError(
            f'cannot complete {dest}: {error}. {advice(error)}. Completed work is kept: rerun the command to resume'
        ) from error
    finally:
        journal.close()
    return written


def _is_training(split: str) -> bool:
    return split.startswith('train') or split == UNDIVIDED


def _check(
    dataset: RecognizedDataset, dest: Path, pairs: dict[str, list[Pair]], crops: CropGrid | None, folders: bool
) -> None:
    if Path(os.path.realpath(dest)).is_relative_to(os.path.realpath(dataset.root)):
        raise UserError(f'{dest} is inside the dataset {dataset.root}: choose another folder to write to')
    if os.path.lexists(dest) and not os.path.isdir(dest):
        raise UserError(f'{dest} is not a folder: choose a folder to write to')
    if crops and not any(map(_is_training, pairs)):
        raise UserError(f'crops apply only to training splits, got {", ".join(pairs)}: remove the crop size')
    for pair in (pair for found in pairs.values() for pair in found):
        try:
            check_key(f'{pair.name}_s001', LONGEST_FILE_KEY if folders else LONGEST_KEY)
        except UserError as error:
            raise UserError(f'{pair.lq} would be stored as {pair.name}, but {error}: rename it') from error


def _open_journal(dest: Path, settings: dict[str, Any], outputs: list[Path]) -> Journal:
    """Open the journal of an interrupted run or, if no output exists, start a new one."""
    path = dest / JOURNAL
    _check_unfinished(path.parent)
    if not os.path.exists(path):
        _check_absent(outputs)
    elif not os.path.isfile(path):
        raise UserError(f'{path} is not a file: remove {path.parent} to start over')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Journal(path, settings)
    except OSError as error:
        raise UserError(f'cannot write to {path.parent}: {error.strerror}. {advice(error)}') from error


def _check_unfinished(folder: Path) -> None:
    """Refuse links and pipes in the folder of unfinished work, since writing to them would affect other files."""
    inside = (Path(parent, name) for parent, *names in os.walk(folder) for name in sum(names, []))
    for path in (folder, *inside):
        if os.path.lexists(path) and (path.is_symlink() or not (path.is_dir() or path.is_file())):
            raise UserError(f'{path} is neither a file nor a folder: remove {folder} to start over')


def _check_absent(paths: list[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise UserError(f'{path} exists and is not overwritten: remove it or choose another folder')


def _store_split(
    store: type[PairStore],
    folders: list[Path],
    split: str,
    pairs: list[Pair],
    journal: Journal,
    encode_all: Callable[[list[Pair]], Iterable[list[EncodedPair]]],
    progress: bool,
) -> None:
    """Store the pairs of a split that are not in the journal yet."""
    stored = journal.stored.setdefault(split, {})
    if missing := stored.keys() - {pair.name for pair in pairs}:
        raise UserError(
            f'{folders[0].parent} has {min(missing)} from the interrupted run, which is no longer in the source: put '
            'it back, or remove the folder to start over'
        )
    images = store(folders)
    try:
        remaining = [pair for pair in pairs if pair.name not in stored]
        with tqdm(total=len(pairs), initial=len(stored), desc=split, unit='pair', disable=not progress) as bar:
            try:
                _store_pairs(images, split, remaining, journal, encode_all, bar)
            except UserError as error:
                raise UserError(
                    f'{error}. Completed work is kept: repair the data and rerun the command to resume. Use --verify '
                    'to check the source for further damage'
                ) from error
        images.finish([entry for pair in pairs for entry in stored[pair.name]])
    finally:
        images.close()
    journal.finish(split)


def _store_pairs(
    images: PairStore,
    split: str,
    pairs: list[Pair],
    journal: Journal,
    encode_all: Callable[[list[Pair]], Iterable[list[EncodedPair]]],
    bar: tqdm,
) -> None:
    batch: dict[str, list[EncodedPair]] = {}

    def flush() -> None:
        done = batch.copy()
        batch.clear()
        images.put([encoded for parts in done.values() for encoded in parts])
        journal.add(split, {name: [encoded.entry for encoded in parts] for name, parts in done.items()})

    size = 0
    try:
        for pair, parts in zip(pairs, encode_all(pairs), strict=True):
            batch[pair.name] = parts
            size += sum(len(encoded.lq) + len(encoded.gt) for encoded in parts)
            bar.update()
            if size >= BATCH:
                flush()
                size = 0
    finally:  # also after a damaged image or Ctrl-C
        if batch:
            flush()


def _publish(partial_paths: list[Path], paths: list[Path]) -> None:
    """Move a finished split to its final place. If an earlier run was killed between the two renames, finish them."""
    for partial_path, path in zip(partial_paths, paths, strict=True):
        if partial_path.exists():
            _check_absent([path])
            os.replace(partial_path, path)
        elif not path.exists():
            raise UserError(f'{path} was finished but no longer exists: remove {partial_path.parent} to start over')
    sync_folder(paths[0].parent)
