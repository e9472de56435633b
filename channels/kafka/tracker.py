"""What one subscription has settled in one partition, and what a commit says of it. Pure.

A commit is an offset, the position below which everything is settled, as Knative and all lag tools read it, and a text of
at most 4 096 bytes (the broker's `offset.metadata.max.bytes`). The text holds what the offset cannot: up to where records
were looked at, which of those are not settled, how often each was tried, when it is due again, and the small notes.

Text: `k1:` and base 85 of zlib of: reach (varint, frontier − position), then for each open record in order of offsets:
step from the last one (varint), attempt << 2 | has_note << 1 | interrupted (varint), due in milliseconds since 1970 or 0
(varint), and where it has one the note (varint length, bytes).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

MAX_TEXT = 4096
"""The broker's default for `offset.metadata.max.bytes`."""
MAX_OPEN = 2000
"""Open records at a time, whatever the text could hold."""
_MARK = "k1:"
_ROOM = (MAX_TEXT - len(_MARK)) * 4 // 5
_NEAR = 0.8
"""From this part of the room on nothing new is begun until the window has moved."""


@dataclass(frozen=True, slots=True)
class Open:
    """A record that was begun and is not settled.

    attempt: the next one to make, 1 at first. due_ms: when, milliseconds since 1970; 0 is now. note: what the last retry
    left. interrupted: the attempt before was under way when its process stopped.
    """

    attempt: int = 1
    due_ms: int = 0
    note: bytes = b""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """What a commit said: everything below `frontier` that is not in `open` is over."""

    position: int
    frontier: int
    open: dict[int, Open]


class Tracker:
    """One entrance for each thing that happens to a record. Offsets are begun in rising order.

    position: the lowest offset that is not over. A record below `frontier` is over, or in `open`.
    """

    __slots__ = ("_is_near", "frontier", "open", "restored", "restored_to", "version")

    def __init__(self, saved: Saved) -> None:
        self.frontier = saved.position
        self.restored_to = saved.frontier
        self.restored = dict(saved.open)
        """Records that were open before, until they are read again; they are taken without asking the filter."""
        self.open: dict[int, Open] = {}
        self.version = 0
        """Rises with each change that a commit should tell."""
        self._is_near = False

    @property
    def position(self) -> int:
        lowest = min(self.open, default=self.frontier)
        return min(lowest, self.frontier)

    @property
    def is_full(self) -> bool:
        """Begin nothing new: what is open hardly fits into a commit."""
        return self._is_near or len(self.open) >= MAX_OPEN

    def is_old(self, offset: int) -> bool:
        """Looked at by whoever had the partition before: `recall` says what is left of it, the filter is not asked."""
        return offset < self.restored_to

    def recall(self, offset: int) -> Open | None:
        """What is still to be done with an old record; None where it is over."""
        return self.restored.get(offset)

    def begin(self, offset: int) -> Open:
        """The record is handed out (or waits for its time). Returns how it is to be tried."""
        found = self.restored.pop(offset, None) or Open()
        self.open[offset] = found
        self.reach(offset + 1)
        return found

    def reach(self, frontier: int) -> None:
        """Everything below was looked at; what was not begun is not wanted."""
        if frontier > self.frontier:
            self.frontier = frontier
            self.version += 1
            if self.restored:  # what was not met again is gone from the topic
                self.restored = {offset: what for offset, what in self.restored.items() if offset >= frontier}

    def settle(self, offset: int) -> None:
        """It is over. Does nothing for a record that is not open."""
        if self.open.pop(offset, None) is not None:
            self.version += 1

    def put_off(self, offset: int, *, attempt: int, due_ms: int, note: bytes) -> int:
        """It is to be tried again. Returns the version that a commit must have for this to be safe."""
        self.open[offset] = Open(attempt, due_ms, note)
        self.version += 1
        return self.version

    def interrupt(self, offsets: Iterable[int]) -> None:
        """We stop while these are under way: that counts as an attempt."""
        for offset in offsets:
            now = self.open[offset]
            self.open[offset] = replace(now, attempt=now.attempt + 1, interrupted=True)
            self.version += 1

    def saved(self) -> Saved:
        """What a commit made now has to tell; what is not read again yet is told again."""
        every = self.restored | self.open if self.restored else self.open
        return Saved(self.position, max(self.frontier, self.restored_to), every)

    def commit(self) -> tuple[int, str]:
        """Offset and text of a commit made now. Where not all fits, notes go first, then the highest records: after a
        crash those are read and tried again from the start."""
        saved = self.saved()
        if not saved.open and saved.frontier == saved.position:
            self._is_near = False
            return saved.position, ""
        text, used = encode(saved)
        self._is_near = used > _NEAR
        return saved.position, text

    def check(self) -> None:
        """State all invariants; for tests."""
        assert all(offset < self.frontier for offset in self.open)
        assert not self.open.keys() & self.restored.keys()
        assert all(self.frontier <= offset < self.restored_to for offset in self.restored), self.restored
        assert self.position <= self.frontier


def encode(saved: Saved) -> tuple[str, float]:
    """The text of a commit, and how much of the room what had to be kept takes (over 1: something was left out)."""
    offsets = sorted(saved.open)
    packed = _pack(saved, offsets, longest_note=1 << 20)
    if len(packed) <= _ROOM:
        return _text(packed), len(packed) / _ROOM
    for longest in (512, 128, 0):
        packed = _pack(saved, offsets, longest_note=longest)
        if len(packed) <= _ROOM:
            bare = packed if longest == 0 else _pack(saved, offsets, longest_note=0)
            return _text(packed), len(bare) / _ROOM
    share = _ROOM / len(packed)
    while len(packed) > _ROOM:
        offsets = offsets[: int(len(offsets) * 0.9)]
        cut = Saved(saved.position, (offsets[-1] if offsets else saved.position) + 1, saved.open)
        packed = _pack(cut, offsets, longest_note=0)
    return _text(packed), 1 / share


def decode(position: int, text: str) -> Saved:
    """What a commit said. A text that is not ours (Knative's, a tool's, none at all) says nothing beyond the position."""
    if text.startswith(_MARK):
        try:
            return _unpack(position, zlib.decompress(base64.b85decode(text[len(_MARK) :])))
        except (ValueError, IndexError, zlib.error):
            pass
    return Saved(position, position, {})


def _text(packed: bytes) -> str:
    return _MARK + base64.b85encode(packed).decode()


def _pack(saved: Saved, offsets: list[int], *, longest_note: int) -> bytes:
    out = bytearray()
    _put(out, saved.frontier - saved.position)
    last = saved.position
    for offset in offsets:
        what = saved.open[offset]
        note = what.note if len(what.note) <= longest_note else b""
        _put(out, offset - last)
        _put(out, what.attempt << 2 | bool(note) << 1 | what.interrupted)
        _put(out, what.due_ms)
        if note:
            _put(out, len(note))
            out += note
        last = offset
    return zlib.compress(bytes(out), 6)


def _unpack(position: int, data: bytes) -> Saved:
    reach, at = _get(data, 0)
    found: dict[int, Open] = {}
    last = position
    while at < len(data):
        step, at = _get(data, at)
        flags, at = _get(data, at)
        due_ms, at = _get(data, at)
        note = b""
        if flags & 2:
            size, at = _get(data, at)
            note, at = data[at : at + size], at + size
        last += step
        found[last] = Open(flags >> 2, due_ms, note, interrupted=bool(flags & 1))
    return Saved(position, position + reach, found)


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _get(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
