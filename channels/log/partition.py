"""The life of an event in one store: published, written, handed out, settled, deleted. Runs on the loop's thread.

One batch gathers while the last one is written (no timer). At each flush the positions that have room read on, so what
they take is on disk as an attempt under way before it is handed out. `docs/log.md` tells it at length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from channels.api import Burial, Done, Refusal
from channels.log import record
from channels.log.positions import OUT, OVER, REGISTERED, Batch, Entry, Group, LogDelivery, Position, Wait
from channels.log.store import FULL_AT, MapFullError, Reading, Store, StoreTrouble, Writer, WriterFactory
from mesh.errors import StoreError
from mesh.events.event import Event
from mesh.runtime.clock import Clock

Trouble = Callable[[str, dict[str, object]], None]

_TURN_S = 0.002
"""How long one flush may read from disk before others get their turn."""
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.01, 2.0
"""After a failed transaction the next is tried after this long, twice as long each time."""
_TRIM_AT = 0.85
"""Where settled events are kept for a while, they begin to go when this part of the bound is used."""
_TRIM_STEP = 512
_STALE_SEQS = 10_000
"""A position that nothing matched is written anew when its row is this far behind."""


class Partition:
    """One store and everything that is going on in it."""

    def __init__(self, store: Store, *, clock: Clock, on_trouble: Trouble, writer: WriterFactory = Writer) -> None:
        self.store = store
        self.positions: dict[int, Position] = {}
        self.retention_ns: dict[int, int] = {}
        self.next_seq = 1
        self.next_id = 1
        self.next_dead = 1
        self.gathering = Batch()
        self.handing = True
        """False while draining: nothing is handed out any more."""
        self.on_idle: Callable[[], None] | None = None
        self._clock = clock
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._writer = writer(store, self._report)
        self._busy = False
        self._scheduled = False
        self._writing_bytes = 0
        self._bound = int(store.max_bytes * FULL_AT)
        self._hungry: list[Position] = []
        self._paused = False
        self._next_pause_s = _FIRST_PAUSE_S
        self._why = ""
        self._due: list[tuple[float, int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sweep_at: int | None = None
        self._has_kept = False
        self._stale_at = _STALE_SEQS
        self._closed = False

    # -- publishing ---------------------------------------------------------------------------------------------

    def publish(self, plan: Sequence[tuple[Event, Sequence[Position]]], *, topic: int, size: int, done: Done) -> None:
        """Take all of these events, each with the positions that want it, or refuse them all. size: their bytes in all.

        The hot path: kept in one piece, since each call saved is worth a hundredth of the whole.
        """
        batch = self.gathering
        if self._why or self._closed or self.store.used + self._writing_bytes + batch.bytes + size > self._bound:
            done(self._refusal())
            return
        if not plan and not batch.dones and not self._busy:
            done(None)
            return
        now_ns = self._clock.now_ns()
        for event, positions in plan:
            seq = self.next_seq
            self.next_seq = seq + 1
            entry = Entry(seq, event, now_ns, topic, positions)
            batch.entries.append(entry)
            for position in positions:
                position.matched += 1
                if not position.dirty:
                    position.dirty = True
                    batch.dirty.append(position)
                group = position.group
                if position.live and group.in_flight < group.limit and not group.held:
                    group.in_flight += 1
                    position.flying[seq] = delivery = LogDelivery(entry, position)
                    batch.handouts.append(delivery)
                else:
                    entry.exact = False
                    if position.live:
                        position.live = False
                        position.frontier = seq
            if not positions:
                self._release(seq, topic, now_ns)
        batch.dones.append(done)
        batch.bytes += size
        if not self._busy and not self._scheduled:
            self.schedule()

    def _refusal(self) -> Refusal:
        if self._closed:
            return Refusal("unavailable", "the log is closed")
        if self._why:
            return Refusal("unavailable", self._why)
        return Refusal("full", f"the log has reached its bound of {self.store.max_bytes} bytes")

    def after_commit(self, done: Done) -> None:
        """Call `done` once all that gathered so far is on disk."""
        self.gathering.dones.append(done)
        self.schedule()

    # -- what deliveries answer ---------------------------------------------------------------------------------

    def settled(self, delivery: LogDelivery) -> None:
        position = delivery.position
        seq = delivery.seq
        if position.flying.get(seq) is not delivery or delivery.phase != OUT:
            return
        del position.flying[seq]
        delivery.phase = OVER
        if delivery.has_row:
            position.special -= 1
            self.gathering.waits[record.WAIT_KEY.pack(position.id, seq)] = None
        position.settled += 1
        batch = self.gathering
        if not position.dirty:
            position.dirty = True
            batch.dirty.append(position)
        entry = delivery.entry
        if entry.exact:
            entry.left -= 1
            is_over = not entry.left
        else:
            is_over = self.is_settled(seq, [each.id for each in entry.positions])
        if is_over:
            if self.retention_ns:
                self._release(seq, entry.topic, entry.arrived_ns)
            else:
                batch.deletes.append(seq)
        group = position.group
        group.in_flight -= 1
        if len(group.positions) > 1:
            wake(group)
        elif not position.live or position.ready:
            self.want(position)
        if not self._busy and not self._scheduled:
            self.schedule()

    def buried(self, delivery: LogDelivery, burial: Burial) -> None:
        if delivery.position.flying.get(delivery.seq) is not delivery or delivery.phase != OUT:
            return
        row = record.DeadRow(
            delivery.subscription, burial, delivery.event, delivery.arrived_ns, self._clock.now_ns()
        )
        self.keep_dead(record.encode_dead(row))
        self.settled(delivery)

    def keep_dead(self, row: bytes) -> None:
        self.gathering.dead[record.KEY.pack(self.next_dead)] = row
        self.next_dead += 1
        self.gathering.meta[b"next_dead"] = record.KEY.pack(self.next_dead)

    def retried(self, delivery: LogDelivery, *, delay_s: float, note: bytes, counts: bool) -> None:
        position, seq, group = delivery.position, delivery.seq, delivery.position.group
        if position.flying.get(seq) is not delivery or delivery.phase != OUT:
            return
        del position.flying[seq]
        delivery.phase = OVER
        # From here on the event is read back from disk; who still has this object must not count with it.
        delivery.entry.exact = False
        if delivery.has_row:
            position.special -= 1
        wait = Wait(
            delivery.attempt + counts, delivery.arrived_ns, note=note, interrupted=False, listed=False
        )
        position.waiting[seq] = wait
        due_ns = self._clock.now_ns() + int(delay_s * 1e9)
        self._put_wait(position, seq, wait, due_ns=due_ns)
        group.in_flight -= 1
        group.wait(+1)
        self._remember_due(self._clock.monotonic() + delay_s, position, seq)
        wake(group)
        self.schedule()

    def _put_wait(self, position: Position, seq: int, wait: Wait, *, due_ns: int, flying: bool = False) -> None:
        row = record.WaitRow(wait.attempt, due_ns, wait.arrived_ns, flying, wait.note)
        self.gathering.waits[record.WAIT_KEY.pack(position.id, seq)] = record.encode_wait(row)
        self.touch(position)

    # -- deciding what may go -----------------------------------------------------------------------------------

    def is_settled(self, seq: int, ids: Sequence[int]) -> bool:
        for ident in ids:
            position = self.positions.get(ident)
            if position is not None and not position.is_done_with(seq):
                return False
        return True

    def _release(self, seq: int, topic: int, arrived_ns: int) -> None:
        """Everybody has settled it: delete it, now or when its topic's retention is over."""
        retention_ns = self.retention_ns.get(topic)
        if retention_ns is None:
            self.gathering.deletes.append(seq)
        else:
            self.gathering.kept[record.KEPT_KEY.pack(arrived_ns + retention_ns, seq)] = b""
            self.expect_kept()

    def touch(self, position: Position) -> None:
        """Have the position's row written with the next batch."""
        if not position.dirty:
            position.dirty = True
            self.gathering.dirty.append(position)

    def want(self, position: Position) -> None:
        """The position may have room for what waits: let it read at the next flush."""
        if not position.hungry and (position.ready or not position.live):
            position.hungry = True
            self._hungry.append(position)
            self.schedule()

    # -- the writer ---------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Flush at the end of this turn of the loop, so that what arrives together is written together."""
        if not self._busy and not self._scheduled and not self._paused:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._busy or self._paused or self._closed:
            return
        if self._hungry:
            self._feed()
        batch = self.gathering
        if not batch.has_rows():
            self.gathering = Batch()
            for done in batch.dones:
                done(None)
            if self._hungry or self.gathering.has_rows():
                self.schedule()
            elif self.on_idle is not None:
                self.on_idle()
            return
        self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        if self.next_seq >= self._stale_at:
            self._refresh_stale()
        positions = self.positions
        for position in batch.dirty:
            position.dirty = False
            if positions.get(position.id) is position:
                batch.positions[record.ID_KEY.pack(position.id)] = position.row(self.next_seq)
        batch.next_seq = self.next_seq
        self.gathering = Batch()
        self._writing_bytes = batch.bytes
        self._busy = True
        self._writer.write(batch)

    def _refresh_stale(self) -> None:
        self._stale_at = self.next_seq + _STALE_SEQS
        for position in self.positions.values():
            if position.live and self.next_seq - position.row_frontier > _STALE_SEQS:
                self.touch(position)

    def _report(self, batch: Batch, failure: Exception | None) -> None:
        """Called on the writer's thread: once a batch, never once an event."""
        self._loop.call_soon_threadsafe(self._committed if failure is None else self._failed, batch, failure)

    def _committed(self, batch: Batch, _: Exception | None) -> None:
        self._writing_bytes = 0
        if self._why:
            self._on_trouble("store mended", {"path": str(self.store.path)})
            self._why = ""
            self._next_pause_s = _FIRST_PAUSE_S
        for done in batch.dones:
            done(None)
        handing = self.handing
        for delivery in batch.handouts:
            if delivery.phase == REGISTERED:
                deliver = delivery.position.group.deliver
                if handing and deliver is not None:
                    delivery.phase = OUT
                    deliver(delivery)
                else:
                    self._hold(delivery)
        if self._has_kept and self.store.used > self.store.max_bytes * _TRIM_AT:
            self._trim(by_force=True)
        # Only now: a commit begun inside a callback would carry one event (149 us instead of 4, 2026-11-25).
        self._busy = False
        self._flush()

    def _failed(self, batch: Batch, failure: Exception | None) -> None:
        """The transaction is undone: refuse its events, keep the rest for the next one, and wait before that."""
        self._writing_bytes = 0
        if not self._why:
            self._on_trouble("store failed", {"path": str(self.store.path), "why": str(failure)})
        self._why = f"the log cannot write: {failure}"
        for entry in batch.entries:
            self._undo(entry)
        self.gathering.take_over(batch)
        if not isinstance(failure, MapFullError):
            self._reopen()
        refusal = Refusal("unavailable", self._why)
        for done in batch.dones:
            done(refusal)
        # What gathered meanwhile has publishers waiting for it; they are better told now than after the pause.
        self._refuse_gathered(refusal)
        self._paused, self._busy = True, False
        self._loop.call_later(self._next_pause_s, self._try_again)
        self._next_pause_s = min(2 * self._next_pause_s, _LAST_PAUSE_S)
        if self.on_idle is not None:
            self.on_idle()

    def _refuse_gathered(self, refusal: Refusal) -> None:
        batch = self.gathering
        entries, dones = batch.entries, batch.dones
        batch.entries, batch.dones, batch.bytes = [], [], 0
        for entry in entries:
            self._undo(entry)
        batch.handouts = [d for d in batch.handouts if d.phase == REGISTERED]
        for done in dones:
            done(refusal)

    def _undo(self, entry: Entry) -> None:
        for position in entry.positions:
            position.matched -= 1
            self.touch(position)
            delivery = position.flying.get(entry.seq)
            if delivery is not None and delivery.entry is entry:
                del position.flying[entry.seq]
                delivery.phase = OVER
                position.group.in_flight -= 1
                wake(position.group)

    def _reopen(self) -> None:
        try:
            self.store.reopen()
        except StoreError as exc:
            self._on_trouble("store not reopened", {"path": str(self.store.path), "why": str(exc)})

    def _try_again(self) -> None:
        self._paused = False
        if self._closed:
            return
        if not self.store.is_open:
            self._reopen()
        if not self.store.is_open:
            self._paused = True
            self._loop.call_later(self._next_pause_s, self._try_again)
            self._next_pause_s = min(2 * self._next_pause_s, _LAST_PAUSE_S)
            return
        # Even with nothing to write: a commit that succeeds is how we learn that the disk is fine again.
        self.gathering.meta[b"next_seq"] = record.KEY.pack(self.next_seq)
        self._flush()

    # -- handing out what waits ---------------------------------------------------------------------------------

    def _feed(self) -> None:
        hungry, self._hungry = self._hungry, []
        end = self._clock.monotonic() + _TURN_S
        try:
            with self.store.reading() as view:
                for position in hungry:
                    position.hungry = False
                    if self.handing and not self._feed_one(position, view, end):
                        self.want(position)
        except StoreTrouble as exc:
            self._on_trouble("store not readable", {"path": str(self.store.path), "why": str(exc)})

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
            self.gathering.waits[record.WAIT_KEY.pack(position.id, seq)] = None
            position.settled += 1
            self.touch(position)
            return
        delivery = self._register(position, entry)
        delivery.attempt, delivery.note, delivery.interrupted = wait.attempt, wait.note, wait.interrupted
        if not wait.listed:
            delivery.has_row = True
            position.special += 1
            self._put_wait(position, seq, wait, due_ns=0, flying=True)

    def _register(self, position: Position, entry: Entry) -> LogDelivery:
        delivery = position.flying[entry.seq] = LogDelivery(entry, position)
        position.group.in_flight += 1
        self.touch(position)
        self.gathering.handouts.append(delivery)
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
                self.touch(position)
                continue
            self._register(position, entry)
            if group.in_flight >= group.limit:
                position.frontier = seq + 1
                return True
        return self._read_gathered(position)

    def _read_gathered(self, position: Position) -> bool:
        """Go on with what is not on disk yet; after that the position is live."""
        group = position.group
        for entry in self.gathering.entries:
            if entry.seq >= position.frontier and position in entry.positions:
                if group.in_flight >= group.limit:
                    position.frontier = entry.seq
                    return True
                self._register(position, entry)
        position.live = True
        if not position.flying and not position.waiting and position.matched != position.settled:
            # An event whose head was damaged was somebody's: this is where it is seen whose.
            position.settled = position.matched
            self.touch(position)
        return True

    def _head(self, seq: int, row: memoryview) -> record.Head | None:
        try:
            return record.decode_head(row, seq)
        except record.DamagedError as exc:
            self._on_trouble("record damaged", {"path": str(self.store.path), "seq": seq, "why": str(exc)})
            return None

    def _load(self, seq: int, row: memoryview | None) -> Entry | None:
        """The event on disk, or None (and a report) where it is not whole."""
        try:
            if row is None:
                raise record.DamagedError("the record is missing")
            head, event = record.decode_head(row, seq), record.decode_event(row)
        except record.DamagedError as exc:
            self._on_trouble("record damaged", {"path": str(self.store.path), "seq": seq, "why": str(exc)})
            return None
        positions = [self.positions[ident] for ident in head.ids if ident in self.positions]
        entry = Entry(seq, event, head.arrived_ns, head.topic, positions)
        entry.exact = False
        return entry

    def _hold(self, delivery: LogDelivery) -> None:
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
            self._put_wait(position, seq, wait, due_ns=0)
        else:
            position.special += 1
            self.touch(position)

    # -- retries whose time comes -------------------------------------------------------------------------------

    def _remember_due(self, due: float, position: Position, seq: int) -> None:
        heappush(self._due, (due, position.id, seq))
        if self._timer is None or due < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and not self._closed:
            self._timer_at = self._due[0][0]
            self._timer = self._loop.call_later(max(self._timer_at - self._clock.monotonic(), 0.001), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            _, ident, seq = heappop(self._due)
            position = self.positions.get(ident)
            if position is not None and seq in position.waiting:
                position.ready.append(seq)
                self.want(position)
        self._arm()

    # -- positions come and go ----------------------------------------------------------------------------------

    def new_id(self, row: record.NameRow) -> int:
        """An id for a topic or a subscription; never used twice, since old records may still name it."""
        ident = self.next_id
        self.next_id = ident + 1
        self.gathering.names[record.ID_KEY.pack(ident)] = record.encode_name(row)
        self.gathering.meta[b"next_id"] = record.ID_KEY.pack(self.next_id)
        self.schedule()
        return ident

    def new_position(self, ident: int, group: Group) -> Position:
        """A position at the end: it begins with the next event."""
        position = Position(ident, group, self, frontier=self.next_seq)
        position.live = True
        self._place(position)
        self.touch(position)
        return position

    def _place(self, position: Position) -> None:
        self.positions[position.id] = position
        position.group.positions.append(position)

    def recover(self, ident: int, group: Group, row: record.PositionRow) -> Position:
        """A position as the last process left it: what was in flight counts as tried."""
        position = Position(ident, group, self, frontier=row.frontier)
        position.matched, position.settled = row.matched, row.settled
        position.live = row.frontier >= self.next_seq
        self._place(position)
        for seq, attempt in sorted(row.in_flight):
            position.waiting[seq] = Wait(attempt + 1, 0, note=b"", interrupted=attempt > 0, listed=True)
            position.ready.append(seq)
        position.special = len(row.in_flight)
        group.wait(len(row.in_flight))
        return position

    def recover_wait(self, position: Position, seq: int, row: record.WaitRow) -> None:
        attempt = row.attempt + 1 if row.flying else row.attempt
        wait = Wait(attempt, row.arrived_ns, note=row.note, interrupted=row.flying, listed=False)
        position.waiting[seq] = wait
        position.group.wait(+1)
        delay_s = 0.0 if row.flying else (row.due_ns - self._clock.now_ns()) / 1e9
        if delay_s <= 0:
            position.ready.append(seq)
        else:
            self._remember_due(self._clock.monotonic() + delay_s, position, seq)

    def forget(self, position: Position) -> None:
        """Drop a position; what only it waited for is deleted, what is on disk only by and by."""
        self.positions.pop(position.id, None)
        group = position.group
        group.positions.remove(position)
        group.in_flight -= len(position.flying)
        group.wait(-len(position.waiting))
        for delivery in position.flying.values():
            delivery.phase = OVER
            entry = delivery.entry
            if entry.exact:
                entry.left -= 1
                settled = not entry.left
            else:
                settled = self.is_settled(entry.seq, [each.id for each in entry.positions])
            if settled:
                self._release(entry.seq, entry.topic, entry.arrived_ns)
        position.flying.clear()
        self.gathering.forgotten.append(position.id)
        self.gathering.meta[b"sweep"] = b"1"
        self.schedule()
        self.sweep()

    # -- sweeping -----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Look through all records for those that nobody needs any more, a little at a time."""
        under_way = self._sweep_at is not None
        self._sweep_at = 0
        if not under_way:
            self._loop.call_later(0.02, self._sweep_on)

    def _sweep_on(self) -> None:
        if self._closed or self._sweep_at is None:
            return
        if self.store.is_open and not self._sweep_some(self._sweep_at):
            self._sweep_at = None
            self.gathering.meta[b"sweep"] = b""
        else:
            self._loop.call_later(0.01, self._sweep_on)
        self.schedule()

    def _sweep_some(self, start: int) -> bool:
        end, read = self._clock.monotonic() + _TURN_S, 0
        with self.store.reading() as view:
            for seq, row in view.events(start):
                read += 1
                if not read & 63 and self._clock.monotonic() > end:
                    self._sweep_at = seq
                    return True
                head = self._head(seq, row)
                if head is not None and self.is_settled(seq, head.ids):
                    self._release(seq, head.topic, head.arrived_ns)
        return False

    def expect_kept(self) -> None:
        """There are settled events that wait for the end of their topic's retention."""
        if not self._has_kept:
            self._has_kept = True
            self._loop.call_later(1.0, self._trim_on)

    def _trim_on(self) -> None:
        if self._closed:
            return
        if self.store.is_open and not self._paused:
            self._trim(by_force=False)
        if self._has_kept:
            self._loop.call_later(1.0, self._trim_on)

    def _trim(self, *, by_force: bool) -> None:
        """Delete settled events whose time is over; by force the oldest ones, since room is needed."""
        now_ns, dropped, empty = self._clock.now_ns(), 0, True
        with self.store.reading() as view:
            for key, _ in view.rows("kept"):
                expires_ns, seq = record.KEPT_KEY.unpack(key)
                empty = False
                if dropped >= _TRIM_STEP or (expires_ns > now_ns and not by_force):
                    break
                dropped += 1
                self.gathering.kept[key] = None
                self.gathering.deletes.append(seq)
        if dropped and by_force:
            self._on_trouble("retention cut short", {"path": str(self.store.path), "events": dropped})
        if empty and not self.gathering.kept:
            self._has_kept = False
        self.schedule()

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return not (self._busy or self._scheduled or self._paused or self.gathering.has_rows() or self.gathering.dones)

    @property
    def has_trouble(self) -> bool:
        """The last transaction failed, and none has succeeded since."""
        return bool(self._why)

    def close(self) -> None:
        """Stop; `is_idle` was waited for, or is given up. What is not on disk by now is refused or comes back."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._writer.stop()
        self._refuse_gathered(Refusal("unavailable", "the log is closed"))
        self.store.close()


def wake(group: Group) -> None:
    """A slot of the group is free: whoever of its positions has something waiting may read."""
    for position in group.positions:
        position.owner.want(position)
