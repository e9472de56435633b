"""One topic at work in this process: made where it is wanted, written, read, and its subscriptions' positions kept.

Everything that talks to the cluster is a task of `run`, tries again for ever, and says what is wrong meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from channels.api import Deliver, SubscriptionSpec, TopicSpec
from channels.kafka.committer import Committer
from channels.kafka.cursor import Cursor, Group, Part
from channels.kafka.link import forever
from channels.kafka.member import keep_membership
from channels.kafka.publisher import Publisher
from channels.kafka.reader import Reader
from channels.kafka.tracker import Saved, decode
from channels.kafka.wire import EARLIEST, LATEST, RefusedError, TakenError, Wire
from mesh.errors import NotConnectedError
from mesh.filters.index import MatchIndex
from mesh.runtime.clock import Clock
from mesh.settings import KafkaSettings

_HANDOVER_S = 1.0
"""When partitions may go to somebody else, what is out has this long to come back before it is left to the next owner."""
_FLUSH_S = 3.0
_TAKEN_S = 5.0
"""A group that somebody else serves is looked at this often."""
_AT_ONCE = 50
"""Groups whose positions are asked for at a time."""
_REPORTED = 10
"""Records that are no events, told one by one; after that each hundredth."""

Report = Callable[[str, dict[str, object]], None]


class Topic:
    """See the module. `run` is its life; all else are plain calls on the loop's thread."""

    def __init__(
        self, spec: TopicSpec, wire: Wire, *, name: str, settings: KafkaSettings, clock: Clock, share: tuple[int, int],
        report: Report,
    ) -> None:  # fmt: skip
        self.key = spec.key
        self.spec = spec
        self.name = name
        self.wire = wire
        self.parts: dict[int, Part] = {}
        self.groups: dict[str, Group] = {}
        self.is_handing = True
        self.trouble = ""
        self.gate = asyncio.Event()
        self._settings = settings
        self._clock = clock
        self._share = share
        self._on_trouble = report
        self._index: MatchIndex[Group] | None = None
        self._owned: set[int] = set()
        self._generation = 0
        self._is_open = False
        self._beginning: set[str] = set()
        self._to_begin: asyncio.Queue[Group] = asyncio.Queue()
        self._has_groups = asyncio.Event()
        self._load_wake = asyncio.Event()
        self._back = asyncio.Event()
        self._forgetting: dict[str, asyncio.Event] = {}
        self._bad_records = 0
        self.publisher = Publisher(
            wire, name, clock=clock, limit_s=settings.publish_timeout_s, max_bytes=settings.max_bytes,
            structured=bool(spec.options.get("structured")), report=self._tell,
        )  # fmt: skip
        self.reader = Reader(wire, name, self, report=self._tell)
        self.committer = Committer(
            wire, name, period_s=settings.commit_period_s, moved=self._was_moved, taken=self._was_taken,
            report=self._tell,
        )  # fmt: skip

    # Its life.

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.publisher.run(self.gate))
            await forever(self._open, report=self._tell)
            self._is_open = True
            self._check_gate()
            tasks.create_task(self._begin_all(tasks))
            tasks.create_task(self._load_all())
            tasks.create_task(self.reader.run())
            tasks.create_task(self.committer.run())
            await self._has_groups.wait()
            member = partial(
                keep_membership, self.wire.link, self.name, f"knit.{self.name}", client_id="knit",
                session_s=self._settings.session_timeout_s, assigned=self._assigned, revoked=self._revoked,
            )  # fmt: skip
            await forever(member, report=self._tell)

    async def _open(self) -> None:
        """Connect, and make the topic where it is ours and not there."""
        await self.wire.connect()
        options = self.spec.options
        if not options.get("external"):
            config = {k.removeprefix("config."): str(v) for k, v in options.items() if k.startswith("config.")}
            partitions, replicas = int(options.get("partitions", 1)), int(options.get("replicas", 1))
            try:
                await self.wire.create_topic(self.name, partitions=partitions, replicas=replicas, config=config)
            except RefusedError as exc:
                raise NotConnectedError(str(exc)) from exc
        self.wire.follow(self.name)
        await self.wire.refresh()
        if not self.wire.partitions(self.name):
            raise NotConnectedError(f"topic {self.name} is not there")
        self.well()

    def _tell(self, why: str) -> None:
        """Something failed, and is tried again; "": something went well. Logged once, until it goes well again."""
        if why and not self.trouble:
            self._on_trouble("kafka not reached", {"topic": self.name, "why": why})
        self.trouble = why
        if why:
            self.publisher.failing(why)

    def well(self) -> None:
        if self.trouble:
            self._tell("")

    def _check_gate(self) -> None:
        """Events are taken once each subscription made before them has its first position."""
        if self._is_open and not self._beginning:
            self.gate.set()
        else:
            self.gate.clear()

    # Subscriptions.

    def subscribe(self, spec: SubscriptionSpec, deliver: Deliver) -> None:
        group = self.groups.get(spec.key)
        if group is None:
            group = Group(self, self.key, spec.key, group_id=_group_id(spec), clock=self._clock)
            self.groups[spec.key] = group
            self._beginning.add(spec.key)
            self._check_gate()
            self._to_begin.put_nowait(group)
            self._has_groups.set()
        group.spec = spec
        group.deliver = deliver
        group.ordered = spec.parallelism == 1 or bool(spec.options.get("ordered"))
        index, count = self._share
        share = max(spec.parallelism // count + (index < spec.parallelism % count), 1)
        group.limit = spec.parallelism if self.spec.options.get("whole") else share
        self._index = None
        group.pump()

    def unsubscribe(self, key: str, *, forget: bool) -> None:
        group = self.groups.get(key)
        if group is None:
            return
        group.deliver = None
        group.limit = 0
        if forget:
            del self.groups[key]
            self._index = None
            self._beginning.discard(key)
            self._check_gate()
            for cursor in list(group.cursors.values()):
                cursor.close()
            self.reader.wake()

    def matching(self, attributes: Mapping[str, str]) -> Sequence[Group]:
        if self._index is None:
            self._index = MatchIndex([(group, group.spec.filters) for group in self.groups.values()])
        return self._index.match(attributes)

    async def forget(self, group_id: str) -> None:
        """Delete a group's positions; a subscription that is made again meanwhile waits for it."""
        done = self._forgetting[group_id] = asyncio.Event()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self.wire.delete_group(group_id)
        except (NotConnectedError, RefusedError, TimeoutError) as exc:
            self._on_trouble("kafka group left behind", {"group": group_id, "why": str(exc)})
        finally:
            done.set()
            if self._forgetting.get(group_id) is done:
                del self._forgetting[group_id]

    async def _begin_all(self, tasks: asyncio.TaskGroup) -> None:
        limit = asyncio.Semaphore(_AT_ONCE)
        while True:
            group = await self._to_begin.get()
            tasks.create_task(self._begin(group, limit))

    async def _begin(self, group: Group, limit: asyncio.Semaphore) -> None:
        forgetting = self._forgetting.get(group.id)
        if forgetting is not None:
            await forgetting.wait()
        while not group.is_begun and self.groups.get(group.key) is group:
            try:
                async with limit:
                    await forever(partial(self._first_positions, group), report=self._tell)
            except RefusedError as exc:
                self._was_taken(group, str(exc))
                self._beginning.discard(group.key)
                self._check_gate()
                await asyncio.sleep(_TAKEN_S)
        self._beginning.discard(group.key)
        self._check_gate()
        self._load_wake.set()

    async def _first_positions(self, group: Group) -> None:
        """A new group begins with the next event. The ends are asked for first: whatever another process stored before that is
        seen then, and an event that was published after it is not passed over."""
        partitions = self.wire.partitions(self.name)
        ends = await self.wire.offsets(self.name, partitions, which=LATEST)
        known = await self.wire.positions(group.id, self.name)
        missing = [partition for partition in partitions if partition not in known]
        if missing and not known:
            await self.wire.commit(group.id, self.name, {partition: (ends[partition], "") for partition in missing})
        group.is_begun = True
        group.taken = ""

    def _was_taken(self, group: Group, why: str) -> None:
        if not group.taken:
            self._on_trouble("kafka group served by somebody else", {"group": group.id, "why": why})
        group.taken = why
        for cursor in list(group.cursors.values()):
            cursor.close()
        asyncio.get_running_loop().call_later(_TAKEN_S, self._load_wake.set)

    def _was_moved(self, cursor: Cursor, now: tuple[int, str]) -> None:
        """An operator's tool, or another process, has put the position somewhere else: go on there."""
        fields = {"group": cursor.group.id, "partition": cursor.partition, "from": cursor.committed[0], "to": now[0]}
        self._on_trouble("kafka position was moved", {**fields, "topic": self.name})
        cursor.close()
        self._load_wake.set()

    # Partitions.

    async def _assigned(self, partitions: set[int]) -> None:
        self._generation += 1
        self._owned = partitions
        for number in self.parts.keys() - partitions:
            for cursor in list(self.parts[number].cursors.values()):
                cursor.close()
            del self.parts[number]
        self._load_wake.set()

    async def _revoked(self, partitions: set[int]) -> None:
        """Store what is known before somebody else may go on with it."""
        del partitions
        self._generation += 1
        self._owned = set()
        if not self.parts:
            return
        self.is_handing = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HANDOVER_S):
                while any(cursor.flying for part in self.parts.values() for cursor in part.cursors.values()):
                    self._back.clear()
                    await self._back.wait()
        self._touch_all()
        with contextlib.suppress(TimeoutError, NotConnectedError):
            async with asyncio.timeout(_FLUSH_S):
                await self.committer.flush()
        for part in self.parts.values():
            for cursor in part.cursors.values():
                cursor.suspended = True
        self.is_handing = True

    def _touch_all(self) -> None:
        for part in self.parts.values():
            for cursor in part.cursors.values():
                self.committer.add(cursor, urgent=True)

    async def _load_all(self) -> None:
        while True:
            await self._load_wake.wait()
            self._load_wake.clear()
            await forever(self._load, report=self._tell)

    async def _load(self) -> None:
        """Give each subscription its place in each partition that is ours."""
        generation, owned = self._generation, set(self._owned)
        limit = asyncio.Semaphore(_AT_ONCE)
        wanting = {
            group: [n for n in owned if (c := group.cursors.get(n)) is None or c.suspended]
            for group in self.groups.values()
            if group.is_begun
        }
        wanting = {group: partitions for group, partitions in wanting.items() if partitions}
        asked = [self._claim(group, partitions, limit) for group, partitions in wanting.items()]
        positions = await asyncio.gather(*asked)
        if generation != self._generation:
            self._load_wake.set()
            return
        for number in owned:
            found = [
                (group, known[number])
                for group, known in zip(wanting, positions, strict=True)
                if number in known and self.groups.get(group.key) is group
            ]
            if found:
                self._place(number, found)
        self.well()
        self.reader.wake()
        for group in self.groups.values():
            group.pump()

    async def _claim(self, group: Group, partitions: list[int], limit: asyncio.Semaphore) -> dict[int, tuple[int, str]]:
        """The positions of a group; stored as they are, which tells whether somebody else is at work there."""
        async with limit:
            known = await self.wire.positions(group.id, self.name, partitions)
            new = [number for number in partitions if number not in known]
            if new:
                first = await self.wire.offsets(self.name, new, which=EARLIEST)
                known |= {number: (offset, "") for number, offset in first.items()}
            try:
                await self.wire.commit(group.id, self.name, known)
            except TakenError as exc:
                self._was_taken(group, str(exc))
                return {}
            group.taken = ""
            return known

    def _place(self, number: int, found: list[tuple[Group, tuple[int, str]]]) -> None:
        saved = [(group, where, decode(*where)) for group, where in found]
        part = self.parts.get(number)
        if part is None:
            part = self.parts[number] = Part(number, max(each.frontier for _, _, each in saved))
        for group, where, each in saved:
            old = group.cursors.get(number)
            if old is not None and old.committed == where:
                old.suspended = False
                self.committer.add(old, urgent=False)
                continue
            if old is not None:
                old.close()
            cursor = Cursor(group, part, each, where)
            cursor.live = cursor.read_to >= part.head

    def reset(self, partition: int, offset: int, *, why: str) -> None:
        part = self.parts.get(partition)
        if part is None:
            return
        self._on_trouble("kafka partition begins anew", {"topic": self.name, "partition": partition, "why": why})
        part.head = part.fetch_from = offset
        part.stash.clear()
        for cursor in list(part.cursors.values()):
            cursor.close()
            again = Cursor(cursor.group, part, Saved(offset, offset, {}), cursor.committed)
            again.live = True
            self.committer.add(again, urgent=True)

    # What reading and cursors say.

    def unreadable(self, partition: int, offset: int, why: str) -> None:
        """A record that is no event is passed over, as Knative does; it is told."""
        self._bad_records += 1
        if self._bad_records <= _REPORTED or self._bad_records % 100 == 0:
            fields = {"topic": self.name, "partition": partition, "offset": offset, "why": why}
            self._on_trouble("kafka record is no event", {**fields, "so_far": self._bad_records})

    def moved(self, partition: int) -> None:
        part = self.parts.get(partition)
        if part is not None:
            self.committer.add_lazily(part)

    def has_room(self) -> None:
        self.reader.wake()

    def to_commit(self, cursor: Cursor, *, urgent: bool) -> None:
        self.committer.add(cursor, urgent=urgent)

    def came_back(self) -> None:
        self._back.set()

    # The end.

    @property
    def in_flight(self) -> int:
        return sum(group.in_flight for group in self.groups.values())

    def stop_handing(self) -> None:
        """Hand out no more."""
        for group in self.groups.values():
            group.limit = 0

    async def drain(self) -> None:
        """Return when all that is out has come back and is stored."""
        while self.in_flight:
            self._back.clear()
            await self._back.wait()
        self._touch_all()
        with contextlib.suppress(NotConnectedError):
            await self.committer.flush()

    async def settle_up(self) -> None:
        """What is still out counts as interrupted: store that, as far as it goes in time."""
        for group in self.groups.values():
            group.limit, group.deliver = 0, None
            for cursor in group.cursors.values():
                cursor.tracker.interrupt(list(cursor.flying))
        self._touch_all()
        self.committer.close()
        with contextlib.suppress(NotConnectedError, TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self.committer.flush()
        self.publisher.close("the channel is being stopped")


def _group_id(spec: SubscriptionSpec) -> str:
    return str(spec.options.get("group") or "knit." + spec.key.replace("/", "."))
