"""From the folder of a downloaded archive to databases or folders of pairs."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from deeprftv2_plugin.data.layouts.folders import UNDIVIDED
from deeprftv2_plugin.data.layouts.known import RecognizedDataset, recognize
from deeprftv2_plugin.data.layouts.pairs import Pair
from deeprftv2_plugin.data.preparation.journal import Entry, Journal
from deeprftv2_plugin.data.preparation.pieces import Crops, cut
from deeprftv2_plugin.data.preparation.stores import SIDES, FolderPair, LmdbPair
from deeprftv2_plugin.data.preparation.workers import Workers
from deeprftv2_plugin.data.storage.lmdb_writer import check_key
from deeprftv2_plugin.utils.atomic_io import sync_folder
from deeprftv2_plugin.utils.errors import UserError

JOURNAL = '.partial/journal'
"""Beside it is what is not finished; both in the destination."""
BATCH = 2**25
"""Bytes that are stored at a time; a kill loses no more of the work, and what is being worked on."""


def prepare_archive(
    source: str | Path,
    dest: str | Path,
    splits: list[str] | None = None,
    crops: Crops | None = None,
    folders: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Writes dest/SPLIT_blur.lmdb and dest/SPLIT_sharp.lmdb for the splits of a data set.

    Every pair is stored under its name, with the bytes of its files; crops are stored as PNGs (see `cut`). All are
    decoded on the way, so that nothing damaged is stored. A split appears under its name when it is finished. What is
    not is in dest/.partial, where the next run with the same settings goes on.

    Args:
        source: The folder that the archive unpacks to, or the one around it.
        dest: Folder to write into; created where it is absent.
        splits: Which ones; all that are there when None.
        crops: Windows that training splits are cut into: those whose name begins with 'train', and all of an undivided
            set. Others are stored whole.
        folders: Whether to write folders of files, dest/SPLIT_blur and dest/SPLIT_sharp.
        progress: Whether to show progress bars.
        say: Takes what was recognized and what is written.

    Returns:
        What was written: for each split the blurry and the sharp pictures.

    Raises:
        UserError: The source is laid out like no data set that is known, a picture is damaged, what is to be written is
            there already, or dest/.partial is that of other settings.
    """
    layout = recognize(source)
    dest = Path(dest).expanduser()
    pairs = {split: layout.pairs(split) for split in splits or layout.splits}
    say(
        f'{layout.root} is recognized as {layout.layout}: ' + ', '.join(f'{s} {len(p)} pairs' for s, p in pairs.items())
    )
    _check(layout, dest, pairs, crops)
    store = FolderPair if folders else LmdbPair
    settings = {
        'source': str(layout.root.resolve()),
        'layout': layout.layout,
        'splits': list(pairs),
        'crop': crops and crops.size,
        'step': crops and crops.step,
        'form': 'folders' if folders else 'LMDB',
    }
    places = {split: [dest / f'{split}_{side}{store.suffix}' for side in SIDES] for split in pairs}
    journal = _open_journal(dest, settings, [path for paths in places.values() for path in paths])
    try:
        with Workers() as workers:
            for split, content in pairs.items():
                parts = [journal.path.parent / path.name for path in places[split]]
                if split not in journal.finished:
                    _require_absent(places[split])
                    cutting = partial(cut, crops=crops if _is_training(split) else None)
                    _store(store, parts, split, content, journal, partial(workers.map, cutting), progress)
                _publish(parts, places[split])
                say(f'{split}: ' + ', '.join(map(str, places[split])))
        journal.remove()
    except OSError as error:
        raise UserError(f'{dest} could not be finished: {error}. What was done is kept: repeat the command') from error
    finally:
        journal.close()
    return [path for paths in places.values() for path in paths]


def _is_training(split: str) -> bool:
    return split.startswith('train') or split == UNDIVIDED


def _check(layout: RecognizedDataset, dest: Path, pairs: dict[str, list[Pair]], crops: Crops | None) -> None:
    if dest.resolve().is_relative_to(layout.root.resolve()):
        raise UserError(f'{dest} is in the data set {layout.root} itself: name a folder elsewhere to write into')
    if dest.exists() and not dest.is_dir():
        raise UserError(f'{dest} is no folder: name one to write into')
    if crops and not any(map(_is_training, pairs)):
        raise UserError(f'only training splits are cropped, and {", ".join(pairs)} is none: leave the crop out')
    for pair in (pair for content in pairs.values() for pair in content):
        try:
            check_key(f'{pair.name}_s001')
        except UserError as error:
            raise UserError(f'{pair.lq} would be stored as {pair.name}, but {error}: rename it') from error


def _open_journal(dest: Path, settings: dict[str, object], finals: list[Path]) -> Journal:
    """The journal of an interrupted run, or that of a new one where nothing would be overwritten."""
    path = dest / JOURNAL
    if not path.exists():
        _require_absent(finals)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Journal(path, settings)
    except OSError as error:
        raise UserError(f'cannot write into {path.parent}: {error.strerror}') from error


def _require_absent(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise UserError(f'{path} is there already and is not overwritten: remove it or name another folder')


def _store(
    store: type, parts: list[Path], split: str, pairs: list[Pair], journal: Journal, cut_all: Callable, progress: bool
) -> None:
    """Stores what is not stored yet of a split."""
    stored = journal.stored.get(split, {})
    if gone := stored.keys() - {pair.name for pair in pairs}:
        raise UserError(
            f'{parts[0].parent} has {min(gone)} from the interrupted run, which is in the source no more: put it back, '
            'or remove the folder to start over'
        )
    pictures = store(parts)
    try:
        # What was being stored when a run was killed may be in the source no more, or have changed there.
        pictures.remove(entry for entries in journal.begun.get(split, {}).values() for entry in entries)
        todo = [pair for pair in pairs if pair.name not in stored]
        with tqdm(total=len(pairs), initial=len(stored), desc=split, unit='pair', disable=not progress) as bar:
            try:
                _store_all(pictures, split, todo, journal, cut_all, bar)
            except UserError as error:
                raise UserError(
                    f'{error}. What was done is kept: mend this and repeat the command to go on. With --verify the '
                    'source is searched for whatever else is damaged'
                ) from error
        stored = journal.stored.get(split, {})
        pictures.finish(entry for pair in pairs for entry in stored[pair.name])
    finally:
        pictures.close()
    journal.finish(split)


def _store_all(pictures, split, pairs, journal, cut_all, bar):
    batch = {}

    def flush():
        done = batch.copy()
        batch.clear()
        journal.begin(split, ((name, [Entry(*piece[:3]) for piece in pieces]) for name, pieces in done.items()))
        pictures.put([piece for pieces in done.values() for piece in pieces])
        journal.add(split, done)

    size = 0
    try:
        for pair, pieces in zip(pairs, cut_all(pairs), strict=True):
            batch[pair.name] = pieces
            size += sum(len(piece.lq) + len(piece.gt) for piece in pieces)
            bar.update()
            if size >= BATCH:
                flush()
                size = 0
    finally:  # also when a picture is damaged, or at Ctrl-C
        if batch:
            flush()


def _publish(parts: list[Path], finals: list[Path]) -> None:
    """Renames what is finished; after a kill between the two, the one that is left."""
    for part, final in zip(parts, finals, strict=True):
        if part.exists():
            _require_absent([final])
            os.replace(part, final)
        elif not final.exists():
            raise UserError(f'{final} was finished and is gone: remove {part.parent} to start over')
    sync_folder(finals[0].parent)
