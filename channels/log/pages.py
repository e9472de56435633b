"""LMDB's file format, read by ourselves: so that a damaged file is refused with words instead of a crash of the process.

LMDB trusts its file: a page cut off kills the reader by SIGBUS, a wrong offset by SIGSEGV. Layout: lmdb 0.9, mdb.c
(MDB_page, MDB_meta, MDB_db, MDB_node), 64-bit little-endian.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
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
_INTEGER_KEYS = 0x08
_MIN_PAGE = 256
_USUAL_PAGE = 4096

_FULL_CHECK_PAGES = 16_384
"""Beyond 64 MiB only the first pages met are walked: opening must stay quick with a million records."""


class DamagedPageError(Exception):
    """What is wrong, and on which page."""


@dataclass(frozen=True, slots=True)
class Tree:
    """pages: branches, leaves and overflow pages in all."""

    root: int
    depth: int
    entries: int
    pages: int
    flags: int


@dataclass(frozen=True, slots=True)
class Meta:
    page_size: int
    last_page: int
    transaction: int
    free: Tree
    main: Tree


class PageFile:
    """A read-only view of a data file."""

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        """salvage: where no head page can be read, take it for a file of ordinary pages without any order."""
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.bad_head = ""
        """What is wrong with one of the two head pages. LMDB opens no file with such a one."""
        try:
            self.meta = self._newest_meta()
        except DamagedPageError:
            if not salvage:
                self._map.close()
                raise
            nothing = Tree(_NO_PAGE, 0, 0, 0, 0)
            self.meta = Meta(_USUAL_PAGE, len(self._map) // _USUAL_PAGE, 0, nothing, nothing)
        if salvage and self.bad_head:
            # The newer head may be the one that is gone: what was written for it lies behind the end that the other knows.
            self.meta = replace(self.meta, last_page=len(self))

    def close(self) -> None:
        self._map.close()

    def __len__(self) -> int:
        return len(self._map) // self.meta.page_size

    def _newest_meta(self) -> Meta:
        metas: list[Meta] = []
        why: list[str] = []
        size = self._meta_at(0, why)
        if size is not None:
            metas.append(size)
        # The second copy lies one page on; where the first is gone the usual page sizes are tried.
        for page_size in [size.page_size] if size else [4096, 16_384, 65_536, 8192]:
            second = self._meta_at(page_size, why)
            if second is not None and second.page_size == page_size:
                metas.append(second)
                break
        else:
            why.append("the second head page is none")
        if not metas:
            raise DamagedPageError(f"both head pages are damaged ({'; '.join(why)})")
        if len(metas) == 1:
            self.bad_head = why[0]
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
        if free[1] != _INTEGER_KEYS or main[0] or main[1]:
            why.append(f"the head page at {at} has unknown flags")
            return None
        return Meta(page_size, last, transaction, _tree(free), _tree(main))

    def page(self, number: int) -> Page:
        size = self.meta.page_size
        if number < 2 or number > self.meta.last_page or (number + 1) * size > len(self._map):
            raise DamagedPageError(f"page {number} lies outside of the file")
        return Page(self._map, number, size)

    def overflow_pages(self, number: int, length: int) -> range:
        """The pages of a value of `length` bytes that begins on overflow page `number`."""
        run = range(number, number + -(-(length + _HEADER_SIZE) // self.meta.page_size))
        first = self.page(number)
        if first.flags != _OVERFLOW or first.run != len(run) or run.stop > min(self.meta.last_page + 1, len(self)):
            raise DamagedPageError(f"page {number} should begin {length} bytes, and does not")
        return run

    def overflow(self, number: int, length: int) -> bytes:
        run = self.overflow_pages(number, length)
        start = run.start * self.meta.page_size + _HEADER_SIZE
        return self._map[start : start + length]


def _tree(fields: tuple[int, ...]) -> Tree:
    return Tree(root=fields[7], depth=fields[2], entries=fields[6], pages=sum(fields[3:6]), flags=fields[1])


class Page:
    """A branch or leaf page, its offsets checked; or the first of a `run` of overflow pages."""

    def __init__(self, data: mmap.mmap, number: int, size: int) -> None:
        self._data = data
        self.number = number
        self._at = number * size
        self._size = size
        self.run = 0
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
            self._check_tiling(upper)
        elif self.flags == _OVERFLOW:
            self.run = lower | upper << 16
        else:
            raise DamagedPageError(f"page {number} is of unknown kind {self.flags:#x}")

    def _check_tiling(self, upper: int) -> None:
        """The entries fill the page from `upper` to its end, each of an even size, without a gap."""
        end = upper
        for offset in sorted(self.offsets):
            low, high, flags, key_size = _NODE.unpack_from(self._data, self._at + offset)
            length = 0 if self.flags == _BRANCH else 8 if flags & _BIG else low | high << 16
            if offset != end:
                raise DamagedPageError(f"page {self.number} has a gap or an overlap at {end}")
            end += (8 + key_size + length + 1) & ~1
        if end != self._size:
            raise DamagedPageError(f"page {self.number} ends at {end}")

    @property
    def is_leaf(self) -> bool:
        return bool(self.flags == _LEAF)

    @property
    def is_branch(self) -> bool:
        return bool(self.flags == _BRANCH)

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
    fields = _DB.unpack(value)
    tree = _tree(fields)
    if fields[0] or tree.flags:
        raise DamagedPageError("a table's head has unknown flags")
    return tree


class Survey:
    """A walk over a file's trees that checks what LMDB will trust. budget: pages to look at, at most."""

    def __init__(self, file: PageFile, budget: int) -> None:
        self._file = file
        self._budget = budget
        self.used: set[int] = set()
        self.is_complete = True
        self.free: set[int] = set()
        self.tables: set[str] = set()

    def run(self) -> None:
        """Raises DamagedPageError at the first thing that is wrong."""
        meta = self._file.meta
        self._walk(meta.free, is_free_list=True)
        self._walk(meta.main)
        if self.free & self.used:
            raise DamagedPageError(f"page {min(self.free & self.used)} is both in use and free")

    def _walk(self, tree: Tree, *, is_free_list: bool = False) -> None:
        """Breadth first (branches before leaves), then the tables found, small ones before large ones."""
        level = [] if tree.root == _NO_PAGE else [tree.root]
        depth, entries, before, pages = 0, 0, b"", len(self.used)
        tables: list[Tree] = []
        while level:
            depth += 1
            below: list[int] = []
            for number in level:
                if self._budget <= 0:
                    self.is_complete = False
                    return
                self._budget -= 1
                page = self._take(number)
                if page.is_branch and depth < tree.depth:
                    below.extend(page.children())
                elif page.is_leaf and depth == tree.depth:
                    before = self._leaf(page, tables, before, is_free_list=is_free_list)
                    entries += len(page.offsets)
                else:
                    raise DamagedPageError(f"page {number} is of kind {page.flags} at depth {depth} of {tree.depth}")
            level = below
        if entries != tree.entries or depth != tree.depth or len(self.used) - pages != tree.pages:
            raise DamagedPageError(f"the tree at page {tree.root} is not as large as it says")
        for table in sorted(tables, key=lambda each: each.entries):
            self._walk(table)

    def _take(self, number: int) -> Page:
        if number in self.used:
            raise DamagedPageError(f"page {number} is used twice")
        self.used.add(number)
        return self._file.page(number)

    def _leaf(self, page: Page, tables: list[Tree], before: bytes, *, is_free_list: bool) -> bytes:
        for key, flags, length, value in page.nodes():
            # The free list is keyed by native integers (transactions), whose order is not that of bytes.
            order = key[::-1] if is_free_list else key
            if order <= before or (is_free_list and int.from_bytes(order) > self._file.meta.transaction):
                raise DamagedPageError(f"page {page.number} has its keys out of order")
            before = order
            content = value
            if flags & _BIG:
                start = int.from_bytes(value, "little")
                content = self._file.overflow(start, length) if is_free_list else b""
                self._take_overflow(start, length)
            if flags & _SUB:
                tables.append(sub_tree(value))
                self.tables.add(key.decode("ascii", "replace"))
            if is_free_list:
                self._take_free(content, page.number)
        return before

    def _take_overflow(self, start: int, length: int) -> None:
        run = self._file.overflow_pages(start, length)
        if not self.used.isdisjoint(run):
            raise DamagedPageError(f"page {start} is used twice")
        self.used.update(run)

    def _take_free(self, content: bytes, number: int) -> None:
        count = int.from_bytes(content[:8], "little")
        if 8 * (count + 1) > len(content):
            raise DamagedPageError(f"the list of free pages on page {number} is cut short")
        listed = Struct(f"<{count}Q").unpack_from(content, 8)
        if any(not 2 <= each <= self._file.meta.last_page for each in listed) or any(
            one <= two for one, two in pairwise(listed)
        ):
            raise DamagedPageError(f"the list of free pages on page {number} is wrong")
        if not self.free.isdisjoint(listed):
            raise DamagedPageError(f"a page is listed as free twice, on page {number}")
        self.free.update(listed)


def leaves(file: PageFile) -> Iterator[Page]:
    """Every leaf page of the file that is whole, used or not, for a salvage."""
    for number in range(2, len(file)):
        try:
            page = file.page(number)
        except (DamagedPageError, error):
            continue
        if page.is_leaf:
            yield page


def whole_rows(file: PageFile, page: Page) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a leaf page as far as they can be read, for a salvage."""
    nodes = page.nodes()
    while True:
        try:
            key, flags, length, value = next(nodes)
            if flags & _BIG:
                value = file.overflow(int.from_bytes(value, "little"), length)
        except StopIteration:
            return
        except (DamagedPageError, error):
            # A generator that raised is over; what follows on this page was behind the damage.
            return
        if not flags & _SUB:
            yield key, value


def trees_leaves(file: PageFile) -> tuple[list[Page], bool]:
    """The leaf pages that the trees reach, and whether all of them could be reached."""
    found: list[Page] = []
    whole = True
    todo = [file.meta.main.root]
    seen: set[int] = {_NO_PAGE}
    while todo:
        number = todo.pop()
        if number in seen:
            continue
        seen.add(number)
        try:
            page = file.page(number)
            if page.is_branch:
                todo.extend(page.children())
            elif page.is_leaf:
                found.append(page)
                todo.extend(sub_tree(value).root for _, flags, _, value in page.nodes() if flags & _SUB)
            else:
                whole = False
        except (DamagedPageError, error):
            whole = False
    return found, whole and file.meta.main.root != _NO_PAGE


def find_damage(path: Path, tables: Collection[str]) -> str:
    """Say what is wrong with a data file, or "": its head, its length, its tables, its pages as far as the budget goes."""
    try:
        file = PageFile(path)
    except (OSError, ValueError, DamagedPageError) as exc:
        return f"{path.name}: {exc}"
    try:
        if len(file) <= file.meta.last_page and file.meta.last_page > 1:
            return f"{path.name} is cut short: {len(file)} pages of {file.meta.last_page + 1}"
        if file.bad_head:
            return f"{path.name}: {file.bad_head}"
        survey = Survey(file, _FULL_CHECK_PAGES)
        survey.run()
        missing = set(tables) - survey.tables
        if missing:
            return f"{path.name}: there is no table {min(missing)}"
    except (DamagedPageError, error) as exc:
        return f"{path.name}: {exc}"
    finally:
        file.close()
    return ""
