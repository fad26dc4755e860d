"""Write images to an LMDB in BasicSR's format: `data.mdb`, `lock.mdb` and `meta_info.txt`."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import lmdb
import numpy as np

from deeprftv2_plugin.data.storage.images import PNG_LEVEL, encode_png
from deeprftv2_plugin.data.storage.lmdb_reader import DATA, META_INFO, check_structure
from deeprftv2_plugin.utils.errors import UserError

FIRST_MAP_SIZE = 2**26
LONGEST_KEY = 511
"""Maximum length of a key of LMDB."""


def check_key(key: str, longest: int = LONGEST_KEY) -> None:
    """Check that BasicSR can read a key. BasicSR encodes keys as ASCII and cuts them at the first dot.

    Args:
        key: The key.
        longest: Maximum number of characters.

    Raises:
        UserError: The key is empty, too long or not ASCII, or has a dot, slash or whitespace.
    """
    if not 0 < len(key) <= longest or not key.isascii() or any(character in key for character in './\\ \t\n'):
        raise UserError(f'a key is 1 to {longest} ASCII characters without dots, slashes or whitespace, got {key!r}')


def meta_line(key: str, shape: tuple[int, ...]) -> str:
    """Return the line `key.png (height,width,channels) level` of meta_info.txt. The suffix is always .png."""
    height, width, *channels = shape
    return f'{key}.png ({height},{width},{channels[0] if channels else 1}) {PNG_LEVEL}\n'


class GrowingLmdb:
    """A database, new or existing, whose map grows with its content.

    BasicSR reserves a terabyte, which some file systems allocate at once.

    Args:
        folder: The folder of the database.
        durable: Whether `put` flushes values to disk. Otherwise, only `close` does.

    Raises:
        UserError: The folder cannot be opened as a database, or has a database that is damaged.
    """

    def __init__(self, folder: str | Path, durable: bool = True):
        self.folder, self._durable = Path(folder), durable
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / DATA
        if path.exists() and not (path.is_file() and path.stat().st_size == 0):
            check_structure(str(self.folder))  # LMDB can kill the process when it reads a damaged file
        try:
            self._environment = lmdb.open(os.fsencode(self.folder), map_size=FIRST_MAP_SIZE, sync=durable)
        except lmdb.Error as error:
            raise UserError(f'cannot open the database {self.folder} for writing: {error}') from error

    def put(self, values: Mapping[str, bytes], overwrite: bool = True) -> None:
        """Store all values in one transaction.

        Raises:
            KeyError: A key exists and `overwrite` is false.
            UserError: The values cannot be written, for example because the disk is full.
        """

        def store(transaction: lmdb.Transaction) -> None:
            for key, value in values.items():
                if not transaction.put(key.encode('ascii'), value, overwrite=overwrite):
                    raise KeyError(key)

        self._change(store)

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove all other keys in one transaction.

        Raises:
            UserError: The change cannot be written, for example because the disk is full.
        """
        kept = {key.encode('ascii') for key in keys}

        def remove(transaction: lmdb.Transaction) -> None:
            stored = transaction.cursor().iternext(keys=True, values=False)
            for key in [bytes(key) for key in stored if key not in kept]:
                transaction.delete(key)

        self._change(remove)

    def _change(self, action: Callable[[lmdb.Transaction], None]) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    return action(transaction)
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])
            except lmdb.Error as error:
                raise UserError(f'cannot write to the database {self.folder}: {error}') from error

    def close(self) -> None:
        """Write everything to disk and close the database."""
        if not self._durable:
            self._environment.sync(True)
        self._environment.close()


class LmdbWriter:
    """Context manager that writes a new database of PNG images.

    `meta_info.txt` lists the images as `key.png (height,width,channels) level`, in the order of writing. The database
    is complete when the context exits. For all-or-nothing behavior, write to a temporary folder and rename it.

    Args:
        folder: The folder to create. The name must end in '.lmdb', which is how BasicSR recognizes a database.

    Raises:
        ValueError: The name does not end in '.lmdb'.
        FileExistsError: The folder exists.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if self.folder.suffix != '.lmdb':
            raise ValueError(f"the name of a database must end in '.lmdb', got {self.folder}")
        self.folder.mkdir(parents=True)
        self._database = GrowingLmdb(self.folder, durable=False)
        self._lines: list[str] = []

    def add(self, key: str, image: np.ndarray) -> None:
        """Store an image.

        Args:
            key: A name without dots, since BasicSR cuts keys at the first dot.
            image: BGR array (H, W, 3) or grayscale array (H, W) of uint8 or uint16.

        Raises:
            ValueError: The key exists or is not valid, see `check_key`.
        """
        check_key(key)
        try:
            self._database.put({key: encode_png(image)}, overwrite=False)
        except KeyError:
            raise ValueError(f'key {key!r} is already in {self.folder}') from None
        self._lines.append(meta_line(key, image.shape))

    def __enter__(self) -> 'LmdbWriter':
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()
        (self.folder / META_INFO).write_text(''.join(self._lines))
