"""One subscription in one partition: what was read for it, what is out, what waits; and the subscription over all of them.

No IO: who reads and who commits call in here, and are woken through `Host`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from channels.api import Burial, Deliver, SubscriptionSpec, SubscriptionState
from channels.kafka.tracker import Saved, Tracker
from channels.kafka.wire import Record
from mesh.events.event import Event
from mesh.runtime.clock import Clock

READ_AHEAD = 500
"""Records of one subscription in one partition that are read and wait for their turn."""
READ_AHEAD_BYTES = 8 * 1024**2
HELD_BYTES = 32 * 1024**2
"""What waits for a retry in one partition; above this nothing new is begun there."""
_TURN = 16
"""Records handed out of one partition before the others get their turn."""


class Host(Protocol):
    """The topic, as far as cursors go. is_handing: False while its partitions may go to somebody else."""

    is_handing: bool

    def has_room(self) -> None:
        """Reading may go on."""

    def to_commit(self, cursor: Cursor, *, urgent: bool) -> None: ...
    def came_back(self) -> None:
        """Something that was out is not any more."""


class KafkaDelivery:
    """One record handed to one subscription: channels/api.py. A second answer does nothing."""

    __slots__ = ("arrived_ns", "attempt", "cursor", "event", "interrupted", "note", "offset", "subscription", "version")

    def __init__(self, cursor: Cursor, offset: int, event: Event, arrived_ns: int) -> None:
        self.cursor = cursor
        self.offset = offset
        self.event = event
        self.arrived_ns = arrived_ns
        self.subscription = cursor.group.key
        self.attempt = 1
        self.note = b""
        self.interrupted = False
        self.version = 0

    def settle(self) -> None:
        self.cursor.settled(self)

    def retry(self, *, delay_s: float, note: bytes = b"", counts: bool = True) -> None:
        self.cursor.retried(self, delay_s=delay_s, note=note, attempt=self.attempt + counts)

    def bury(self, burial: Burial) -> None:
        """Kafka keeps the record for the topic's retention; a store of dead letters there is none."""
        del burial
        self.cursor.settled(self)


class Group:
    """A subscription in this process, over all partitions that are ours. limit: deliveries out at a time."""

    def __init__(self, host: Host, topic: str, key: str, *, group_id: str, clock: Clock) -> None:
        self.host = host
        self.topic = topic
        self.key = key
        self.id = group_id
        self.clock = clock
        self.spec = SubscriptionSpec(key)
        self.limit = 0
        self.ordered = False
        self.deliver: Deliver | None = None
        self.in_flight = 0
        self.cursors: dict[int, Cursor] = {}
        self.is_begun = False
        """Its initial offsets are stored."""
        self.taken = ""
        """Why it is left alone: somebody else serves it."""
        self._pumping = False
        self._is_due = False

    def pump_soon(self) -> None:
        """Hand out what there is room for, once whoever made the room is through."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._is_due = False
        self.pump()

    def pump(self) -> None:
        """Hand out while there is room. A reader that settles at once is told to go on, not nested."""
        if self._pumping or self.deliver is None or not self.host.is_handing:
            return
        self._pumping = True
        try:
            found = True
            while found:
                found = False
                for cursor in list(self.cursors.values()):
                    if not (cursor.pending or cursor.ready):
                        continue
                    for _ in range(_TURN):
                        if self.in_flight >= self.limit or not self.host.is_handing:
                            return
                        delivery = cursor.next()
                        if delivery is None:
                            break
                        found = True
                        self.in_flight += 1
                        self.deliver(delivery)
        finally:
            self._pumping = False

    def state(self) -> SubscriptionState:
        cursors = self.cursors.values()
        again = sum(len(each.waiting) for each in cursors)
        arrived = [
            delivery.arrived_ns for each in cursors for delivery in (*each.flying.values(), *each.waiting.values())
        ]
        arrived += [each.pending[0].arrived_ns for each in cursors if each.pending]
        return SubscriptionState(
            key=self.key,
            topic=self.topic,
            backlog=self.in_flight + again + sum(len(each.pending) + each.unread for each in cursors),
            in_flight=self.in_flight,
            retrying=again,
            oldest_ns=min(arrived, default=0),
        )


class Part:
    """A partition that is ours. head: the next offset that its own reading, the one for all who stand near, looks at.

    stash: records that were fetched and for which nobody has room, the next one first. end: the offset after the last record.
    """

    __slots__ = ("cursors", "end", "fetch_from", "head", "number", "stash")

    def __init__(self, number: int, head: int) -> None:
        self.number = number
        self.head = head
        self.fetch_from = head
        self.end = head
        self.stash: deque[Record] = deque()
        self.cursors: dict[str, Cursor] = {}
        """By the key of the subscription."""


class Cursor:
    """A group's place in a partition. Each record read for it is in `pending`, then `flying` or `waiting`, then over.

    read_to: the next offset to read for it. live: it stands with the partition's own reading, and read_to is a floor.
    suspended: the partition may not be ours at the moment: hand out nothing, commit nothing.
    """

    def __init__(self, group: Group, part: Part, saved: Saved, committed: tuple[int, str]) -> None:
        self.group = group
        self.part = part
        self.partition = part.number
        self.tracker = Tracker(saved)
        self.committed = committed
        self.acked = 0
        self.read_to = saved.position
        self.live = False
        self.suspended = False
        self.closed = False
        self.settled_count = 0
        self.pending: deque[KafkaDelivery] = deque()
        self.pending_bytes = 0
        self.flying: dict[int, KafkaDelivery] = {}
        self.waiting: dict[int, KafkaDelivery] = {}
        self.waiting_bytes = 0
        self.ready: deque[KafkaDelivery] = deque()
        self._unsafe: list[KafkaDelivery] = []
        group.cursors[part.number] = part.cursors[group.key] = self

    # Reading.

    @property
    def room(self) -> bool:
        return (
            len(self.pending) < READ_AHEAD
            and self.pending_bytes < READ_AHEAD_BYTES
            and not self.suspended
            and not self.closed
        )

    def push(self, offset: int, event: Event, arrived_ns: int) -> None:
        """It wants this record."""
        self.pending.append(KafkaDelivery(self, offset, event, arrived_ns))
        self.pending_bytes += len(event.body) + len(event.block)

    @property
    def reached(self) -> int:
        """The next offset to read for it."""
        return max(self.part.head, self.read_to) if self.live else self.read_to

    @property
    def unread(self) -> int:
        """Records that nobody has looked at for it yet, wanted or not."""
        return max(self.part.end - self.reached, 0)

    def fall_behind(self, offset: int) -> None:
        """From this offset on it reads by itself, until it has caught up."""
        self.live = False
        self.read_to = offset

    def looked_at(self) -> int:
        """Below this offset every record was looked at, and is over or begun."""
        return self.pending[0].offset if self.pending else self.reached

    # Handing out.

    def next(self) -> KafkaDelivery | None:
        """What goes out next. May put records aside whose time has not come."""
        if self.suspended or (self.group.ordered and self.flying):
            return None
        if self.ready:
            delivery = self.ready.popleft()
            del self.waiting[delivery.offset]
            self.waiting_bytes -= len(delivery.event.body)
            self.flying[delivery.offset] = delivery
            return delivery
        while self.pending and not self._is_held():
            delivery = self.pending.popleft()
            self.pending_bytes -= len(delivery.event.body) + len(delivery.event.block)
            if len(self.pending) == READ_AHEAD // 2 or not self.pending:
                self.group.host.has_room()
            state = self.tracker.begin(delivery.offset)
            delivery.attempt, delivery.note, delivery.interrupted = state.attempt, state.note, state.interrupted
            wait_s = state.due_ms / 1000 - self.group.clock.now_ns() / 1e9 if state.due_ms else 0
            if wait_s <= 0:
                self.flying[delivery.offset] = delivery
                return delivery
            self._wait(delivery, wait_s)
        return None

    def _is_held(self) -> bool:
        if self.group.ordered and self.waiting:
            return True
        return self.tracker.is_full or self.waiting_bytes > HELD_BYTES

    def _wait(self, delivery: KafkaDelivery, delay_s: float) -> None:
        self.waiting[delivery.offset] = delivery
        self.waiting_bytes += len(delivery.event.body)
        asyncio.get_running_loop().call_later(delay_s, self._due, delivery)

    def _due(self, delivery: KafkaDelivery) -> None:
        if self.closed or self.waiting.get(delivery.offset) is not delivery:
            return
        if delivery.version > self.acked:
            self._unsafe.append(delivery)
            return
        self.ready.append(delivery)
        self.group.pump()

    # What comes back.

    def settled(self, delivery: KafkaDelivery) -> None:
        if self.flying.get(delivery.offset) is not delivery:
            return
        del self.flying[delivery.offset]
        self.tracker.settle(delivery.offset)
        self.settled_count += 1
        self._back(urgent=False)

    def retried(self, delivery: KafkaDelivery, *, delay_s: float, note: bytes, attempt: int) -> None:
        """It is tried again only once a commit says so: a crash must not make the number go back."""
        if self.flying.get(delivery.offset) is not delivery:
            return
        del self.flying[delivery.offset]
        due_ms = self.group.clock.now_ns() // 1_000_000 + int(delay_s * 1000)
        again = KafkaDelivery(self, delivery.offset, delivery.event, delivery.arrived_ns)
        again.attempt, again.note = attempt, note
        again.version = self.tracker.put_off(delivery.offset, attempt=attempt, due_ms=due_ms, note=note)
        self._wait(again, delay_s)
        self._back(urgent=True)

    def _back(self, *, urgent: bool) -> None:
        group = self.group
        group.in_flight -= 1
        if not self.closed:
            group.host.to_commit(self, urgent=urgent)
        group.pump_soon()
        group.host.came_back()

    # Committing.

    def to_store(self) -> tuple[int, str]:
        """Offset and text of a commit made now."""
        self.tracker.reach(self.looked_at())
        return self.tracker.commit()

    def stored(self, committed: tuple[int, str], version: int) -> None:
        """A commit of this version is safe."""
        self.committed = committed
        self.acked = version
        waiting, self._unsafe = self._unsafe, []
        for delivery in waiting:
            self._due(delivery)
        self.group.pump()  # a window that was full may have room again

    def close(self) -> None:
        """The partition is not ours any more, or the place is another one: what is out comes back to nobody."""
        self.closed = True
        self.pending.clear()
        self.ready.clear()
        self.waiting.clear()
        if self.group.cursors.get(self.partition) is self:
            del self.group.cursors[self.partition]
        if self.part.cursors.get(self.group.key) is self:
            del self.part.cursors[self.group.key]
