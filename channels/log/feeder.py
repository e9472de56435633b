"""What a partition hands out that does not come straight from a publisher: retries, and the backlog on disk.

Reading is bounded by the room there is and by a turn's time, so memory stays constant however much waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Protocol

from channels.log import record
from channels.log.positions import OVER, Batch, Entry, LogDelivery, Position, Wait
from channels.log.store import Reading, Store, StoreTrouble
from mesh.runtime.clock import Clock

Trouble = Callable[[str, dict[str, object]], None]

_TURN_S = 0.002
"""How long one flush may read from disk before others get their turn."""
_AGAIN_S = 2.0
"""After a read that failed."""


class Host(Protocol):
    """The partition, as far as feeding goes."""

    store: Store
    gathering: Batch
    positions: dict[int, Position]
    handing: bool

    def schedule(self) -> None: ...
    def touch(self, position: Position) -> None: ...
    def put_wait(self, position: Position, seq: int, wait: Wait, *, due_ns: int, flying: bool = False) -> None: ...


class Feeder:
    """Which positions want something, and what they get at the next flush."""

    def __init__(self, host: Host, *, clock: Clock, on_trouble: Trouble) -> None:
        self._host = host
        self._clock = clock
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self.hungry: list[Position] = []
        self._due: list[tuple[float, int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def want(self, position: Position) -> None:
        """The position may have room for what waits: let it read at the next flush."""
        if not position.hungry and (position.ready or not position.live):
            position.hungry = True
            self.hungry.append(position)
            self._host.schedule()

    def close(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def feed(self) -> None:
        """Register what there is room for with the batch that gathers."""
        hungry, self.hungry = self.hungry, []
        end = self._clock.monotonic() + _TURN_S
        try:
            with self._host.store.reading() as view:
                for position in hungry:
                    position.hungry = False
                    if self._host.handing and not self._feed_one(position, view, end):
                        self.want(position)
        except StoreTrouble as exc:
            self._on_trouble("store not readable", {"path": str(self._host.store.path), "why": str(exc)})
            for position in hungry:
                position.hungry = False
            self._loop.call_later(_AGAIN_S, self._want_all, hungry)

    def _want_all(self, positions: Iterable[Position]) -> None:
        for position in positions:
            self.want(position)

    def _feed_one(self, position: Position, view: Reading, end: float) -> bool:
        """Register deliveries for the room there is: retries first, then the backlog. False: the time is over."""
        group = position.group
        while position.ready and group.in_flight < group.limit:
            self._hand_again(position, position.ready.popleft(), view)
        if position.live or group.held or group.in_flight >= group.limit:
            return True
        return self._read_on(position, view, end)

    def _hand_again(self, position: Position, seq: int, view: Reading) -> None:
        wait = position.waiting.pop(seq, None)
        if wait is None:
            return
        position.group.wait(-1)
        entry = self._load(seq, view.event(seq))
        if wait.listed:
            position.special -= 1
        if entry is None:
            self._host.gathering.waits[record.WAIT_KEY.pack(position.id, seq)] = None
            position.settled += 1
            self._host.touch(position)
            return
        delivery = self._register(position, entry)
        delivery.attempt, delivery.note, delivery.interrupted = wait.attempt, wait.note, wait.interrupted
        if not wait.listed:
            delivery.has_row = True
            position.special += 1
            self._host.put_wait(position, seq, wait, due_ns=0, flying=True)

    def _register(self, position: Position, entry: Entry) -> LogDelivery:
        delivery = position.flying[entry.seq] = LogDelivery(entry, position)
        position.group.in_flight += 1
        self._host.touch(position)
        self._host.gathering.handouts.append(delivery)
        return delivery

    def _read_on(self, position: Position, view: Reading, end: float) -> bool:
        group, ident, read = position.group, position.id, 0
        for seq, row in view.events(position.frontier):
            position.frontier = seq
            read += 1
            if not read & 63 and self._clock.monotonic() > end:
                return False
            head = self._head(seq, row)
            if head is None or ident not in head.ids:
                continue
            entry = self._load(seq, row)
            if entry is None:
                position.settled += 1
                self._host.touch(position)
                continue
            self._register(position, entry)
            if group.in_flight >= group.limit:
                position.frontier = seq + 1
                return True
        return self._read_gathered(position)

    def _read_gathered(self, position: Position) -> bool:
        """Go on with what is not on disk yet; after that the position is live."""
        group = position.group
        for entry in self._host.gathering.entries:
            if entry.seq >= position.frontier and position in entry.positions:
                if group.in_flight >= group.limit:
                    position.frontier = entry.seq
                    return True
                self._register(position, entry)
        position.live = True
        if not position.flying and not position.waiting and position.matched != position.settled:
            # An event whose head was damaged was somebody's: this is where it is seen whose.
            position.settled = position.matched
            self._host.touch(position)
        return True

    def _head(self, seq: int, row: memoryview) -> record.Head | None:
        try:
            return record.decode_head(row, seq)
        except record.DamagedError as exc:
            self._on_trouble("record damaged", {"path": str(self._host.store.path), "seq": seq, "why": str(exc)})
            return None

    def _load(self, seq: int, row: memoryview | None) -> Entry | None:
        """The event on disk, or None (and a report) where it is not whole."""
        try:
            if row is None:
                raise record.DamagedError("the record is missing")  # noqa: TRY301 told in one place, below
            head, event = record.decode_head(row, seq), record.decode_event(row)
        except record.DamagedError as exc:
            self._on_trouble("record damaged", {"path": str(self._host.store.path), "seq": seq, "why": str(exc)})
            return None
        positions = [self._host.positions[ident] for ident in head.ids if ident in self._host.positions]
        entry = Entry(seq, event, head.arrived_ns, head.topic, positions)
        entry.exact = False
        return entry

    def hold(self, delivery: LogDelivery) -> None:
        """Take back what was registered but must not be handed out now: that attempt is not made."""
        position, seq = delivery.position, delivery.seq
        del position.flying[seq]
        delivery.phase = OVER
        delivery.entry.exact = False
        wait = Wait(
            delivery.attempt, delivery.arrived_ns, note=delivery.note, interrupted=delivery.interrupted,
            listed=not delivery.has_row,
        )  # fmt: skip
        position.waiting[seq] = wait
        position.ready.append(seq)
        position.group.in_flight -= 1
        position.group.wait(+1)
        if delivery.has_row:
            position.special -= 1
            self._host.put_wait(position, seq, wait, due_ns=0)
        else:
            position.special += 1
            self._host.touch(position)

    def remember(self, due: float, position: Position, seq: int) -> None:
        heappush(self._due, (due, position.id, seq))
        if self._timer is None or due < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            self._timer_at = self._due[0][0]
            self._timer = self._loop.call_later(max(self._timer_at - self._clock.monotonic(), 0.001), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            _, ident, seq = heappop(self._due)
            position = self._host.positions.get(ident)
            if position is not None and seq in position.waiting:
                position.ready.append(seq)
                self.want(position)
        self._arm()
