"""LMDB's file format, read by ourselves: so that a damaged file is refused with words instead of a crash of the process.

LMDB trusts its file: a page cut off kills the reader by SIGBUS, a wrong offset by SIGSEGV. Layout: lmdb 0.9, mdb.c
(MDB_page, MDB_meta, MDB_db, MDB_node), 64-bit little-endian.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error

_HEADER = Struct("<QHHHH")  # page number, pad, flags, lower, upper
_META = Struct("<IIQQ")  # magic, version, address, map size
_DB = Struct("<IHHQQQQQ")  # pad, flags, depth, branch pages, leaf pages, overflow pages, entries, root
_TAIL = Struct("<QQ")  # last page, transaction
_NODE = Struct("<HHHH")  # low size, high size, flags, key size
_HEADER_SIZE = _HEADER.size
_MAGIC = 0xBEEFC0DE
_NO_PAGE = 2**64 - 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_BIG, _SUB = 0x01, 0x02
_MIN_PAGE = 256

_FULL_CHECK_PAGES = 16_384
"""Beyond 64 MiB only the first pages met are walked: opening must stay quick with a million records."""


class DamagedPageError(Exception):
    """What is wrong, and on which page."""


@dataclass(frozen=True, slots=True)
class Tree:
    root: int
    depth: int
    entries: int


@dataclass(frozen=True, slots=True)
class Meta:
    page_size: int
    last_page: int
    transaction: int
    free: Tree
    main: Tree


class PageFile:
    """A read-only view of a data file."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.meta = self._newest_meta()
        except BaseException:
            self._map.close()
            raise

    def close(self) -> None:
        self._map.close()

    def __len__(self) -> int:
        return len(self._map) // self.meta.page_size

    def _newest_meta(self) -> Meta:
        metas, why = [], []
        size = self._meta_at(0, why)
        if size is not None:
            metas.append(size)
        # The second copy lies one page on; where the first is gone the usual page sizes are tried.
        for page_size in [size.page_size] if size else [4096, 16_384, 65_536, 8192]:
            second = self._meta_at(page_size, why)
            if second is not None and second.page_size == page_size:
                metas.append(second)
                break
        if not metas:
            raise DamagedPageError(f"both head pages are damaged ({'; '.join(why)})")
        return max(metas, key=lambda meta: meta.transaction)

    def _meta_at(self, at: int, why: list[str]) -> Meta | None:
        try:
            _, _, flags, _, _ = _HEADER.unpack_from(self._map, at)
            magic, version, _, _ = _META.unpack_from(self._map, at + _HEADER_SIZE)
            free = _DB.unpack_from(self._map, at + _HEADER_SIZE + _META.size)
            main = _DB.unpack_from(self._map, at + _HEADER_SIZE + _META.size + _DB.size)
            last, transaction = _TAIL.unpack_from(self._map, at + _HEADER_SIZE + _META.size + 2 * _DB.size)
        except error:
            why.append("the file is too short")
            return None
        page_size = free[0]
        if not flags & _META_PAGE or magic != _MAGIC or version != 1:
            why.append(f"the head page at {at} is none")
            return None
        if page_size < _MIN_PAGE or page_size > 65_536 or page_size & (page_size - 1):
            why.append(f"the head page at {at} gives a page size of {page_size}")
            return None
        return Meta(page_size, last, transaction, _tree(free), _tree(main))

    def page(self, number: int) -> Page:
        size = self.meta.page_size
        if number < 2 or number > self.meta.last_page or (number + 1) * size > len(self._map):
            raise DamagedPageError(f"page {number} lies outside of the file")
        return Page(self._map, number, size)

    def overflow(self, number: int, length: int) -> bytes:
        """The content that begins on overflow page `number`."""
        page = self.page(number)
        pages = -(-(length + _HEADER_SIZE) // self.meta.page_size)
        if page.flags != _OVERFLOW or number + pages - 1 > self.meta.last_page:
            raise DamagedPageError(f"page {number} is no overflow page of {length} bytes")
        start = number * self.meta.page_size + _HEADER_SIZE
        if start + length > len(self._map):
            raise DamagedPageError(f"page {number} is cut off")
        return self._map[start : start + length]


def _tree(fields: tuple[int, ...]) -> Tree:
    return Tree(root=fields[7], depth=fields[2], entries=fields[6])


class Page:
    """A branch or leaf page, its offsets checked."""

    def __init__(self, data: mmap.mmap, number: int, size: int) -> None:
        self._data = data
        self.number = number
        self._at = number * size
        self._size = size
        stored, _, self.flags, lower, upper = _HEADER.unpack_from(data, self._at)
        if stored != number:
            raise DamagedPageError(f"page {number} says it is page {stored}")
        if self.flags in (_BRANCH, _LEAF):
            if lower < _HEADER_SIZE or lower % 2 or upper < lower or upper > size:
                raise DamagedPageError(f"page {number} has wrong bounds")
            count = (lower - _HEADER_SIZE) // 2
            self.offsets = Struct(f"<{count}H").unpack_from(data, self._at + _HEADER_SIZE)
            if any(offset < upper or offset + 8 > size for offset in self.offsets):
                raise DamagedPageError(f"page {number} has an entry outside of itself")
        elif self.flags != _OVERFLOW:
            raise DamagedPageError(f"page {number} is of unknown kind {self.flags:#x}")

    @property
    def is_leaf(self) -> bool:
        return self.flags == _LEAF

    @property
    def is_branch(self) -> bool:
        return self.flags == _BRANCH

    def children(self) -> Iterator[int]:
        for offset in self.offsets:
            low, high, top, key_size = _NODE.unpack_from(self._data, self._at + offset)
            if offset + 8 + key_size > self._size:
                raise DamagedPageError(f"page {self.number} has a key outside of itself")
            yield low | high << 16 | top << 32

    def nodes(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """(key, flags, length of the value, the value or the eight bytes that say on which page it is)."""
        for offset in self.offsets:
            low, high, flags, key_size = _NODE.unpack_from(self._data, self._at + offset)
            length = low | high << 16
            start = offset + 8 + key_size
            stored = 8 if flags & _BIG else length
            if flags & ~3 or start + stored > self._size:
                raise DamagedPageError(f"page {self.number} has an entry outside of itself")
            at = self._at + offset + 8
            yield self._data[at : at + key_size], flags, length, self._data[at + key_size : at + key_size + stored]


def sub_tree(value: bytes) -> Tree:
    if len(value) != _DB.size:
        raise DamagedPageError("a table's head has the wrong size")
    return _tree(_DB.unpack(value))


def find_damage(path: Path) -> str:
    """Say what is wrong with a data file, or "": its head, its length, and its pages as far as time allows."""
    try:
        file = PageFile(path)
    except (OSError, ValueError) as exc:
        return f"{path.name}: {exc}"
    except DamagedPageError as exc:
        return f"{path.name}: {exc}"
    try:
        if len(file) <= file.meta.last_page and _needs_last_page(file):
            return f"{path.name} is cut short: {len(file)} pages of {file.meta.last_page + 1}"
        budget = [_FULL_CHECK_PAGES]
        for tree in (file.meta.free, file.meta.main):
            _walk(file, tree, budget)
    except (DamagedPageError, error) as exc:
        return f"{path.name}: {exc}"
    finally:
        file.close()
    return ""


def _needs_last_page(file: PageFile) -> bool:
    # LMDB writes only the pages it used; a fresh file of two head pages is whole.
    return file.meta.last_page > 1


def _walk(file: PageFile, tree: Tree, budget: list[int]) -> None:
    """Check a tree breadth first (its branches before its leaves), small tables before large ones."""
    level = [] if tree.root == _NO_PAGE else [tree.root]
    depth = 0
    tables: list[Tree] = []
    while level:
        depth += 1
        if depth > max(tree.depth, 1):
            raise DamagedPageError(f"the tree at page {tree.root} is deeper than it says")
        below: list[int] = []
        for number in level:
            if budget[0] <= 0:
                return
            budget[0] -= 1
            page = file.page(number)
            if page.is_branch and depth < tree.depth:
                below.extend(page.children())
            elif page.is_leaf and depth == tree.depth:
                _check_leaf(file, page, tables)
            else:
                raise DamagedPageError(f"page {number} is of kind {page.flags} at depth {depth} of {tree.depth}")
        level = below
    for table in sorted(tables, key=lambda each: each.entries):
        _walk(file, table, budget)


def _check_leaf(file: PageFile, page: Page, tables: list[Tree]) -> None:
    before = b""
    for key, flags, length, value in page.nodes():
        if key <= before and before:
            # The free list has native integers as keys; only its order is not that of bytes.
            before = b""
        before = key
        if flags & _BIG:
            start = int.from_bytes(value, "little")
            page_size = file.meta.page_size
            overflow = file.page(start)
            if overflow.flags != _OVERFLOW or start + (length + 15) // page_size > file.meta.last_page:
                raise DamagedPageError(f"page {start} should hold {length} bytes, and does not")
        elif flags & _SUB:
            tables.append(sub_tree(value))
