"""Matches one event with many triggers at once: a thousand cost like ten. Pure.

A trigger's filter is found by one part of it that can be looked up (`anchors.py`): attribute → value → triggers, and the same
for the first or last so many characters of a value. Where that part is the whole filter nothing more is asked; else the
compiled filter decides. Triggers whose filter has no such part are asked one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Generic, TypeVar

from mesh.filters.anchors import AnchorChooser
from mesh.filters.dialects import CompiledFilter, FilterNode, compile_filters
from mesh.filters.nodes import is_void

T = TypeVar("T")


class _Entry(Generic[T]):
    """One trigger. is_covered: whoever is found by the index passes, without a further question."""

    __slots__ = ("filter", "is_covered", "item", "position")

    def __init__(self, position: int, item: T, compiled: CompiledFilter) -> None:
        self.position = position
        self.item = item
        self.filter = compiled
        self.is_covered = all(is_void(node) for node in compiled.filters)


class _Bucket(Generic[T]):
    """The entries that one lookup finds. items: their items, where all of them are covered; else None."""

    __slots__ = ("entries", "items")

    def __init__(self, entries: list[_Entry[T]]) -> None:
        self.entries = entries
        self.items = [entry.item for entry in entries] if all(entry.is_covered for entry in entries) else None

    def matching(self, attributes: Mapping[str, str]) -> list[T]:
        if self.items is not None:
            return self.items.copy()
        return [entry.item for entry in self.entries if entry.is_covered or entry.filter.passes(attributes)]


_POSITION = attrgetter("position")
# Text → the entries that want it. None, what an event without the attribute is looked up by, is never a key.
_Table = dict[str | None, _Bucket[T]]


class MatchIndex(Generic[T]):
    """Which of these items want an event? Never changed after it is made."""

    __slots__ = ("_begins", "_ends", "_entries", "_equals", "_everyone", "_only", "_scanned")

    def __init__(self, items: Iterable[tuple[T, tuple[FilterNode, ...]]]) -> None:
        """Items with their filters, all of which must pass; no filter passes everything."""
        self._entries = [
            _Entry(position, item, compile_filters(filters)) for position, (item, filters) in enumerate(items)
        ]
        everyone = _Bucket(self._entries)
        self._everyone = None if everyone.items is None else everyone
        tables, scanned = _tables(self._entries)
        self._scanned = _Bucket(scanned) if scanned else None
        self._equals = tuple((name, table) for (kind, name, _), table in tables.items() if kind == "equals")
        self._begins = tuple((name, size, table) for (kind, name, size), table in tables.items() if kind == "begins")
        self._ends = tuple((name, -size, table) for (kind, name, size), table in tables.items() if kind == "ends")
        # Most brokers: every trigger asks for one value of one and the same attribute.
        self._only = self._equals[0] if len(tables) == 1 and self._equals and not scanned else None

    def match(self, attributes: Mapping[str, str]) -> list[T]:
        """The items whose filters an event with these attributes passes, in the order in which they were given."""
        if self._only is not None:
            name, table = self._only
            bucket = table.get(attributes.get(name))
            return [] if bucket is None else bucket.matching(attributes)
        if self._everyone is not None:
            return self._everyone.matching(attributes)
        buckets = self._found(attributes)
        if len(buckets) > 1:
            return _Bucket(_merged(buckets)).matching(attributes)
        return buckets[0].matching(attributes) if buckets else []

    def _found(self, attributes: Mapping[str, str]) -> list[_Bucket[T]]:
        """All that the lookups find, and those that cannot be looked up."""
        buckets = [] if self._scanned is None else [self._scanned]
        get = attributes.get
        for name, table in self._equals:
            bucket = table.get(get(name))
            if bucket is not None:
                buckets.append(bucket)
        for name, size, table in self._begins:
            bucket = table.get((get(name) or "")[:size])
            if bucket is not None:
                buckets.append(bucket)
        for name, start, table in self._ends:
            bucket = table.get((get(name) or "")[start:])
            if bucket is not None:
                buckets.append(bucket)
        return buckets

    def explain(self, item: T, attributes: Mapping[str, str]) -> str:
        """Why the event does not go to this item; empty when it does.

        Raises:
            KeyError: there is no such item.
        """
        for entry in self._entries:
            if entry.item is item or entry.item == item:
                return entry.filter.explain(attributes)
        raise KeyError(item)


def _tables(entries: list[_Entry[T]]) -> tuple[dict[tuple[str, str, int], _Table[T]], list[_Entry[T]]]:
    """Tables by kind, attribute and length of the text (0 for whole values), and the entries that stand in none."""
    lists: dict[tuple[str, str, int], dict[str, list[_Entry[T]]]] = {}
    scanned: list[_Entry[T]] = []
    chooser = AnchorChooser(entry.filter.filters for entry in entries)
    for entry in entries:
        anchor = chooser.choose(entry.filter.filters)
        if anchor is None:
            scanned.append(entry)
            continue
        entry.is_covered = anchor.is_exact
        for atom in anchor.atoms:
            size = 0 if atom.kind == "equals" else len(atom.text)
            lists.setdefault((atom.kind, atom.name, size), {}).setdefault(atom.text, []).append(entry)
    tables: dict[tuple[str, str, int], _Table[T]] = {
        key: {text: _Bucket(found) for text, found in table.items()} for key, table in lists.items()
    }
    return tables, scanned


def _merged(buckets: list[_Bucket[T]]) -> list[_Entry[T]]:
    """The candidates in their order, each once: several atoms of one filter may hold for one event."""
    unique = {entry.position: entry for bucket in buckets for entry in bucket.entries}
    return sorted(unique.values(), key=_POSITION)
