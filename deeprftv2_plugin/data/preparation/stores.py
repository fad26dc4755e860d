"""Storage of the pairs of a split: two databases or two folders."""

from pathlib import Path
from typing import Protocol

from deeprftv2_plugin.data.preparation.crops import EncodedPair, Entry
from deeprftv2_plugin.data.storage.lmdb_reader import META_INFO
from deeprftv2_plugin.data.storage.lmdb_writer import GrowingLmdb, meta_line
from deeprftv2_plugin.utils.atomic_io import sync, sync_folder, write_whole

SIDES = ('blur', 'sharp')


class PairStore(Protocol):
    """Storage of blurry and sharp images under equal names, as BasicSR reads them.

    Args:
        folders: The folder of the blurry and that of the sharp images, created if missing.
    """

    suffix: str
    """Suffix of the folder names."""

    def __init__(self, folders: list[Path]): ...

    def put(self, pairs: list[EncodedPair]) -> None:
        """Store pairs and flush them to disk. Earlier pairs with the same keys are replaced."""

    def finish(self, entries: list[Entry]) -> None:
        """Remove everything except these entries, and write the list of entries in this order, if there is one."""

    def close(self) -> None:
        """Close the storage."""


class LmdbPair(PairStore):
    """Two databases with equal keys."""

    suffix = '.lmdb'

    def __init__(self, folders: list[Path]):
        self._databases = [GrowingLmdb(folder) for folder in folders]

    def put(self, pairs: list[EncodedPair]) -> None:
        blur, sharp = self._databases
        blur.put({pair.entry.key: pair.lq for pair in pairs})
        sharp.put({pair.entry.key: pair.gt for pair in pairs})

    def finish(self, entries: list[Entry]) -> None:
        lines = ''.join(meta_line(entry.key, entry.shape) for entry in entries)
        for database in self._databases:
            database.keep_only(entry.key for entry in entries)
            write_whole(database.folder / META_INFO, lines.encode())

    def close(self) -> None:
        for database in self._databases:
            database.close()


class FolderPair(PairStore):
    """Two folders of files with equal names."""

    suffix = ''

    def __init__(self, folders: list[Path]):
        self._folders = folders
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, pairs: list[EncodedPair]) -> None:
        blur, sharp = self._folders
        for pair in pairs:
            name = pair.entry.key + pair.entry.suffix
            _write(blur / name, pair.lq)
            _write(sharp / name, pair.gt)
        for folder in self._folders:
            sync_folder(folder)

    def finish(self, entries: list[Entry]) -> None:
        names = {entry.key + entry.suffix for entry in entries}
        for folder in self._folders:
            for path in list(folder.iterdir()):
                if path.name not in names:
                    path.unlink()

    def close(self) -> None:
        pass


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # it may be a link, which must not be followed
    with open(path, 'xb') as file:
        file.write(data)
        sync(file)
