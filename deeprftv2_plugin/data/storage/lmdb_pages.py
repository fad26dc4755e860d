"""The file format of LMDB 0.9, read without LMDB.

LMDB maps the file into memory and trusts its content: a truncated or damaged file can kill the process. This module
reads with ordinary file operations and checks every number that it follows. A database is a B+tree of pages. The first
two pages are meta pages, and the one of the later transaction refers to the root. Values that do not fit into a page
follow the header of an overflow page.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from deeprftv2_plugin.utils.errors import UserError

BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
KINDS = 0x6F
"""The flags of a page that determine its kind, including the three for duplicate values."""
BIG = 1
"""The flag of a node whose value is on overflow pages."""
MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER, NODE = 16, 8
"""Size of the header of a page and of a node, in bytes."""
MAX_DEPTH = 32
_HEADER = struct.Struct('=QHHHH')
"""Number of the page, unused, flags, and either the bounds of the free space or, combined, the number of pages."""
_META = struct.Struct('=IIQQ' + 2 * 'I2H5Q' + '2Q')
_NODE = struct.Struct('=4H')


class Tree(NamedTuple):
    """The root of a tree."""

    page_size: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


class Pages:
    """The pages of an open database file.

    Args:
        file: The file `data.mdb`, opened in binary mode.

    Raises:
        UserError: The file is not a database, or it is shorter than its meta page says.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.size = file, file.seek(0, 2)
        self.page_size = HEADER + _META.size
        self.last = 1
        free, *_ = self._read_meta(0)
        self.page_size = free.page_size
        if not 256 <= self.page_size <= 65536:
            raise self._damaged(f'its pages have {self.page_size} bytes')
        metas = self._read_meta(0), self._read_meta(1)
        self.free, self.main, self.last, _ = max(metas, key=lambda meta: meta[-1])
        expected = (self.last + 1) * self.page_size
        if self.size < expected:
            raise UserError(f'{file.name} has {self.size} of {expected} bytes: the copy is incomplete. Copy it again')

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key of the main tree, or None.

        Raises:
            UserError: The database is damaged.
        """
        number = self.main.root
        for level in range(self._depth(self.main)):
            leaf = level == self.main.depth - 1
            page, count = self._page(number, LEAF if leaf else BRANCH)
            if leaf:
                index = bisect_left(range(count), key, key=lambda index: self._key(page, index))
                return self._value(page, index) if index < count and self._key(page, index) == key else None
            # The first key of a branch is empty: it stands for all keys before the second one.
            index = bisect_right(range(1, count), key, key=lambda index: self._key(page, index))
            number = self._child(page, index)
        return None

    def check(self) -> None:
        """Check the structure of the whole database. Values are not read.

        Raises:
            UserError: The database is damaged.
        """
        seen: set[int] = set()
        for tree in (self.free, self.main):
            entries = sum(1 for _ in self._walk(tree.root, self._depth(tree), seen))
            if entries != tree.entries:
                raise self._damaged(f'it has {entries} of {tree.entries} entries')

    def _walk(self, number: int, levels: int, seen: set[int]) -> Iterator[None]:
        """Yield for each value below a page, and check that no page is used twice."""
        if not levels:
            return
        page, count = self._page(number, BRANCH if levels > 1 else LEAF)
        self._mark(number, 1, seen)
        for index in range(count):
            if levels > 1:
                yield from self._walk(self._child(page, index), levels - 1, seen)
            else:
                big, start, size = self._locate(page, index)
                if big:
                    self._mark(start, self._overflow(start, size), seen)
                yield

    def _mark(self, first: int, count: int, seen: set[int]) -> None:
        pages = range(first, first + count)
        if not seen.isdisjoint(pages):
            raise self._damaged(f'page {first} is used twice')
        seen.update(pages)

    def _read_meta(self, number: int) -> tuple[Tree, Tree, int, int]:
        """Return the trees of free pages and of values, the last page and the transaction of a meta page."""
        data = self._read(number * self.page_size, HEADER + _META.size)
        own, _, flags, *_ = _HEADER.unpack_from(data)
        magic, version, _, _, *fields = _META.unpack_from(data, HEADER)
        if (own, flags & KINDS, magic, version) != (number, META, MAGIC, VERSION):
            raise UserError(f'{self.file.name} is damaged or not an LMDB of version 0.9: copy or write it again')
        return Tree(*fields[:8]), Tree(*fields[8:16]), fields[16], fields[17]

    def _depth(self, tree: Tree) -> int:
        if tree.depth > MAX_DEPTH:
            raise self._damaged(f'its tree has {tree.depth} levels')
        return tree.depth

    def _page(self, number: int, kind: int) -> tuple[bytes, int]:
        """Return a page of keys and the number of its keys."""
        data = self._read_page(number, self.page_size, kind)
        *_, lower, upper = _HEADER.unpack_from(data)
        if not HEADER <= lower <= upper <= self.page_size or lower % 2:
            raise self._damaged(f'page {number} has wrong bounds')
        return data, (lower - HEADER) // 2

    def _read_page(self, number: int, size: int, kind: int) -> bytes:
        if not 2 <= number <= self.last:
            raise self._damaged(f'it refers to page {number} of {self.last + 1}')
        data = self._read(number * self.page_size, size)
        own, _, flags, *_ = _HEADER.unpack_from(data)
        if own != number or flags & KINDS != kind:
            raise self._damaged(f'page {number} is not of the kind that other pages expect')
        return data

    def _node(self, page: bytes, index: int) -> tuple[int, int, int, int, int]:
        """Return the start of a node, its three fields for the value, and the size of its key."""
        (start,) = struct.unpack_from('=H', page, HEADER + 2 * index)
        if not HEADER <= start <= len(page) - NODE:
            raise self._damaged('a key is outside of its page')
        low, high, flags, size = _NODE.unpack_from(page, start)
        if start + NODE + size > len(page):
            raise self._damaged('a key is outside of its page')
        return start, low, high, flags, size

    def _key(self, page: bytes, index: int) -> bytes:
        start, *_, size = self._node(page, index)
        return page[start + NODE : start + NODE + size]

    def _child(self, page: bytes, index: int) -> int:
        _, low, high, flags, _ = self._node(page, index)
        return low | high << 16 | flags << 32

    def _locate(self, page: bytes, index: int) -> tuple[bool, int, int]:
        """Return whether a value is on overflow pages, the first of them or the start in this page, and its size."""
        start, low, high, flags, key_size = self._node(page, index)
        size, place = low | high << 16, start + NODE + key_size
        stored = 8 if flags & BIG else size
        if flags & ~BIG or place + stored > len(page):
            raise self._damaged('a value is of an unknown kind or outside of its page')
        return bool(flags & BIG), struct.unpack_from('=Q', page, place)[0] if flags & BIG else place, size

    def _overflow(self, number: int, size: int) -> int:
        """Check the header of the overflow pages of a value with a given size, and return their number."""
        *_, low, high = _HEADER.unpack_from(self._read_page(number, HEADER, OVERFLOW))
        count = low | high << 16
        if count * self.page_size < HEADER + size or number + count - 1 > self.last:
            raise self._damaged(f'page {number} is not of the kind that other pages expect')
        return count

    def _value(self, page: bytes, index: int) -> bytes:
        big, start, size = self._locate(page, index)
        if not big:
            return page[start : start + size]
        self._overflow(start, size)
        return self._read(start * self.page_size + HEADER, size)

    def _read(self, position: int, size: int) -> bytes:
        self.file.seek(position)
        data = self.file.read(size)
        if len(data) < size:
            raise self._damaged(f'it ends after {position + len(data)} bytes')
        return data

    def _damaged(self, reason: str) -> UserError:
        return UserError(f'the database {self.file.name} is damaged: {reason}. Copy or write it again')
