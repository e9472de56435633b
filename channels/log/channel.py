"""LogChannel: topics and subscriptions over one store of this worker's, and those of workers that are no more.

Everything is called on the event loop's thread. An event of a topic lives in the store of the worker that took it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from struct import error as StructError  # noqa: N812 `error` alone says nothing

from channels.api import (
    Capabilities,
    DeadLetter,
    Deliver,
    Done,
    Refusal,
    SubscriptionSpec,
    SubscriptionState,
    TopicHealth,
    TopicSpec,
)
from channels.log import record
from channels.log.feeder import Trouble
from channels.log.partition import Partition, wake
from channels.log.positions import Group, Position
from channels.log.store import Store, Writer, WriterFactory, unreadable
from mesh.events.event import Event
from mesh.filters.dialects import FilterNode
from mesh.filters.index import MatchIndex
from mesh.runtime.clock import Clock
from mesh.settings import LogSettings

_DEAD_CHUNK = 64
_PEEK = 256
"""Records looked at to find the oldest of a backlog; beyond it the first one that was not read stands for it."""


class Topic:
    """A topic of the plan. everyone: all positions, where no subscription filters; index: else, made when first asked."""

    __slots__ = ("all_keys", "everyone", "groups", "id", "index", "is_open", "key", "options", "spec_filters")

    def __init__(self, key: str, ident: int) -> None:
        self.key = key
        self.id = ident
        self.is_open = False
        self.options: Mapping[str, str | float | bool] = {}
        self.groups: dict[str, Group] = {}
        self.spec_filters: dict[str, tuple[FilterNode, ...]] = {}
        self.everyone: tuple[Position, ...] | None = ()
        self.all_keys: tuple[str, ...] = ()
        self.index: MatchIndex[Position] | None = None

    def matching(self, event: Event) -> Sequence[Position]:
        if self.everyone is not None:
            return self.everyone
        if self.index is None:
            self.index = MatchIndex(
                [(self.groups[key].positions[0], filters) for key, filters in self.spec_filters.items()]
            )
        return self.index.match(event.attributes)

    def changed(self) -> None:
        self.index = None
        filtered = any(self.spec_filters.values())
        self.everyone = None if filtered else tuple(self.groups[key].positions[0] for key in self.spec_filters)
        self.all_keys = tuple(self.spec_filters)


class LogChannel:
    """The durable channel: see `channels/api.py` for what each call promises.

    path: the store of this worker. share: (index, count) of the workers that divide a subscription's parallelism; a topic
    with the option `whole` lives in this worker alone and has all of it. adopt: stores of workers that are no more; they
    are handed out through the same subscriptions and removed once they are empty. on_trouble: told of what an operator
    should know, as a constant word and its fields. Topic option `retention_s`: how long settled events stay.
    """

    capabilities = Capabilities(durable=True, keeps_attempts=True, keeps_dead_letters=True)

    def __init__(
        self,
        path: Path,
        *,
        settings: LogSettings,
        clock: Clock,
        share: tuple[int, int] = (0, 1),
        adopt: Sequence[Path] = (),
        on_trouble: Trouble,
        writer: WriterFactory = Writer,
    ) -> None:
        self._path = path
        self._settings = settings
        self._clock = clock
        self._share = share
        self._adopt = adopt
        self._on_trouble = on_trouble
        self._writer = writer
        self._topics: dict[str, Topic] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._adopted: list[Partition] = []
        self._moving: set[Partition] = set()
        self._main: Partition | None = None
        self._idle = asyncio.Event()
        self._draining = False
        self._closed = False

    @property
    def _partitions(self) -> list[Partition]:
        return [self._own, *self._adopted]

    @property
    def _own(self) -> Partition:
        if self._main is None:
            raise RuntimeError("the channel was not started")
        return self._main

    # -- start --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open and recover; quick and in constant memory whatever waits.

        Raises:
            StoreError: a store is in use or cannot be read; the text names the command that repairs it.
        """
        try:
            self._main = self._open(self._path)
            for path in self._adopt:
                partition = self._open(path)
                partition.on_idle = self._check_idle
                self._adopted.append(partition)
        except BaseException:
            for partition in [*([self._main] if self._main else []), *self._adopted]:
                partition.close()
            raise
        self._main.on_idle = self._check_idle
        self._retire_emptied()

    def _open(self, path: Path) -> Partition:
        store = Store(path, self._settings.max_bytes)
        store.open()
        partition = Partition(store, clock=self._clock, on_trouble=self._on_trouble, writer=self._writer)
        try:
            self._recover(partition)
        except (record.DamagedError, UnicodeDecodeError, StructError) as exc:
            partition.close()
            raise unreadable(path, str(exc)) from exc
        except BaseException:
            partition.close()
            raise
        return partition

    def _recover(self, partition: Partition) -> None:
        names: dict[int, record.NameRow] = {}
        with partition.store.reading() as view:
            for key, row in view.rows("names"):
                names[record.ID_KEY.unpack(key)[0]] = record.decode_name(row)
            rows = [(record.ID_KEY.unpack(key)[0], record.decode_position(row)) for key, row in view.rows("positions")]
            waits = [(record.WAIT_KEY.unpack(key), record.decode_wait(row)) for key, row in view.rows("waits")]
            last = view.last_key("events")
            meta = {key: bytes(row) for key, row in view.rows("meta")}
            has_kept = view.last_key("kept") is not None
            last_dead = view.last_key("dead")
        ends = [row.frontier for _, row in rows] + [record.KEY.unpack(last)[0] + 1 if last else 1]
        partition.next_seq = max([record.KEY.unpack(meta.get(b"next_seq", b"\0" * 8))[0], *ends])
        partition.next_id = max([record.ID_KEY.unpack(meta.get(b"next_id", b"\0" * 4))[0], *[i + 1 for i in names], 1])
        dead_ends = [record.KEY.unpack(key)[0] for key in (meta.get(b"next_dead"), last_dead) if key]
        partition.next_dead = max(dead_ends, default=0) + 1
        self._place(partition, names, dict(rows))
        for (ident, seq), wait in waits:
            if ident in partition.positions:
                partition.recover_wait(partition.positions[ident], seq, wait)
        for position in partition.positions.values():
            position.ready = type(position.ready)(sorted(position.ready))
        if has_kept:
            partition.sweeper.expect_kept()
        if meta.get(b"sweep"):
            partition.sweeper.sweep()

    def _place(
        self, partition: Partition, names: Mapping[int, record.NameRow], rows: Mapping[int, record.PositionRow]
    ) -> None:
        for ident, name in names.items():
            if name.topic == 0:
                if partition is self._main or self._main is None:
                    self._topics[name.key] = Topic(name.key, ident)
                continue
            topic = names.get(name.topic)
            if topic is not None:
                if ident not in rows:
                    raise record.DamagedError(f"the subscription {name.key} has no position")
                partition.recover(ident, self._group(topic.key, name.key), rows[ident])

    def _group(self, topic: str, key: str) -> Group:
        group = self._groups.get((topic, key))
        if group is None:
            group = self._groups[(topic, key)] = Group(topic, key, self._settings.max_retrying)
        return group

    # -- topics and subscriptions -------------------------------------------------------------------------------

    def open_topic(self, spec: TopicSpec) -> None:
        topic = self._topics.get(spec.key)
        if topic is None:
            ident = self._own.new_id(record.NameRow(0, spec.key))
            topic = self._topics[spec.key] = Topic(spec.key, ident)
        topic.is_open = True
        topic.options = spec.options
        retention_s = float(spec.options.get("retention_s", 0.0))
        if retention_s > 0:
            self._own.retention_ns[topic.id] = int(retention_s * 1e9)
        else:
            self._own.retention_ns.pop(topic.id, None)

    def close_topic(self, key: str) -> None:
        topic = self._topics.pop(key, None)
        for group in [group for (owner, _), group in self._groups.items() if owner == key]:
            self._forget(group)
        if topic is not None:
            self._own.retention_ns.pop(topic.id, None)
            self._own.gathering.forgotten.append(topic.id)
            self._own.schedule()

    def subscribe(self, topic: str, spec: SubscriptionSpec, deliver: Deliver) -> None:
        home = self._topics.get(topic)
        if home is None or not home.is_open:
            self.open_topic(TopicSpec(topic))
            home = self._topics[topic]
        group = self._group(topic, spec.key)
        if not any(position.owner is self._own for position in group.positions):
            ident = self._own.new_id(record.NameRow(home.id, spec.key))
            self._own.new_position(ident, group)
            group.positions.insert(0, group.positions.pop())
        home.groups[spec.key] = group
        home.spec_filters[spec.key] = spec.filters
        home.changed()
        group.deliver = deliver
        group.limit = 0 if self._draining else self._limit(spec.parallelism, home)
        group.ordered = spec.parallelism == 1
        group.wait(0)
        wake(group)

    def _limit(self, parallelism: int, topic: Topic) -> int:
        index, count = self._share
        if topic.options.get("whole"):
            return parallelism
        return max(parallelism // count + (index < parallelism % count), 1)

    def unsubscribe(self, topic: str, key: str, *, forget: bool) -> None:
        """Stop handing out. Without `forget` what matches goes on being kept for it, for as long as this process knows it."""
        group = self._groups.get((topic, key))
        if group is None:
            return
        group.limit = 0
        group.deliver = None
        if forget:
            self._forget(group)

    def _forget(self, group: Group) -> None:
        group.limit = 0
        group.deliver = None
        topic = self._topics.get(group.topic)
        if topic is not None and topic.groups.pop(group.key, None) is not None:
            del topic.spec_filters[group.key]
            topic.changed()
        for position in list(group.positions):
            for partition in self._partitions:
                if position.owner is partition:
                    partition.forget(position)
        self._groups.pop((group.topic, group.key), None)

    # -- publishing ---------------------------------------------------------------------------------------------

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        home = self._topics.get(topic)
        if home is None or not home.is_open:
            done(Refusal("unknown", f"there is no topic {topic}"))
            return ()
        own = self._own
        keeps_all = home.id in own.retention_ns
        plan: list[tuple[Event, Sequence[Position]]] = []
        size = 0
        positions: Sequence[Position] = ()
        for event in events:
            positions = home.everyone if home.everyone is not None else home.matching(event)
            if positions or keeps_all:
                plan.append((event, positions))
                size += len(event.block) + len(event.body) + len(event.passed) + record.OVERHEAD + 4 * len(positions)
        own.publish(plan, topic=home.id, size=size, done=done)
        return home.all_keys if positions is home.everyone else tuple([position.group.key for position in positions])

    def matching(self, topic: str, event: Event) -> tuple[str, ...]:
        home = self._topics.get(topic)
        return () if home is None else tuple([position.group.key for position in home.matching(event)])

    # -- looking ------------------------------------------------------------------------------------------------

    def states(self) -> list[SubscriptionState]:
        """All subscriptions the stores know, those nobody reads included: the plan's owner can forget them."""
        return [
            SubscriptionState(
                key=group.key,
                topic=group.topic,
                backlog=sum(position.matched - position.settled for position in group.positions),
                in_flight=group.in_flight,
                retrying=group.waiting,
                oldest_ns=min((at for at in map(self._oldest_ns, group.positions) if at), default=0),
            )
            for group in self._groups.values()
        ]

    def _oldest_ns(self, position: Position) -> int:
        seqs = [*position.flying, *position.waiting]
        if seqs:
            seq = min(seqs)
            arrived_ns = position.flying[seq].arrived_ns if seq in position.flying else position.waiting[seq].arrived_ns
            if arrived_ns:
                return arrived_ns
        elif position.live or position.matched == position.settled:
            return 0
        partition = next(each for each in self._partitions if each is position.owner)
        if not partition.store.is_open:
            return 0
        with partition.store.reading() as view:
            return _oldest_on_disk(view.events(min(seqs, default=position.frontier)), position.id)

    def health(self) -> Mapping[str, TopicHealth]:
        """None of its own: what a disk refuses is told to publishers and in the log."""
        return {}

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Newest first. Reads as it goes: what is removed or added meanwhile may or may not be seen."""
        for partition in self._partitions:
            if not partition.store.is_open:
                continue
            prefix = "" if partition is self._main else f"{partition.store.path.name}:"
            before: bytes | None = None
            while True:
                with partition.store.reading() as view:
                    chunk = [
                        (key, bytes(row)) for (key, row), _ in zip(view.rows_before("dead", before), range(_DEAD_CHUNK), strict=False)
                    ]  # fmt: skip
                for key, row in chunk:
                    letter = self._letter(f"{prefix}{record.KEY.unpack(key)[0]}", row)
                    if letter is not None:
                        yield letter
                if len(chunk) < _DEAD_CHUNK:
                    break
                before = chunk[-1][0]

    def _letter(self, ref: str, row: bytes) -> DeadLetter | None:
        try:
            dead = record.decode_dead(row)
        except record.DamagedError as exc:
            self._on_trouble("record damaged", {"path": str(self._path), "dead letter": ref, "why": str(exc)})
            return None
        return DeadLetter(ref, dead.subscription, dead.event, dead.burial, dead.arrived_ns, dead.buried_ns)

    def remove_dead_letter(self, ref: str) -> bool:
        """Take a dead letter out (it was sent again, or is not wanted). False where there is none of this name."""
        folder, _, number = ref.rpartition(":")
        for partition in self._partitions:
            name = "" if partition is self._main else partition.store.path.name
            if name == folder and number.isdecimal() and partition.store.is_open:
                key = record.KEY.pack(int(number))
                with partition.store.reading() as view:
                    found = view.row("dead", key) is not None
                if found:
                    partition.gathering.dead[key] = None
                    partition.schedule()
                return found
        return False

    # -- the end ------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        self._draining = True
        for group in self._groups.values():
            group.limit = 0
        for partition in self._partitions:
            partition.handing = False
            partition.schedule()
        while not self._is_drained():
            self._idle.clear()
            await self._idle.wait()

    def _is_drained(self) -> bool:
        return all(partition.is_idle for partition in self._partitions) and not any(
            group.in_flight for group in self._groups.values()
        )

    def _check_idle(self) -> None:
        """Called by a partition with nothing left to write."""
        self._idle.set()
        if self._adopted:
            self._retire_emptied()

    async def aclose(self) -> None:
        """Write what gathered, then close. What is handed out and not settled comes back at the next start."""
        if self._main is None or self._closed:
            return
        for partition in self._partitions:
            partition.handing = False
            for position in partition.positions.values():
                if position.live:
                    partition.touch(position)
            partition.schedule()
        while not all(partition.is_idle or partition.has_trouble for partition in self._partitions):
            self._idle.clear()
            await self._idle.wait()
        self._closed = True
        for partition in self._partitions:
            partition.close()

    # -- stores of workers that are no more ---------------------------------------------------------------------

    def _retire_emptied(self) -> None:
        """Remove adopted stores that have nothing left; their dead letters move here first."""
        for partition in list(self._adopted):
            if not partition.is_idle or not partition.store.is_open or partition in self._moving:
                continue
            with partition.store.reading() as view:
                if view.count("events"):
                    continue
                letters = [(key, bytes(row)) for key, row in view.rows("dead")]
            if letters:
                self._move(partition, letters)
            else:
                self._adopted.remove(partition)
                for position in partition.positions.values():
                    position.group.positions.remove(position)
                partition.close()
                partition.store.remove()

    def _move(self, partition: Partition, letters: Iterable[tuple[bytes, bytes]]) -> None:
        self._moving.add(partition)
        for _, row in letters:
            self._own.keep_dead(row)

        def moved(refusal: Refusal | None) -> None:
            if refusal is not None:
                # The rows go with the next transaction that succeeds: wait for that one.
                self._own.after_commit(moved)
                return
            self._moving.discard(partition)
            for key, _ in letters:
                partition.gathering.dead[key] = None
            partition.schedule()

        self._own.after_commit(moved)


def _oldest_on_disk(rows: Iterable[tuple[int, memoryview]], ident: int) -> int:
    first = 0
    for (seq, row), _ in zip(rows, range(_PEEK), strict=False):
        try:
            head = record.decode_head(row, seq)
        except record.DamagedError:
            continue
        first = first or head.arrived_ns
        if ident in head.ids:
            return head.arrived_ns
    return first
