"""What the log knows of subscriptions and events in memory, and the batch that takes it to disk. No IO.

A Group is a subscription as its reader sees it: one limit, one callable. A Position is how far a group got in one
store; a group has several where stores of workers that are no more were adopted. An event that matched is at any moment
in exactly one place per position: before the frontier's reach (`backlog`), in `flying`, in `waiting`, or settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from channels.api import Burial, Deliver, Done
from channels.log import record
from mesh.events.event import Event

REGISTERED, OUT, OVER = 0, 1, 2


class Owner(Protocol):
    """The partition a position is part of."""

    def settled(self, delivery: LogDelivery) -> None: ...
    def retried(self, delivery: LogDelivery, *, delay_s: float, note: bytes, counts: bool) -> None: ...
    def buried(self, delivery: LogDelivery, burial: Burial) -> None: ...
    def want(self, position: Position) -> None: ...


class Group:
    """A subscription as its reader sees it.

    limit: deliveries out at a time, 0 while nobody listens. ordered: parallelism 1, so a retry blocks what comes after it.
    in_flight and waiting count over all positions; held: nothing new may be read now, because of what waits for a retry.
    """

    __slots__ = ("deliver", "held", "in_flight", "key", "limit", "max_waiting", "ordered", "positions", "topic", "waiting")  # fmt: skip

    def __init__(self, topic: str, key: str, max_waiting: int) -> None:
        self.topic = topic
        self.key = key
        self.max_waiting = max_waiting
        self.limit = 0
        self.ordered = False
        self.held = False
        self.in_flight = 0
        self.waiting = 0
        self.deliver: Deliver | None = None
        self.positions: list[Position] = []

    def wait(self, change: int) -> None:
        """Count what waits for a retry; recompute `held`."""
        self.waiting += change
        self.held = (self.ordered and self.waiting > 0) or self.waiting >= self.max_waiting


class Wait:
    """An event that waits to be handed out again. attempt: the one to make next.

    listed: on disk it stands in the position's row, with the attempt before, instead of in a row of its own.
    """

    __slots__ = ("arrived_ns", "attempt", "interrupted", "listed", "note")

    def __init__(self, attempt: int, arrived_ns: int, *, note: bytes, interrupted: bool, listed: bool) -> None:
        self.attempt = attempt
        self.arrived_ns = arrived_ns
        self.note = note
        self.interrupted = interrupted
        self.listed = listed


class Position:
    """How far a group got in one store.

    frontier: the first seq not looked at, meaningful while not `live`; live: everything published so far was looked at.
    ready: seqs of `waiting` whose time has come. special: how many of `flying` have a row of their own, or of `waiting`
    have none, so that the position's row needs a closer look when it is written.
    """

    __slots__ = ("dirty", "flying", "frontier", "group", "hungry", "id", "live", "matched", "owner", "packed", "ready", "row_frontier", "settled", "special", "waiting")  # fmt: skip

    def __init__(self, ident: int, group: Group, owner: Owner, *, frontier: int) -> None:
        self.id = ident
        self.packed = record.U32.pack(ident)
        self.group = group
        self.owner = owner
        self.frontier = frontier
        self.row_frontier = frontier
        self.live = False
        self.matched = 0
        self.settled = 0
        self.flying: dict[int, LogDelivery] = {}
        self.waiting: dict[int, Wait] = {}
        self.ready: deque[int] = deque()
        self.special = 0
        self.dirty = False
        self.hungry = False

    def is_done_with(self, seq: int) -> bool:
        return (self.live or self.frontier > seq) and seq not in self.flying and seq not in self.waiting

    def row(self, next_seq: int) -> bytes:
        """This position as it goes to disk: what is in flight now counts as an attempt under way."""
        frontier = self.row_frontier = next_seq if self.live else self.frontier
        if self.special:
            pairs = [(seq, d.attempt) for seq, d in self.flying.items() if not d.has_row]
            pairs += [(seq, wait.attempt - 1) for seq, wait in self.waiting.items() if wait.listed]
            seqs, attempts = [seq for seq, _ in pairs], [attempt for _, attempt in pairs]
        else:
            seqs, attempts = list(self.flying), [d.attempt for d in self.flying.values()]
        return record.encode_position(
            frontier, matched=self.matched, settled=self.settled, seqs=seqs, attempts=attempts
        )


class Entry:
    """An event in memory, shared by its deliveries.

    left: positions that have not settled it; trusted while `exact`, that is while all of them were handed this object.
    """

    __slots__ = ("arrived_ns", "event", "exact", "left", "positions", "seq", "topic")

    def __init__(self, seq: int, event: Event, arrived_ns: int, topic: int, positions: Sequence[Position]) -> None:
        self.seq = seq
        self.event = event
        self.arrived_ns = arrived_ns
        self.topic = topic
        self.positions = positions
        self.left = len(positions)
        self.exact = True

    def ids(self) -> bytes:
        """The ids of the positions, as the record has them."""
        positions = self.positions
        return positions[0].packed if len(positions) == 1 else b"".join([each.packed for each in positions])


class LogDelivery:
    """One event handed to one subscription: channels/api.py. A second answer, or one after a forget, does nothing."""

    __slots__ = ("arrived_ns", "attempt", "entry", "event", "has_row", "interrupted", "note", "phase", "position", "seq", "subscription")  # fmt: skip

    def __init__(self, entry: Entry, position: Position) -> None:
        self.entry = entry
        self.position = position
        self.event = entry.event
        self.seq = entry.seq
        self.arrived_ns = entry.arrived_ns
        self.subscription = position.group.key
        self.attempt = 1
        self.note = b""
        self.interrupted = False
        self.has_row = False
        self.phase = REGISTERED

    def settle(self) -> None:
        self.position.owner.settled(self)

    def retry(self, *, delay_s: float, note: bytes = b"", counts: bool = True) -> None:
        self.position.owner.retried(self, delay_s=delay_s, note=note, counts=counts)

    def bury(self, burial: Burial) -> None:
        self.position.owner.buried(self, burial)


@dataclass(slots=True)
class Batch:
    """What becomes one transaction. All of it is absolute (no increments), so that it may be written twice.

    A value of None deletes the row. handouts are given out once the batch is on disk.
    """

    entries: list[Entry] = field(default_factory=list)
    dones: list[Done] = field(default_factory=list)
    handouts: list[LogDelivery] = field(default_factory=list)
    deletes: list[int] = field(default_factory=list)
    dirty: list[Position] = field(default_factory=list)
    positions: dict[bytes, bytes] = field(default_factory=dict)
    waits: dict[bytes, bytes | None] = field(default_factory=dict)
    dead: dict[bytes, bytes | None] = field(default_factory=dict)
    kept: dict[bytes, bytes | None] = field(default_factory=dict)
    names: dict[bytes, bytes] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)
    meta: dict[bytes, bytes] = field(default_factory=dict)
    bytes: int = 0
    """An upper estimate of what the entries take."""
    next_seq: int = 0

    def has_rows(self) -> bool:
        return bool(
            self.entries or self.handouts or self.deletes or self.dirty or self.waits or self.dead
            or self.kept or self.names or self.forgotten or self.meta
        )  # fmt: skip

    def take_over(self, failed: Batch) -> None:
        """Put before our own what a failed batch could not write; its entries and their publishers are answered already."""
        self.handouts = [d for d in failed.handouts if d.phase == REGISTERED] + self.handouts
        self.deletes = failed.deletes + [entry.seq for entry in failed.entries] + self.deletes
        for position in failed.dirty:
            if not position.dirty:
                position.dirty = True
                self.dirty.append(position)
        self.waits = failed.waits | self.waits
        self.dead = failed.dead | self.dead
        self.kept = failed.kept | self.kept
        self.names = failed.names | self.names
        self.meta = failed.meta | self.meta
        self.forgotten = failed.forgotten + self.forgotten
