"""What an interrupted preparation has done, so that it can go on."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deeprftv2_plugin.utils.errors import UserError


class Entry(NamedTuple):
    """A piece that is stored: a line of meta_info.txt, and with its suffix the name of a file."""

    key: str
    suffix: str
    shape: tuple[int, int, int]


class Journal:
    """A file with a line for the settings, two for every pair, and one for every finished split.

    The first line of a pair is written before its pieces are, the second one when the disk has them. While a journal is
    open no other process can open it.

    Args:
        path: The file, which is created where it is absent.
        settings: What decides the outcome, by the names that a person knows.

    Raises:
        UserError: The journal is that of other settings, damaged, or open elsewhere.
    """

    def __init__(self, path: Path, settings: dict[str, object]):
        self.path = path
        self.stored: dict[str, dict[str, list[Entry]]] = {}
        """Entries by the name of their pair, by split."""
        self.begun: dict[str, dict[str, list[Entry]]] = {}
        """The same of what may be there in part."""
        self.finished: set[str] = set()
        """Splits of which everything is stored, and which have only to be put into place."""
        self._file = open(path, 'a+b')  # noqa: SIM115
        try:
            _lock(self._file, path)
            self._read(settings)
        except BaseException:
            self._file.close()
            raise

    def _read(self, settings):
        self._file.seek(0)
        *lines, torn = self._file.read().split(b'\n')
        if torn:
            self._file.truncate(self._file.tell() - len(torn))
        if not lines:
            self._write([settings])
            return
        try:
            former, *records = map(json.loads, lines)
            self._note_all(records)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f'{self.path} is damaged: remove {self.path.parent} to start over') from error
        now = json.loads(json.dumps(settings))
        if former != now:
            changes = [
                f'{name} was {former.get(name)}, is {now[name]}' for name in now if former.get(name) != now[name]
            ]
            raise UserError(
                f'{self.path.parent} is what an interrupted run with other settings has done ({"; ".join(changes)}): '
                'repeat that command to go on with it, or remove the folder to start over'
            )

    def _note_all(self, records):
        for split, *pair in records:
            stored, begun = (pairs.setdefault(split, {}) for pairs in (self.stored, self.begun))
            if len(pair) == 2:
                name, entries = pair
                begun[name] = [Entry(key, suffix, tuple(shape)) for key, suffix, shape in entries]
            elif pair:
                stored[pair[0]] = begun.pop(pair[0])
            else:
                self.finished.add(split)

    def begin(self, split: str, pairs: Iterable[tuple[str, list[Entry]]]) -> None:
        """Notes that pairs, given by their names, are going to be stored."""
        self._write([split, name, entries] for name, entries in pairs)

    def add(self, split: str, names: Iterable[str]) -> None:
        """Notes that pairs which were begun are stored."""
        self._write([split, name] for name in names)

    def finish(self, split: str) -> None:
        """Notes that nothing is left to store."""
        self._write([[split]])

    def _write(self, records):
        records = list(records)
        self._file.write(b''.join(json.dumps(record).encode() + b'\n' for record in records))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note_all(record for record in records if isinstance(record, list))

    def close(self) -> None:
        """Lets others open it."""
        with contextlib.suppress(OSError):  # the disk is full, which was said when a line was written
            self._file.close()

    def remove(self) -> None:
        """Deletes it, and its folder, which nothing else is in any more."""
        self.path.unlink()
        self.path.parent.rmdir()


def _lock(file, path):
    """A lock of the process, which ends with it and is not inherited; none where the system has no such thing."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UserError(f'another process is writing into {path.parent.parent}: let it end first') from None
    except OSError:
        return  # a file system without locks
