"""The bytes of everything the log keeps: events, positions, retries, dead letters. No IO.

Every row carries a CRC-32 of its content, so that a torn or flipped one is noticed when it is read. An event's record
has two: one over its head (with the subscriptions it is for), one over the event, so that a damaged event can still be
booked to whom it was for. Integers are little-endian in rows and big-endian in keys, which must sort.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct, error, pack, unpack_from
from zlib import crc32

from channels.api import Burial
from mesh.events.event import Event

FORMAT = b"knit-log 1 crc32"
VERSION = 1

_PREFIX = Struct("<BI")  # version, CRC of the head
_HEAD = Struct(
    "<IQiIIII"
)  # CRC of the event, arrived_ns, ttl, topic, number of subscriptions, bytes of block, of passed
_HEAD_AT = _PREFIX.size
_IDS_AT = _HEAD_AT + _HEAD.size
_POSITION = Struct("<QQQI")  # frontier, matched, settled, number in flight
_WAIT = Struct("<QQHB")  # due_ns, arrived_ns, attempt, flying
_DEAD = Struct("<QQiII")  # buried_ns, arrived_ns, ttl, attempts, code; then six texts, each after its length
U32 = Struct("<I")
KEY = Struct(">Q")
WAIT_KEY = Struct(">IQ")
KEPT_KEY = Struct(">QQ")
ID_KEY = Struct(">I")
OVERHEAD = _IDS_AT + 16
"""Bytes a record needs beyond the event itself, key and page entry included, without the subscriptions."""

Buffer = bytes | memoryview


class DamagedError(Exception):
    """A row does not match its checksum or its own lengths. Stays inside this package."""


def encode_event(event: Event, seq: int, arrived_ns: int, topic: int, ids: bytes) -> bytes:
    """The record of an event. `ids` are the matched subscriptions' ids, four bytes each.

    The checksum of the head begins with the seq: a record under a damaged key is noticed too.
    """
    block, passed = event.block, event.passed
    rest = b"".join((block, passed, event.body))
    head = (
        _HEAD.pack(crc32(rest), arrived_ns, min(event.ttl, 0x7FFFFFFF), topic, len(ids) >> 2, len(block), len(passed))
        + ids
    )
    return _PREFIX.pack(VERSION, crc32(head, seq & 0xFFFFFFFF)) + head + rest


@dataclass(slots=True)
class Head:
    """Who an event is for, read without touching the event."""

    arrived_ns: int
    topic: int
    ids: tuple[int, ...]


def decode_head(row: Buffer, seq: int) -> Head:
    """Read and check the head of the record that stands at `seq`.

    Raises:
        DamagedError: nothing of this record can be trusted.
    """
    try:
        version, crc = _PREFIX.unpack_from(row)
        _, arrived_ns, _, topic, count, _, _ = _HEAD.unpack_from(row, _HEAD_AT)
        end = _IDS_AT + 4 * count
        if version != VERSION or end > len(row) or crc32(row[_HEAD_AT:end], seq & 0xFFFFFFFF) != crc:
            raise DamagedError("the head of the record does not match its checksum")
        ids = U32.unpack_from(row, _IDS_AT) if count == 1 else unpack_from(f"<{count}I", row, _IDS_AT)
    except error as exc:
        raise DamagedError("the record is cut short") from exc
    return Head(arrived_ns, topic, ids)


def decode_event(row: Buffer) -> Event:
    """Read and check the event of a record whose head is whole.

    Raises:
        DamagedError: the event itself is damaged.
    """
    crc, _, ttl, _, count, block_len, passed_len = _HEAD.unpack_from(row, _HEAD_AT)
    start = _IDS_AT + 4 * count
    rest = bytes(row[start:])
    if crc32(rest) != crc:
        raise DamagedError("the event does not match its checksum")
    cut = block_len + passed_len
    return Event(rest[:block_len], rest[cut:], passed=rest[block_len:cut], ttl=ttl)


def _sealed(kind: bytes, content: bytes) -> bytes:
    content = kind + content
    return U32.pack(crc32(content)) + content


def _opened(kind: bytes, row: Buffer) -> bytes:
    content = bytes(row[4:])
    if len(row) < 5 or U32.unpack_from(row)[0] != crc32(content):
        raise DamagedError("a row does not match its checksum")
    if content[:1] != kind:
        raise DamagedError(f"expected a row of kind {kind!r}, found {content[:1]!r}")
    return content[1:]


@dataclass(slots=True)
class PositionRow:
    """frontier: the first seq not looked at yet. in_flight: (seq, attempt under way) of first-pass deliveries."""

    frontier: int
    matched: int
    settled: int
    in_flight: list[tuple[int, int]]


def encode_position(
    frontier: int, *, matched: int, settled: int, seqs: Sequence[int], attempts: Sequence[int]
) -> bytes:
    n = len(seqs)
    return _sealed(
        b"P", _POSITION.pack(frontier, matched, settled, n) + pack(f"<{n}Q", *seqs) + pack(f"<{n}H", *attempts)
    )


def decode_position(row: Buffer) -> PositionRow:
    content = _opened(b"P", row)
    frontier, matched, settled, n = _POSITION.unpack_from(content)
    seqs = unpack_from(f"<{n}Q", content, _POSITION.size)
    attempts = unpack_from(f"<{n}H", content, _POSITION.size + 8 * n)
    return PositionRow(frontier, matched, settled, list(zip(seqs, attempts, strict=True)))


@dataclass(slots=True)
class WaitRow:
    """An event that waits for attempt number `attempt`, or is in it (`flying`)."""

    attempt: int
    due_ns: int
    arrived_ns: int
    flying: bool
    note: bytes


def encode_wait(row: WaitRow) -> bytes:
    return _sealed(b"W", _WAIT.pack(row.due_ns, row.arrived_ns, min(row.attempt, 65535), row.flying) + row.note)


def decode_wait(row: Buffer) -> WaitRow:
    content = _opened(b"W", row)
    due_ns, arrived_ns, attempt, flying = _WAIT.unpack_from(content)
    return WaitRow(attempt, due_ns, arrived_ns, bool(flying), content[_WAIT.size :])


@dataclass(slots=True)
class NameRow:
    """What an id stands for: a topic (`topic` 0) or a subscription of the topic with that id."""

    topic: int
    key: str


def encode_name(row: NameRow) -> bytes:
    return _sealed(b"N", U32.pack(row.topic) + row.key.encode())


def decode_name(row: Buffer) -> NameRow:
    content = _opened(b"N", row)
    return NameRow(U32.unpack_from(content)[0], content[4:].decode())


@dataclass(slots=True)
class DeadRow:
    subscription: str
    burial: Burial
    event: Event
    arrived_ns: int
    buried_ns: int


def encode_dead(row: DeadRow) -> bytes:
    parts = _joined(
        (row.subscription.encode(), row.burial.why.encode("utf-8", "replace"), row.burial.destination.encode(),
         row.event.block, row.event.passed, row.event.body)
    )  # fmt: skip
    head = _DEAD.pack(
        row.buried_ns, row.arrived_ns, min(row.event.ttl, 0x7FFFFFFF), row.burial.attempts, row.burial.code
    )
    return _sealed(b"D", head + parts)


def decode_dead(row: Buffer) -> DeadRow:
    content = _opened(b"D", row)
    buried_ns, arrived_ns, ttl, attempts, code = _DEAD.unpack_from(content)
    key, why, destination, block, passed, body = _parted(content[_DEAD.size :])
    burial = Burial(why.decode(), code=code, attempts=attempts, destination=destination.decode())
    event = Event(block, body, passed=passed, ttl=ttl)
    return DeadRow(key.decode(), burial, event, arrived_ns, buried_ns)


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(U32.pack(len(part)) + part for part in parts)


def _parted(content: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(content):
        end = at + 4 + U32.unpack_from(content, at)[0]
        parts.append(content[at + 4 : end])
        at = end
    return parts
