"""The life of an event for one subscription: read, handed out, settled, or tried again later.

Reading with XREADGROUP is what records the first attempt; later ones are recorded in a row before the event is handed out.
So no more is read than there is room for. What is read stands in Redis under this process's name until it is settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Protocol

from channels.api import Burial, Deliver, SubscriptionSpec, SubscriptionState
from channels.redis_streams.delivery import Box, RedisDelivery, Waiting
from channels.redis_streams.keys import (
    Row,
    StreamCommands,
    dead_fields,
    event_fields,
    order,
    pack,
    read_arrival,
    read_entry,
)
from channels.redis_streams.lane import Lane
from channels.redis_streams.wire import Reply, is_error
from mesh.events.event import Event, encode_block
from mesh.filters.dialects import FilterNode

_RECENT_BYTES = 65_536
FOREIGN = "dev.knit.redis.foreign"
"""Type of the event that stands in the dead letters for an entry that is none of ours."""


class Home(Protocol):
    """What a subscription asks of its topic."""

    lane: Lane
    key: str
    draining: bool

    def stream_of(self, key: str) -> tuple[str, str]:
        """Names of its stream and of its rows."""

    @property
    def dead(self) -> str:
        """Name of the stream of dead letters."""

    def trouble(self, what: str, fields: dict[str, object]) -> None: ...

    def regroup(self, subscription: Subscription) -> None:
        """Its stream or group is gone: make it again."""


class Subscription:
    """One reader, in one process. `owned`: it may read; False where only one process may, and that is another."""

    def __init__(self, home: Home, key: str, consumer: str) -> None:
        self.home = home
        self.key = key
        self.stream, self.rows = home.stream_of(key)
        self.commands = StreamCommands(self.stream, consumer)
        self.filters: tuple[FilterNode, ...] = ()
        self.wanted = False
        self.deliver: Deliver | None = None
        self.limit = 0
        self.parallelism = 1
        self.ordered = False
        self.exclusive = False
        self.owned = False
        self.recovered = False
        self.joined = False
        self.length = 0
        self.adding = 0
        self.oldest_ns = 0
        self.flying: dict[bytes, RedisDelivery] = {}
        self.waiting: dict[bytes, Waiting] = {}
        self.handing: dict[bytes, Waiting] = {}
        self.unsaid: set[bytes] = set()
        self._ready: list[tuple[tuple[int, int], bytes]] = []
        self._due: list[tuple[float, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._box = Box()
        self._asked = 0
        self._dry = False
        self._stalled = False
        self._forgotten = False
        self._recent: dict[bytes, Event] = {}
        self._inherited: dict[bytes, float] = {}

    # -- what the channel tells ---------------------------------------------------------------------------------

    def take(self, spec: SubscriptionSpec, deliver: Deliver, *, limit: int, exclusive: bool) -> None:
        self.filters = spec.filters
        self.wanted = True
        self.deliver = deliver
        self.limit = limit
        self.parallelism = spec.parallelism
        self.ordered = spec.parallelism == 1
        self.exclusive = exclusive
        self.more()

    def stop(self) -> None:
        self.limit, self.deliver = 0, None

    def forget(self) -> None:
        """Nothing of it is said any more, whatever is still out."""
        self.stop()
        self._forgotten = True
        self._box = Box()
        self.flying.clear()
        self.waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def more(self) -> None:
        """There may be something to read."""
        self._dry = False
        self.home.lane.mark(self)

    def added(self, entry: bytes, event: Event) -> None:
        """An event of this process is in the stream; mostly it is read with the same batch, and need not be made again."""
        self.adding -= 1
        self.length += 1
        if len(self._recent) < self.limit and len(event.body) < _RECENT_BYTES:
            self._recent[entry] = event

    def may_inherit(self, dead: bytes, heard_of: float) -> bool:
        """Whether it should take what this dead process left: once, when it reads itself."""
        if not self.joined or self.deliver is None or self._inherited.get(dead) == heard_of:
            return False
        self._inherited[dead] = heard_of
        return True

    def inherit_again(self, dead: str) -> None:
        """That did not come to an end."""
        self._inherited.pop(dead.encode(), None)

    @property
    def room(self) -> int:
        if self.deliver is None or self.home.draining or not self.owned:
            return 0
        return self.limit - len(self.flying) - len(self.handing) - self._asked

    @property
    def is_clear(self) -> bool:
        """Nothing is out, and nothing is owed to Redis."""
        return not (self.flying or self.handing or self._asked or self.unsaid or self._box.rows)

    # -- what the deliveries tell -------------------------------------------------------------------------------

    def settled(self, delivery: RedisDelivery) -> None:
        entry = delivery.entry
        if self.flying.pop(entry, None) is None:
            return
        self.unsaid.add(entry)
        self._box.settled.append(entry)
        if delivery.has_row:
            self._box.without_row.append(entry)
        self.home.lane.mark(self)

    def retried(self, delivery: RedisDelivery, *, delay_s: float, note: bytes, counts: bool) -> None:
        entry = delivery.entry
        if self.flying.pop(entry, None) is None:
            return
        due_ns = self.home.lane.clock.now_ns() + int(delay_s * 1e9)
        self._keep(entry, Waiting(Row(delivery.attempt + counts, due_ns, note)), delay_s=delay_s, say=True)

    def buried(self, delivery: RedisDelivery, burial: Burial) -> None:
        if self.flying.pop(delivery.entry, None) is None:
            return
        self.unsaid.add(delivery.entry)
        self._box.burials.append((delivery, burial))
        self.home.lane.mark(self)

    def adopt(self, entry: bytes, row: Row, *, interrupted: bool) -> None:
        """An entry that stands under our name in Redis, or was just put there."""
        delay_s = max((row.due_ns - self.home.lane.clock.now_ns()) / 1e9, 0.0) if row.due_ns else 0.0
        self._keep(entry, Waiting(row, interrupted), delay_s=delay_s, say=False)

    def knows(self, entry: bytes) -> bool:
        return entry in self.flying or entry in self.waiting or entry in self.handing or entry in self.unsaid

    def _keep(self, entry: bytes, waiting: Waiting, *, delay_s: float, say: bool) -> None:
        self.waiting[entry] = waiting
        if say:
            self._box.rows[entry] = waiting.row
        if delay_s > 0:
            heappush(self._due, (self.home.lane.clock.monotonic() + delay_s, entry))
            self._arm()
        else:
            heappush(self._ready, (order(entry), entry))
        self.home.lane.mark(self)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._due:
            left = max(self._due[0][0] - self.home.lane.clock.monotonic(), 0.001)
            self._timer = asyncio.get_running_loop().call_later(left, self._ring)

    def _ring(self) -> None:
        now = self.home.lane.clock.monotonic()
        while self._due and self._due[0][0] <= now:
            _, entry = heappop(self._due)
            if entry in self.waiting:
                heappush(self._ready, (order(entry), entry))
        self.home.lane.mark(self)
        self._arm()

    # -- a batch ------------------------------------------------------------------------------------------------

    def compose(self) -> None:
        """Say what is owed, then ask for as much as there is room for."""
        if self._forgotten:
            return
        box = self._box
        if box.settled or box.rows or box.without_row or box.burials:
            self._box = Box()
            self._say(box)
        if self.recovered and not self._stalled:
            self._hand_again()
            self._read()

    def _say(self, box: Box) -> None:
        lane = self.home.lane
        parts, count = [], 0
        if box.settled:
            parts.append(self.commands.settle(box.settled))
            count += 2
        if box.without_row:
            parts.append(pack("HDEL", self.rows, *box.without_row))
            count += 1
        if box.rows:
            listed = [part for entry, row in box.rows.items() for part in (entry, row.encode())]
            parts.append(pack("HSET", self.rows, *listed))
            count += 1
        if count:
            lane.submit(b"".join(parts), count, lambda replies: self._said(box, replies), lambda _: self._unsay(box))
        for delivery, burial in box.burials:
            self._say_burial(delivery, burial)

    def _say_burial(self, delivery: RedisDelivery, burial: Burial) -> None:
        """Kept and settled as one. Said again after a lost connection it may be kept twice: better than not at all."""
        entry, fields = delivery.entry, event_fields(delivery.event, delivery.arrived_ns)
        packed = [
            pack("MULTI"), pack("XADD", self.home.dead, "*", *dead_fields(self.key, burial, fields)),
            self.commands.settle([entry]), pack("HDEL", self.rows, entry), pack("EXEC"),
        ]  # fmt: skip

        def again(_: str) -> None:
            self._box.burials.append((delivery, burial))

        def answered(replies: Sequence[Reply]) -> None:
            if is_error(replies[-1]):
                again("")
                self._refused("dead letter not stored", replies[-1])
                return
            self.unsaid.discard(entry)
            self.length -= 1

        self.home.lane.submit(b"".join(packed), 6, answered, again)

    def _said(self, box: Box, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if is_error(reply):
                self._unsay(box)
                self._refused("settlement not stored", reply)
                return
        if box.settled:
            self.unsaid.difference_update(box.settled)
            self.length -= replies[1]

    def _unsay(self, box: Box) -> None:
        """It was lost, or refused: it is said again, all of it has the same effect twice."""
        ours = self._box
        ours.settled[:0] = box.settled
        ours.without_row[:0] = box.without_row
        kept = {e: row for e, row in box.rows.items() if e in self.waiting and e not in ours.rows}
        ours.rows.update(kept)

    def _refused(self, what: str, reply: Reply) -> None:
        """Redis will not; the next beat tries again."""
        self._stalled = True
        self.home.trouble(what, {"subscription": self.key, "why": str(reply)})

    def _hand_again(self) -> None:
        while self._ready and self.room > 0:
            if self.ordered and self.flying:
                return
            _, entry = heappop(self._ready)
            waiting = self.waiting.pop(entry, None)
            if waiting is None:
                continue
            self.handing[entry] = waiting
            self._box.rows.pop(entry, None)
            flying = Row(waiting.row.attempt, 0, waiting.row.note, flying=True)
            packed = pack("HSET", self.rows, entry, flying.encode()) + pack("XRANGE", self.stream, entry, entry)
            self.home.lane.submit(packed, 2, self._loader(entry, waiting), self._reloader(entry, waiting))

    def _reloader(self, entry: bytes, waiting: Waiting) -> Callable[[str], None]:
        def back(_: str) -> None:
            if self.handing.pop(entry, None) is not None:
                self.waiting[entry] = waiting
                heappush(self._ready, (order(entry), entry))

        return back

    def _loader(self, entry: bytes, waiting: Waiting) -> Callable[[Sequence[Reply]], None]:
        def loaded(replies: Sequence[Reply]) -> None:
            if self.handing.pop(entry, None) is None:
                return
            recorded, found = replies
            if is_error(recorded) or is_error(found):
                self.waiting[entry] = waiting
                heappush(self._ready, (order(entry), entry))
                self._refused("attempt not recorded", recorded if is_error(recorded) else found)
            elif not found:
                self.home.trouble("entry deleted", {"subscription": self.key, "entry": entry.decode()})
                self._drop(entry)
            elif self._may_hand():
                self._hand(entry, found[0][1], waiting)
            else:
                self._keep(entry, waiting, delay_s=0, say=True)

        return loaded

    def _drop(self, entry: bytes) -> None:
        self.unsaid.add(entry)
        self._box.settled.append(entry)
        self._box.without_row.append(entry)
        self.home.lane.mark(self)

    def _may_hand(self) -> bool:
        return self.deliver is not None and not self.home.draining and not self._forgotten

    def _read(self) -> None:
        count = self.room
        if count <= 0 or self._dry or self._asked:
            return
        if self.ordered and (self.waiting or self.flying or self.handing):
            return
        if len(self.waiting) >= self.home.lane.settings.max_retrying:
            return
        self._asked = count
        self.home.lane.submit(self.commands.read(count), 1, self._got, self._got_nothing)

    def _got_nothing(self, _: str) -> None:
        self._asked = 0

    def _got(self, replies: Sequence[Reply]) -> None:
        asked, self._asked = self._asked, 0
        (reply,) = replies
        if is_error(reply):
            if str(reply).startswith("NOGROUP"):
                self.recovered = False
                self.home.regroup(self)
            else:
                self._refused("stream not readable", reply)
            return
        if not reply:
            self._dry = True
            self._recent.clear()
            return
        entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
        self._dry = len(entries) < asked
        for entry, fields in entries:
            if self._may_hand():
                self._hand(entry, fields, None)
            elif not self._forgotten:
                self._keep(entry, Waiting(Row(1)), delay_s=0, say=True)
        if self._dry:
            # Whatever of ours was not among them, others have read.
            self._recent.clear()

    def _hand(self, entry: bytes, fields: Sequence[bytes], waiting: Waiting | None) -> None:
        recent = self._recent.pop(entry, None) if self._recent else None
        try:
            event, arrived_ns = read_entry(fields) if recent is None else (recent, read_arrival(fields))
        except ValueError as exc:
            self._bury_foreign(entry, fields, str(exc))
            return
        delivery = self.flying[entry] = RedisDelivery(self, entry, event, arrived_ns)
        if waiting is not None:
            delivery.has_row = True
            delivery.attempt, delivery.note = waiting.row.attempt, waiting.row.note
            delivery.interrupted = waiting.interrupted
        self.deliver(delivery)  # type: ignore[misc]  # only where there is one

    def _bury_foreign(self, entry: bytes, fields: Sequence[bytes], why: str) -> None:
        """Somebody else put something into our stream: nobody can be given it, and it must not stop the others."""
        attributes = {"specversion": "1.0", "id": entry.decode(), "source": self.stream, "type": FOREIGN}
        event = Event(encode_block(attributes), b"\n".join(fields))
        delivery = self.flying[entry] = RedisDelivery(self, entry, event, order(entry)[0] * 1_000_000)
        delivery.bury(Burial(f"not an event of ours: {why}"))

    # -- looking ------------------------------------------------------------------------------------------------

    def sized(self, length: int) -> None:
        """Redis says how many entries its stream has; more than we hold are to be read."""
        self.length = length
        self._stalled = False
        if length > len(self.flying) + len(self.waiting) + len(self.handing):
            self._dry = False
        self.home.lane.mark(self)

    @property
    def is_still(self) -> bool:
        """It holds nothing that would say since when something waits."""
        return not (self.flying or self.waiting or self.handing)

    def begins(self, found: Reply) -> None:
        """Redis says what stands first in its stream."""
        if found and not is_error(found):
            self.oldest_ns = order(found[0][0])[0] * 1_000_000

    def state(self, *, counted: bool) -> SubscriptionState:
        """counted: of all the workers this one says how much waits in Redis."""
        arrived = [delivery.arrived_ns for delivery in self.flying.values()]
        arrived += [order(entry)[0] * 1_000_000 for entry in (*self.waiting, *self.handing)]
        return SubscriptionState(
            key=self.key,
            topic=self.home.key,
            backlog=max(self.length, 0) if counted else 0,
            in_flight=len(self.flying),
            retrying=len(self.waiting) + len(self.handing),
            oldest_ns=min(arrived, default=self.oldest_ns if self.length > 0 else 0),
        )
