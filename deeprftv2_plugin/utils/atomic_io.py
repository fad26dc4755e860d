"""Files that are whole or not there at all, however a program ends."""

import contextlib
import os
from pathlib import Path


def write_whole(path: str | Path, data: bytes | memoryview) -> None:
    """Write a file that appears under its name, in the place of an earlier one, when the disk has all of it.

    The bytes go to a temporary file beside it, which is synchronised with the disk and renamed. A write that fails
    leaves the earlier file as it is and the temporary one away; what a kill leaves behind, the next write replaces.

    Raises:
        OSError: The disk is full, the folder is missing, ...
    """
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with open(partial, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let the disk have the names in a folder, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
