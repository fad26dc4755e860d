"""The record of completed work that makes a preparation resumable."""

import contextlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deeprftv2_plugin.data.preparation.crops import Entry
from deeprftv2_plugin.utils.atomic_io import sync
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.locks import acquire
from deeprftv2_plugin.utils.regular_files import open_to_append

_CHECKSUM = 9
"""Number of bytes before the JSON of a line."""


def _line(text: bytes) -> bytes:
    """Return a line: the checksum of a text, a space, and the text."""
    return b'%08x %s' % (zlib.crc32(text), text)


class Journal:
    """A file of lines with a checksum and JSON: the settings, then every stored pair and every finished split.

    A line is written after the data it describes is on disk. An open journal is locked against other processes.

    Args:
        path: The file, created if missing.
        settings: Everything that determines the result, by the names that users know.

    Raises:
        UserError: The journal belongs to other settings, is damaged, or is open in another process.
        OSError: The file cannot be opened, for example because the path is a link.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.stored: dict[str, dict[str, list[Entry]]] = {}
        """Entries of the stored pairs, by split and by name of the pair."""
        self.finished: set[str] = set()
        """Splits that are complete and only need to be moved to their final place."""
        self.is_locked: bool | None
        """Whether other processes cannot open the journal. None if it cannot be locked."""
        self._file = open_to_append(path)
        try:
            self.is_locked = acquire(self._file)
            if self.is_locked is False:
                raise UserError(f'another process is writing to {path.parent.parent}: wait until it ends')
            self._read(settings)
        except BaseException:
            self._file.close()
            raise

    def _read(self, settings: Mapping[str, Any]) -> None:
        self._file.seek(0)
        *lines, incomplete = self._file.read().split(b'\n')
        if incomplete:
            self._file.truncate(self._file.tell() - len(incomplete))
        if not lines:
            self._write([settings])
            return
        if any(line != _line(line[_CHECKSUM:]) for line in lines):
            raise UserError(f'{self.path} is damaged: remove {self.path.parent} to start over')
        previous, *records = (json.loads(line[_CHECKSUM:]) for line in lines)
        for record in records:
            self._apply(*record)
        current = json.loads(json.dumps(settings))
        if previous != current:
            changes = [
                f'{name} was {previous.get(name)}, is {value}'
                for name, value in current.items()
                if previous.get(name) != value
            ]
            raise UserError(
                f'{self.path.parent} contains the work of an interrupted run with other settings '
                f'({"; ".join(changes)}): rerun that command to resume, or remove the folder to start over'
            )

    def _apply(self, split: str, name: str | None = None, entries: Iterable[Iterable[Any]] = ()) -> None:
        if name is None:
            self.finished.add(split)
        else:
            found = [Entry(key, suffix, tuple(shape)) for key, suffix, shape in entries]
            self.stored.setdefault(split, {})[name] = found

    def add(self, split: str, pairs: Mapping[str, list[Entry]]) -> None:
        """Record that pairs, given by their names, are stored."""
        self._write([split, name, entries] for name, entries in pairs.items())
        for name, entries in pairs.items():
            self._apply(split, name, entries)

    def finish(self, split: str) -> None:
        """Record that a split is complete."""
        self._write([[split]])
        self._apply(split)

    def _write(self, records: Iterable[Any]) -> None:
        self._file.write(b''.join(_line(json.dumps(record).encode()) + b'\n' for record in records))
        sync(self._file)

    def close(self) -> None:
        """Close the file and release the lock."""
        with contextlib.suppress(OSError):  # a full disk was already reported when a line was written
            self._file.close()

    def remove(self) -> None:
        """Delete the journal and its folder, which must be empty otherwise."""
        if not self.is_locked:
            self.close()  # Windows does not delete open files
        self.path.unlink()
        self.path.parent.rmdir()
