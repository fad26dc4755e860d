"""Write pictures into an LMDB as BasicSR reads it: `data.mdb`, `lock.mdb` and `meta_info.txt`."""

from pathlib import Path

import cv2
import lmdb
import numpy as np

PNG_LEVEL = 1
FIRST_MAP_SIZE = 2**26


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
        self._environment = lmdb.open(str(self.folder), map_size=FIRST_MAP_SIZE, sync=False)
        self._lines = []

    def add(self, key: str, image: np.ndarray) -> None:
        """Stores a picture.

        Args:
            key: Name without dot, since BasicSR ends a key at the first one.
            image: Array (H, W) or (H, W, 3) of uint8 or uint16, BGR as OpenCV has it.

        Raises:
            ValueError: The key is empty, not ASCII, holds a dot, slash or blank, or is there already.
        """
        if not key or not key.isascii() or any(character in key for character in './\\ \t\n'):
            raise ValueError(f'a key needs plain characters without dot, slash or blank, got {key!r}')
        done, png = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
        if not done:
            raise ValueError(f'PNG cannot hold the picture {key}: {image.shape} of {image.dtype}')
        if not self._put(key.encode('ascii'), png.tobytes()):
            raise ValueError(f'key {key!r} is in {self.folder} already')
        height, width, *channels = image.shape
        self._lines.append(f'{key}.png ({height},{width},{channels[0] if channels else 1}) {PNG_LEVEL}\n')

    def _put(self, key: bytes, value: bytes) -> bool:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    return transaction.put(key, value, overwrite=False)
            except lmdb.MapFullError:
                # Growing by need instead of BasicSR's terabyte: some file systems allocate the map at once.
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])

    def __enter__(self) -> 'LmdbWriter':
        return self

    def __exit__(self, *exception: object) -> None:
        self._environment.sync(True)
        self._environment.close()
        (self.folder / 'meta_info.txt').write_text(''.join(self._lines))
