"""Names and rows in Redis, and the bytes of the commands that are sent for every event. No IO.

All keys of a topic carry it as their hash tag, so that a cluster keeps them on one node and a transaction may span them:

    knit:{TOPIC}:subscriptions   set      the keys of its subscriptions
    knit:{TOPIC}:members         sorted   who reads it, by when they were last heard of (the server's milliseconds)
    knit:{TOPIC}:s:KEY           stream   what a subscription has not settled; one group, `knit`
    knit:{TOPIC}:r:KEY           hash     entry id → attempt, due time and note of what was tried before
    knit:{TOPIC}:o:KEY           string   who reads, where one alone may (order)
    knit:{TOPIC}:dead            stream   dead letters
    knit:{TOPIC}:kept            stream   all events for as long as `retention` says, to be read by time (XRANGE)
    knit:{TOPIC}:bell            Pub/Sub  subscriptions that have more than their reader can take
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hiredis import pack_command

from channels.api import Burial
from mesh.events.event import Event

GROUP = b"knit"
_XADD_ARGS = 11


class Names:
    """The keys of a topic."""

    def __init__(self, topic: str) -> None:
        self.prefix = f"knit:{{{topic}}}:"
        self.subscriptions = f"{self.prefix}subscriptions"
        self.members = f"{self.prefix}members"
        self.dead = f"{self.prefix}dead"
        self.kept = f"{self.prefix}kept"
        self.bell = f"{self.prefix}bell"

    def stream(self, key: str) -> str:
        return f"{self.prefix}s:{key}"

    def rows(self, key: str) -> str:
        return f"{self.prefix}r:{key}"

    def owner(self, key: str) -> str:
        return f"{self.prefix}o:{key}"


def pack(*arguments: str | bytes | int | float) -> bytes:
    """One command as it goes over the wire."""
    packed: bytes = pack_command(arguments)  # type: ignore[arg-type]  # its stub says a tuple of one
    return packed


def text(value: bytes) -> bytes:
    """One argument as it goes over the wire."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def add_head(stream: str) -> bytes:
    """The part of an XADD that belongs to the stream; `add_tail` is the event's."""
    return b"*%d\r\n$4\r\nXADD\r\n%b$1\r\n*\r\n" % (_XADD_ARGS, text(stream.encode()))


def add_tail(event: Event, arrived_ns: int) -> bytes:
    """The fields of an entry: made once an event, however many subscriptions want it."""
    block, passed, body = event.block, event.passed, event.body
    meta = b"%d %d" % (arrived_ns, event.ttl)
    return (
        b"$2\r\nat\r\n$%d\r\n%b\r\n$2\r\nce\r\n$%d\r\n%b\r\n$4\r\nwith\r\n$%d\r\n%b\r\n$4\r\ndata\r\n$%d\r\n%b\r\n"
        % (len(meta), meta, len(block), block, len(passed), passed, len(body), body)
    )


def read_entry(fields: Sequence[bytes]) -> tuple[Event, int]:
    """The event of an entry, and when it arrived, in nanoseconds since 1970.

    Raises:
        ValueError: somebody else wrote this entry.
    """
    if len(fields) != 8 or fields[0] != b"at":
        found = dict(zip(fields[::2], fields[1::2], strict=False))
        raise ValueError(f"expected the fields at, ce, with and data, found {', '.join(map(repr, found)) or 'none'}")
    arrived, _, ttl = fields[1].partition(b" ")
    return Event(fields[3], fields[7], passed=fields[5], ttl=int(ttl)), int(arrived)


def read_arrival(fields: Sequence[bytes]) -> int:
    """When the event of an entry arrived, where the event itself is known."""
    return int(fields[1].partition(b" ")[0])


class StreamCommands:
    """The commands of one subscription's stream, as far as they are the same each time."""

    def __init__(self, stream: str, consumer: str) -> None:
        key = text(stream.encode())
        self.add = add_head(stream)
        self._ack = b"$4\r\nXACK\r\n" + key + text(GROUP)
        self._delete = b"$4\r\nXDEL\r\n" + key
        self._read_head = (
            b"*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n" + text(GROUP) + text(consumer.encode()) + b"$5\r\nCOUNT\r\n"
        )
        self._read_tail = b"$7\r\nSTREAMS\r\n" + key + b"$1\r\n>\r\n"
        self.length = pack("XLEN", stream)

    def read(self, count: int) -> bytes:
        return self._read_head + text(b"%d" % count) + self._read_tail

    def settle(self, ids: Sequence[bytes]) -> bytes:
        """XACK and XDEL: two commands."""
        listed = b"".join([b"$%d\r\n%b\r\n" % (len(entry), entry) for entry in ids])
        count = len(ids)
        return b"*%d\r\n%b%b*%d\r\n%b%b" % (count + 3, self._ack, listed, count + 2, self._delete, listed)


def order(entry: bytes) -> tuple[int, int]:
    """An entry id as what it sorts by: milliseconds and number."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


@dataclass(slots=True)
class Row:
    """What is kept of an entry that was tried before. flying: the attempt is under way."""

    attempt: int
    due_ns: int = 0
    note: bytes = b""
    flying: bool = False

    def encode(self) -> bytes:
        return b"%d %d %d %b" % (self.attempt, self.flying, self.due_ns, self.note)


def decode_row(raw: bytes) -> Row:
    """Raises ValueError where it is none."""
    attempt, flying, due_ns, note = raw.split(b" ", 3)
    return Row(int(attempt), int(due_ns), note, flying=flying == b"1")


def dead_fields(subscription: str, burial: Burial, fields: Sequence[bytes]) -> list[bytes | str | int]:
    """The fields of a dead letter: those of the entry, and why."""
    return [
        *fields, "subscription", subscription, "why", burial.why.encode("utf-8", "replace"), "code", burial.code,
        "attempts", burial.attempts, "destination", burial.destination,
    ]  # fmt: skip


def event_fields(event: Event, arrived_ns: int) -> list[bytes]:
    """As `add_tail`, for what is not sent for every event."""
    meta = b"%d %d" % (arrived_ns, event.ttl)
    return [b"at", meta, b"ce", event.block, b"with", event.passed, b"data", event.body]


def read_dead(fields: Sequence[bytes]) -> tuple[str, Burial, Event, int]:
    """Subscription, burial, event and arrival of a dead letter. Raises ValueError, KeyError where it is none."""
    event, arrived_ns = read_entry(fields[:8])
    rest = {name.decode(): value.decode("utf-8", "replace") for name, value in _pairs(fields[8:])}
    burial = Burial(rest["why"], int(rest["code"]), int(rest["attempts"]), rest["destination"])
    return rest["subscription"], burial, event, arrived_ns


def _pairs(fields: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=False)
