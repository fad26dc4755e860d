"""Write pictures into an LMDB as BasicSR reads it: `data.mdb`, `lock.mdb` and `meta_info.txt`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import lmdb
import numpy as np

from deeprftv2_plugin.utils.errors import UserError

PNG_LEVEL = 1
FIRST_MAP_SIZE = 2**26
META_INFO = 'meta_info.txt'


def require_key(key: str) -> None:
    """Sees that BasicSR can read a key, which it ends at the first dot and turns into ASCII.

    Raises:
        UserError: The key is empty, too long, not ASCII, or holds a dot, slash or blank.
    """
    if not 0 < len(key) < 512 or not key.isascii() or any(character in key for character in './\\ \t\n'):
        raise UserError(f'a key needs at most 511 plain characters without dot, slash or blank, got {key!r}')


def meta_line(key: str, shape: tuple[int, ...]) -> str:
    """The line `key.png (height,width,channels) level` of meta_info.txt, in which every picture is called PNG."""
    height, width, *channels = shape
    return f'{key}.png ({height},{width},{channels[0] if channels else 1}) {PNG_LEVEL}\n'


def encode_png(image: np.ndarray) -> bytes:
    """PNG of an array (H, W) or (H, W, 3) of uint8 or uint16, BGR as OpenCV has it.

    Raises:
        ValueError: PNG cannot hold it.
    """
    done, png = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise ValueError(f'PNG cannot hold a picture {image.shape} of {image.dtype}')
    return png.tobytes()


class GrowingLmdb:
    """A database, new or begun, whose map grows with what is stored.

    Growing by need instead of BasicSR's terabyte: some file systems allocate the map at once.

    Args:
        folder: Where it is or is to be.
        durable: Whether the disk has what was stored when `put` returns; otherwise when `close` does.

    Raises:
        UserError: The folder holds something else.
    """

    def __init__(self, folder: str | Path, durable: bool = True):
        self.folder, self._durable = Path(folder), durable
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._environment = lmdb.open(str(self.folder), map_size=FIRST_MAP_SIZE, sync=durable)
        except lmdb.Error as error:
            raise UserError(f'cannot open the database {self.folder} for writing: {error}') from error

    def put(self, values: Mapping[str, bytes], overwrite: bool = True) -> None:
        """Stores all values or, where that fails, none.

        Raises:
            KeyError: A key is there already and is not to be overwritten.
            UserError: The disk is full or fails.
        """

        def store(transaction):
            for key, value in values.items():
                if not transaction.put(key.encode('ascii'), value, overwrite=overwrite):
                    raise KeyError(key)

        self._change(store)

    def remove(self, keys: Iterable[str]) -> None:
        """Removes what is stored under keys, of which some may be absent.

        Raises:
            UserError: The disk is full or fails.
        """
        keys = list(keys)

        def remove(transaction):
            for key in keys:
                transaction.delete(key.encode('ascii'))

        self._change(remove)

    def _change(self, action):
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    return action(transaction)
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])
            except lmdb.Error as error:
                raise UserError(f'cannot write into the database {self.folder}: {error}') from error

    def close(self) -> None:
        """Lets the disk have everything."""
        if not self._durable:
            self._environment.sync(True)
        self._environment.close()


class LmdbWriter:
    """Context manager that writes one database of PNG pictures.

    Every picture is a line `key.png (height,width,channels) level` of `meta_info.txt`, in the order written.
    The database is complete once the context is left; who needs it whole or not at all writes into a
    temporary folder and renames that.

    Args:
        folder: Folder to create. Its name ends in '.lmdb', by which BasicSR knows a database.

    Raises:
        ValueError: The name ends otherwise.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if self.folder.suffix != '.lmdb':
            raise ValueError(f"the name of a database ends in '.lmdb', got {self.folder}")
        self.folder.mkdir(parents=True)
        self._database = GrowingLmdb(self.folder, durable=False)
        self._lines = []

    def add(self, key: str, image: np.ndarray) -> None:
        """Stores a picture.

        Args:
            key: Name without dot, since BasicSR ends a key at the first one.
            image: Array (H, W) or (H, W, 3) of uint8 or uint16, BGR as OpenCV has it.

        Raises:
            ValueError: The key is empty, not ASCII, holds a dot, slash or blank, or is there already.
        """
        require_key(key)
        try:
            self._database.put({key: encode_png(image)}, overwrite=False)
        except KeyError:
            raise ValueError(f'key {key!r} is in {self.folder} already') from None
        self._lines.append(meta_line(key, image.shape))

    def __enter__(self) -> 'LmdbWriter':
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()
        (self.folder / META_INFO).write_text(''.join(self._lines))
