"""Where pieces are stored until a split is finished: two databases or two folders."""

import os
from collections.abc import Iterable
from pathlib import Path

from deeprftv2_plugin.data.preparation.journal import Entry
from deeprftv2_plugin.data.preparation.pieces import Piece
from deeprftv2_plugin.data.storage.lmdb_writer import META_INFO, GrowingLmdb, meta_line
from deeprftv2_plugin.utils.atomic_io import sync_folder, write_whole

SIDES = ('blur', 'sharp')


class LmdbPair:
    """Two databases with equal keys, as BasicSR reads them.

    Args:
        folders: Those of the blurry and of the sharp pictures.
    """

    suffix = '.lmdb'

    def __init__(self, folders: list[Path]):
        self._databases = [GrowingLmdb(folder) for folder in folders]

    def remove(self, entries: Iterable[Entry]) -> None:
        """Removes pictures that may be there."""
        keys = [entry.key for entry in entries]
        for database in self._databases:
            database.remove(keys)

    def put(self, pieces: list[Piece]) -> None:
        """Stores pieces; the disk has them when this returns."""
        lq, gt = self._databases
        lq.put({piece.key: piece.lq for piece in pieces})
        gt.put({piece.key: piece.gt for piece in pieces})

    def finish(self, entries: Iterable[Entry]) -> None:
        """Writes what else belongs to a database, given all that are stored in their order."""
        lines = ''.join(meta_line(entry.key, entry.shape) for entry in entries)
        for database in self._databases:
            write_whole(database.folder / META_INFO, lines.encode())

    def close(self) -> None:
        for database in self._databases:
            database.close()


class FolderPair:
    """Two folders of files with equal names, as BasicSR reads them.

    Args:
        folders: Those of the blurry and of the sharp pictures.
    """

    suffix = ''

    def __init__(self, folders: list[Path]):
        self._folders = folders
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)

    def remove(self, entries: Iterable[Entry]) -> None:
        """Removes pictures that may be there."""
        for entry in entries:
            for folder in self._folders:
                (folder / (entry.key + entry.suffix)).unlink(missing_ok=True)

    def put(self, pieces: list[Piece]) -> None:
        """Stores pieces; the disk has them when this returns."""
        for folder, side in zip(self._folders, ('lq', 'gt'), strict=True):
            for piece in pieces:
                _write(folder / (piece.key + piece.suffix), getattr(piece, side))
            sync_folder(folder)

    def finish(self, entries: Iterable[Entry]) -> None:
        """Nothing else belongs to a folder: BasicSR takes every file in it for a picture."""

    def close(self) -> None:
        pass


def _write(path, data):
    with open(path, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
