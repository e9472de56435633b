"""The life of an event in one store: published, written, handed out, settled, deleted. Runs on the loop's thread.

One batch gathers while the last one is written (no timer). At each flush the positions that have room read on, so what
they take is on disk as an attempt under way before it is handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from channels.api import Burial, Done, Refusal
from channels.log import record
from channels.log.feeder import Feeder, Trouble
from channels.log.positions import OUT, OVER, REGISTERED, Batch, Entry, Group, LogDelivery, Position, Wait
from channels.log.store import FULL_AT, MapFullError, Store, Writer, WriterFactory
from channels.log.sweeper import Sweeper
from mesh.errors import StoreError
from mesh.events.event import Event
from mesh.runtime.clock import Clock

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.01, 2.0
"""After a failed transaction the next is tried after this long, twice as long each time."""
_TRIM_AT = 0.85
"""Where settled events are kept for a while, they begin to go when this part of the bound is used."""
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
        self.feeder = Feeder(self, clock=clock, on_trouble=on_trouble)
        self.sweeper = Sweeper(self, clock=clock, on_trouble=on_trouble)
        self._paused = False
        self._next_pause_s = _FIRST_PAUSE_S
        self._why = ""
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
                self.release(seq, topic, now_ns)
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
                self.release(seq, entry.topic, entry.arrived_ns)
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
        row = record.DeadRow(delivery.subscription, burial, delivery.event, delivery.arrived_ns, self._clock.now_ns())
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
        wait = Wait(delivery.attempt + counts, delivery.arrived_ns, note=note, interrupted=False, listed=False)
        position.waiting[seq] = wait
        due_ns = self._clock.now_ns() + int(delay_s * 1e9)
        self.put_wait(position, seq, wait, due_ns=due_ns)
        group.in_flight -= 1
        group.wait(+1)
        self.feeder.remember(self._clock.monotonic() + delay_s, position, seq)
        wake(group)
        self.schedule()

    def put_wait(self, position: Position, seq: int, wait: Wait, *, due_ns: int, flying: bool = False) -> None:
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

    def release(self, seq: int, topic: int, arrived_ns: int) -> None:
        """Everybody has settled it: delete it, now or when its topic's retention is over."""
        retention_ns = self.retention_ns.get(topic)
        if retention_ns is None:
            self.gathering.deletes.append(seq)
        else:
            self.gathering.kept[record.KEPT_KEY.pack(arrived_ns + retention_ns, seq)] = b""
            self.sweeper.expect_kept()

    def touch(self, position: Position) -> None:
        """Have the position's row written with the next batch."""
        if not position.dirty:
            position.dirty = True
            self.gathering.dirty.append(position)

    def want(self, position: Position) -> None:
        self.feeder.want(position)

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
        if self.feeder.hungry:
            self.feeder.feed()
        batch = self.gathering
        if not batch.has_rows():
            self.gathering = Batch()
            for done in batch.dones:
                done(None)
            if self.feeder.hungry or self.gathering.has_rows():
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
            try:
                done(None)
            except Exception as exc:  # noqa: BLE001 one caller's bug must not hold up all others
                self._tell_bug(exc)
        self._hand_out(batch.handouts)
        if self.sweeper.has_kept and self.store.used > self.store.max_bytes * _TRIM_AT:
            self.sweeper.trim(by_force=True)
        # Only now: a commit begun inside a callback would carry one event (149 us instead of 4, 2026-11-25).
        self._busy = False
        self._flush()

    def _hand_out(self, handouts: list[LogDelivery]) -> None:
        handing = self.handing
        for delivery in handouts:
            if delivery.phase == REGISTERED:
                deliver = delivery.position.group.deliver
                if not handing or deliver is None:
                    self.feeder.hold(delivery)
                    continue
                delivery.phase = OUT
                try:
                    deliver(delivery)
                except Exception as exc:  # noqa: BLE001 as above; the delivery stays out and comes back after a restart
                    self._tell_bug(exc)

    def _tell_bug(self, exc: Exception) -> None:
        self._loop.call_exception_handler({"message": "a callback of the log raised", "exception": exc})

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
        elif self.sweeper.has_kept:
            # Large records need neighbouring pages: the map can be full before the bound is reached.
            self.sweeper.trim(by_force=True)
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
            self.feeder.remember(self._clock.monotonic() + delay_s, position, seq)

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
                self.release(entry.seq, entry.topic, entry.arrived_ns)
        position.flying.clear()
        self.gathering.forgotten.append(position.id)
        self.gathering.meta[b"sweep"] = b"1"
        self.schedule()
        self.sweeper.sweep()

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return not (self._busy or self._scheduled or self._paused or self.gathering.has_rows() or self.gathering.dones)

    @property
    def is_stopped(self) -> bool:
        """Nothing can be read or written at the moment."""
        return self._closed or self._paused or not self.store.is_open

    @property
    def has_trouble(self) -> bool:
        """The last transaction failed, and none has succeeded since."""
        return bool(self._why)

    def close(self) -> None:
        """Stop; `is_idle` was waited for, or is given up. What is not on disk by now is refused or comes back."""
        self._closed = True
        self.feeder.close()
        self.sweeper.close()
        self._writer.stop()
        self._refuse_gathered(Refusal("unavailable", "the log is closed"))
        self.store.close()


def wake(group: Group) -> None:
    """A slot of the group is free: whoever of its positions has something waiting may read."""
    for position in group.positions:
        position.owner.want(position)
