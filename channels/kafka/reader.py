"""Reading a topic's partitions: once for all subscriptions near the head, and by itself for one that fell behind.

A record is decoded and matched once, against the index, whoever wants it. Where nobody near the head has room the reading
waits; where some have and some have not, those that have not fall behind and read by themselves until they have caught up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from channels.kafka.cursor import Cursor, Group, Part
from channels.kafka.wire import EARLIEST, OUT_OF_RANGE, Fetched, Record, Wire
from mesh.errors import EventError, NotConnectedError
from mesh.events.event import Event
from mesh.events.kafka import read

_WAIT_S = 0.5
"""How long a fetch waits for the first record."""
_FETCH_BYTES = 1024**2
_LAG_BYTES = 512 * 1024
_AGAIN_S = 0.2
"""After a fetch that failed."""
_CHUNK = 200
"""Records digested before others get their turn."""


class Host(Protocol):
    """The topic, as far as reading goes."""

    parts: dict[int, Part]
    groups: dict[str, Group]

    def matching(self, attributes: Mapping[str, str]) -> Sequence[Group]: ...
    def reset(self, partition: int, offset: int, *, why: str) -> None:
        """What was known of the partition does not hold any more: everybody goes on at this offset."""

    def well(self) -> None:
        """A fetch was answered."""

    def unreadable(self, partition: int, offset: int, why: str) -> None: ...
    def moved(self, partition: int) -> None:
        """The partition's reading went on: positions may be stored, little by little."""


class Reader:
    """`run` reads until it is cancelled; `wake` after anything changed that it may have waited for."""

    def __init__(self, wire: Wire, topic: str, host: Host, *, report: Callable[[str], None]) -> None:
        self._wire = wire
        self._topic = topic
        self._host = host
        self._report = report
        self._head_wake = asyncio.Event()
        self._lag_wake = asyncio.Event()

    def wake(self) -> None:
        self._head_wake.set()
        self._lag_wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_head(tasks))
            tasks.create_task(self._read_behind())

    # Near the head.

    async def _read_head(self, tasks: asyncio.TaskGroup) -> None:
        under_way: dict[int, asyncio.Task[list[Fetched]]] = {}
        waking: asyncio.Task[bool] | None = None
        while True:
            self._head_wake.clear()
            while await self._digest_all():
                pass
            try:
                for node, starts in self._wanted(under_way).items():
                    under_way[node] = tasks.create_task(self._fetch(node, starts))
            except NotConnectedError as exc:
                await self._trouble(exc)
            waking = waking or tasks.create_task(self._head_wake.wait())
            done, _ = await asyncio.wait({waking, *under_way.values()}, return_when=asyncio.FIRST_COMPLETED)
            if waking in done:
                waking = None
            for node, task in list(under_way.items()):
                if task in done:
                    del under_way[node]
                    await self._take(task.result())

    def _wanted(self, under_way: Mapping[int, object]) -> dict[int, dict[int, int]]:
        """Node → partition → offset: of the partitions for which somebody near the head has room."""
        reading = [
            number
            for number, part in self._host.parts.items()
            if not part.stash and any(cursor.live and cursor.room for cursor in part.cursors.values())
        ]
        by_node = self._wire.by_leader(self._topic, reading)
        return {
            node: {n: self._host.parts[n].fetch_from for n in led}
            for node, led in by_node.items()
            if node not in under_way
        }

    async def _fetch(self, node: int, starts: dict[int, int]) -> list[Fetched]:
        try:
            return await self._wire.fetch(
                node, self._topic, starts, wait_s=_WAIT_S, max_bytes=_FETCH_BYTES, lane=("head", self._topic)
            )
        except NotConnectedError as exc:
            await self._trouble(exc)
            return []

    async def _take(self, fetched: list[Fetched]) -> None:
        for each in fetched:
            part = self._host.parts.get(each.partition)
            if part is None or part.fetch_from != each.start or part.stash:
                continue
            if each.code:
                await self._refused(part, each)
                continue
            self._host.well()
            part.end = each.end
            if each.data:
                records, part.fetch_from = each.records()
                part.stash.extend(records)
                if not records and part.fetch_from > part.head:
                    part.head = part.fetch_from

    async def _refused(self, part: Part, fetched: Fetched) -> None:
        """A fetch of this partition failed: go where there are records, or ask who leads it."""
        if fetched.code == OUT_OF_RANGE:
            first = (await self._wire.offsets(self._topic, [part.number], which=EARLIEST))[part.number]
            self._host.reset(part.number, first, why=f"there is no offset {fetched.start} any more")
        else:
            await self._trouble(NotConnectedError(f"topic {self._topic}: Kafka error {fetched.code}"))

    async def _trouble(self, exc: NotConnectedError) -> None:
        self._report(str(exc))
        await asyncio.sleep(_AGAIN_S)
        try:
            await self._wire.refresh()
        except NotConnectedError:
            await asyncio.sleep(_AGAIN_S)

    async def _digest_all(self) -> bool:
        """Go on with what was fetched. True: there is more for which there is room."""
        more = False
        for part in list(self._host.parts.values()):
            if part.stash:
                more |= self._digest(part)
        if more:
            await asyncio.sleep(0)
        return more

    def _digest(self, part: Part) -> bool:
        """Hand on what there is room for. True: there is more of that."""
        touched: set[Group] = set()
        goes_on = True
        for _ in range(_CHUNK):
            if not part.stash or not goes_on:
                break
            goes_on = self._offer(part, part.stash[0], touched)
            if goes_on:
                part.head = part.stash.popleft().offset + 1
        if not part.stash:
            part.head = max(part.head, part.fetch_from)
        for group in touched:
            group.pump()
        self._host.moved(part.number)
        if part.stash and not any(cursor.live for cursor in part.cursors.values()):
            part.stash.clear()
            part.fetch_from = part.head
        return bool(part.stash) and goes_on

    def _offer(self, part: Part, record: Record, touched: set[Group]) -> bool:
        """Give the record to whoever near the head wants it. False: nobody near the head has room, it stays where it is."""
        event = self._event(part.number, record)
        if event is None:
            return True
        wanting = [
            cursor
            for group in self._host.matching(event.attributes)
            if (cursor := part.cursors.get(group.key)) is not None and cursor.live and record.offset >= cursor.read_to
        ]
        if not all(cursor.room for cursor in wanting):
            if not any(cursor.live and cursor.room for cursor in part.cursors.values()):
                return False
            for cursor in wanting:
                if not cursor.room:
                    cursor.fall_behind(record.offset)
            self._lag_wake.set()
            wanting = [cursor for cursor in wanting if cursor.live]
        for cursor in wanting:
            cursor.push(record.offset, event, record.timestamp_ms * 1_000_000)
            touched.add(cursor.group)
        return True

    def _event(self, partition: int, record: Record) -> Event | None:
        try:
            return read(record.headers, record.value)
        except EventError as exc:
            self._host.unreadable(partition, record.offset, str(exc))
            return None

    # Behind.

    async def _read_behind(self) -> None:
        while True:
            self._lag_wake.clear()
            behind = self._behind()
            if not behind:
                await self._lag_wake.wait()
                continue
            for number, cursors in behind.items():
                try:
                    await self._read_for(number, cursors)
                except NotConnectedError as exc:
                    await self._trouble(exc)

    def _behind(self) -> dict[int, list[Cursor]]:
        """Partition → who is behind there and has room, the furthest one first."""
        found: dict[int, list[Cursor]] = {}
        for number, part in self._host.parts.items():
            cursors = [cursor for cursor in part.cursors.values() if not cursor.live and cursor.room]
            if cursors:
                found[number] = sorted(cursors, key=lambda cursor: cursor.read_to)
        return found

    async def _read_for(self, number: int, cursors: list[Cursor]) -> None:
        """One fetch for the one that is furthest behind; others whose place it passes take what it brings."""
        part, start = self._host.parts[number], cursors[0].read_to
        if start >= part.head:
            self._catch_up(part, cursors)
            return
        node = self._wire.leader(self._topic, number)
        if node is None:
            raise NotConnectedError(f"partition {number} of topic {self._topic} has no leader")
        (fetched,) = await self._wire.fetch(
            node, self._topic, {number: start}, wait_s=_WAIT_S, max_bytes=_LAG_BYTES, lane=("behind", self._topic)
        )
        if fetched.code == OUT_OF_RANGE:
            first = (await self._wire.offsets(self._topic, [number], which=EARLIEST))[number]
            if first < start:
                self._host.reset(number, first, why=f"there is no offset {start} any more")
            for cursor in cursors if first > start else ():
                cursor.read_to = max(first, cursor.read_to)
            self._report(f"partition {number} has no offset {start} any more; goes on at {first}")
            return
        if fetched.code:
            raise NotConnectedError(f"topic {self._topic}, partition {number}: Kafka error {fetched.code}")
        records, following = fetched.records()
        if following == start:
            following = min(max(fetched.end, start), part.head)
        self._digest_for(part, records, [c for c in cursors if c.read_to < following], following)

    def _digest_for(self, part: Part, records: list[Record], cursors: list[Cursor], following: int) -> None:
        reading = {cursor.group: cursor for cursor in cursors if not cursor.closed}
        for record in records:
            event = self._event(part.number, record) if reading else None
            if event is None:
                continue
            wanting = set(self._host.matching(event.attributes))
            for group, cursor in list(reading.items()):
                if record.offset < cursor.read_to or not _wants(cursor, record.offset, group in wanting):
                    continue
                if not cursor.room:
                    cursor.read_to = record.offset
                    del reading[group]
                else:
                    cursor.push(record.offset, event, record.timestamp_ms * 1_000_000)
        for cursor in reading.values():
            cursor.read_to = following
        self._catch_up(part, list(reading.values()))
        for cursor in cursors:
            cursor.group.pump()
        self._host.moved(part.number)

    def _catch_up(self, part: Part, cursors: Sequence[Cursor]) -> None:
        """Those that have arrived at the head go on with it."""
        for cursor in cursors:
            if cursor.read_to >= part.head and not cursor.closed:
                cursor.live = True
                self._head_wake.set()


def _wants(cursor: Cursor, offset: int, matched: bool) -> bool:  # noqa: FBT001 - one of two answers
    tracker = cursor.tracker
    return tracker.recall(offset) is not None if tracker.is_old(offset) else matched
