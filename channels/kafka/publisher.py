"""Storing: what waits while the last batch is under way is the next batch (no timer), acks=all, idempotent.

The batches are built here and sent as they are. Through AIOKafkaProducer.send() an event costs 67 µs with its defaults;
its send_batch() never gives a batch up while a broker is down, and a publisher waits for an answer within a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from channels.api import Done, Refusal
from channels.kafka.wire import Wire
from mesh.errors import NotConnectedError
from mesh.events.event import Event
from mesh.events.kafka import write
from mesh.runtime.clock import Clock

_BATCH_BYTES = 900_000
"""Below the broker's default `max.message.bytes` (1 048 588), which holds for a batch."""
_OVERHEAD = 200
_RETRY_S = 0.05
_DUPLICATE = 46
"""The batch is there already: a former try had arrived."""
_TOO_LARGE = frozenset({10, 18})
_NEW_ID = frozenset({45, 47, 59})
"""Sequence lost: begin anew with another producer id."""
_FINAL = frozenset({2, 17, 29, 32, 35, 42, 43, 76, 87})
"""Invalid topic, authorisation, timestamps, versions, record formats: trying again does not help."""


class _Waiting:
    """One call of publish. until: the loop's time at which its publisher must have an answer."""

    __slots__ = ("counted", "done", "events", "left", "refusal", "size", "until")

    def __init__(self, events: Sequence[Event], done: Done, size: int, until: float) -> None:
        self.events = events
        self.done = done
        self.size = size
        self.until = until
        self.left = 0
        self.counted = False
        self.refusal: Refusal | None = None

    @property
    def is_over(self) -> bool:
        """Every batch that has a part of it was answered."""
        return self.counted and self.left == 0


class _Batch:
    """Records on their way to one partition."""

    __slots__ = ("builder", "count", "data", "owners", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, _BATCH_BYTES)
        self.owners: list[_Waiting] = []
        self.count = 0
        self.data = b""

    def append(self, event: Event, owner: _Waiting, at_ms: int, *, structured: bool) -> bool:
        key, value, headers = write(event, structured=structured)
        if self.builder.append(self.count, at_ms, key=key, value=value, headers=headers) is None:
            return False
        self.count += 1
        if not self.owners or self.owners[-1] is not owner:
            self.owners.append(owner)
            owner.left += 1
            owner.counted = True
        return True

    def end(self, refusal: Refusal | None) -> None:
        for owner in self.owners:
            owner.left -= 1
            owner.refusal = owner.refusal or refusal


class Publisher:
    """Of one topic. structured: the records are written in structured mode (KafkaSink).

    report: told what failed after each batch, or "".
    """

    def __init__(
        self, wire: Wire, topic: str, *, clock: Clock, limit_s: float, max_bytes: int, structured: bool,
        report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._wire = wire
        self._topic = topic
        self._clock = clock
        self._limit_s = limit_s
        self._max_bytes = max_bytes
        self._structured = structured
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._gathering: list[_Waiting] = []
        self._bytes = 0
        self._wake = asyncio.Event()
        self._producer: tuple[int, int] | None = None
        self._sequences: dict[int, int] = {}
        self._turn = 0
        self._failing = ""
        self._closed = False

    def publish(self, events: Sequence[Event], done: Done) -> None:
        if self._closed:
            done(Refusal("unavailable", "the channel is being stopped"))
            return
        size = sum([len(event.body) + len(event.block) + _OVERHEAD for event in events])
        if self._bytes + size > self._max_bytes and self._gathering:
            done(Refusal("full", f"events of {self._max_bytes} bytes wait to be stored in topic {self._topic}"))
            return
        self._bytes += size
        self._gathering.append(_Waiting(events, done, size, self._loop.time() + self._limit_s))
        self._wake.set()

    async def run(self, gate: asyncio.Event) -> None:
        """Store what gathers, until cancelled. gate: set while the topic can be written."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            taken, self._gathering = self._gathering, []
            if taken:
                await self._store(taken, gate)

    async def _store(self, taken: list[_Waiting], gate: asyncio.Event) -> None:
        # While the cluster is gone the oldest publisher's limit bounds a try, and a failed try shortens the next one.
        until = min(taken[0].until, self._loop.time() + 0.5) if self._failing else taken[0].until
        why = "the channel is being stopped"
        try:
            async with asyncio.timeout_at(until):
                if not gate.is_set():
                    await gate.wait()
                await self._send(self._batches(taken))
            why = self._failing = ""
        except TimeoutError:
            why = self._failing = self._failing or f"topic {self._topic}: no answer within {self._limit_s:g} s"
            self._producer = None
        except NotConnectedError as exc:
            why = self._failing = str(exc)
        finally:
            self._report(self._failing)
            for each in taken:
                self._bytes -= each.size
                each.done(each.refusal or (Refusal("unavailable", why) if why and not each.is_over else None))

    def _batches(self, taken: list[_Waiting]) -> list[_Batch]:
        partitions = self._wire.partitions(self._topic)
        if not partitions:
            raise NotConnectedError(f"topic {self._topic} is not there")
        self._turn += 1
        sticky = partitions[self._turn % len(partitions)]
        at_ms = self._clock.now_ns() // 1_000_000
        full: list[_Batch] = []
        filling: dict[int, _Batch] = {}
        for owner in taken:
            for event in owner.events:
                key = event.attributes.get("partitionkey")
                where = sticky if key is None else _partition_of(key, partitions)
                batch = filling.get(where)
                if batch is None:
                    batch = filling[where] = _Batch(where)
                if not batch.append(event, owner, at_ms, structured=self._structured):
                    full.append(batch)
                    batch = filling[where] = _Batch(where)
                    batch.append(event, owner, at_ms, structured=self._structured)
        return [*full, *filling.values()]

    async def _send(self, batches: list[_Batch]) -> None:
        """At most one batch at a time in each partition, so that order and sequence numbers hold."""
        rounds: list[list[_Batch]] = []
        for batch in batches:
            place = next((r for r in rounds if all(other.partition != batch.partition for other in r)), None)
            if place is None:
                rounds.append([batch])
            else:
                place.append(batch)
        for together in rounds:
            await self._send_round(together)

    async def _send_round(self, batches: list[_Batch]) -> None:
        left = {batch.partition: batch for batch in batches}
        while left:
            try:
                await self._seal(left)
                codes: dict[int, int] = {}
                for node, led in self._wire.by_leader(self._topic, list(left)).items():
                    codes |= await self._wire.produce(node, self._topic, {p: left[p].data for p in led})
            except NotConnectedError as exc:
                self._failing = str(exc)
                await self._pause()
                continue
            again = False
            for partition, code in codes.items():
                again |= self._judge(left, partition, code)
            if again:
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(_RETRY_S)
        try:
            await self._wire.refresh()
        except NotConnectedError as exc:
            self._failing = str(exc)

    def _judge(self, left: dict[int, _Batch], partition: int, code: int) -> bool:
        """Take the answer for one partition; True: it is to be sent again."""
        batch = left[partition]
        if code in (0, _DUPLICATE):
            self._sequences[partition] = self._sequences.get(partition, 0) + batch.count
            batch.end(None)
        elif code in _TOO_LARGE:
            batch.end(Refusal("too-large", f"the event is larger than topic {self._topic} takes"))
        elif code in _FINAL:
            batch.end(Refusal("unavailable", f"topic {self._topic} refuses: Kafka error {code}"))
        else:
            self._failing = f"topic {self._topic}, partition {partition}: Kafka error {code}"
            if code in _NEW_ID:
                self._producer = None
            return True
        del left[partition]
        return False

    async def _seal(self, batches: dict[int, _Batch]) -> None:
        if self._producer is None:
            self._producer = await self._wire.producer_id()
            self._sequences.clear()
            for batch in batches.values():
                batch.data = b""
        ident, epoch = self._producer
        for partition, batch in batches.items():
            if not batch.data:
                batch.builder.set_producer_state(ident, epoch, self._sequences.get(partition, 0))
                batch.data = bytes(batch.builder.build())

    def close(self, why: str) -> None:
        """Answer what still waits."""
        self._closed = True
        taken, self._gathering = self._gathering, []
        for each in taken:
            each.done(Refusal("unavailable", why))

    def failing(self, why: str) -> None:
        """What to tell publishers whose limit ends while the topic cannot be written."""
        self._failing = why

    @property
    def is_idle(self) -> bool:
        return self._bytes == 0


def _partition_of(key: str, partitions: Sequence[int]) -> int:
    """As Kafka's default partitioner chooses for a record with a key."""
    where: int = (murmur2(key.encode()) & 0x7FFFFFFF) % len(partitions)
    return partitions[where]
