"""Channels for tests: made, reopened and crashed the same way for every backend; readers that remember."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from channels.api import Channel, Delivery, Refusal, SubscriptionSpec, TopicSpec
from channels.kafka import KafkaChannel
from channels.kafka.wire import LATEST
from channels.log import LogChannel
from channels.memory import MemoryChannel
from mesh.events.event import Event, encode_block
from mesh.filters.dialects import Exact, FilterNode
from mesh.runtime.clock import SystemClock
from mesh.settings import KafkaSettings, LogSettings, MemorySettings

TOPIC = "broker/default/orders"
LIMIT_S = 10.0
"""How long a test waits for what must come; never waited in full where the channel keeps its word."""


def event(number: int | str, kind: str = "order.created", body: bytes = b"{}") -> Event:
    attributes = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": kind}
    return Event(encode_block(attributes), body, passed=b"x-request-id: 7\r\n", ttl=250)


def only(kind: str) -> tuple[FilterNode, ...]:
    return (Exact((("type", kind),)),)


class ShiftedClock:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now_ns(self) -> int:
        return SystemClock.now_ns() + int(self.shift_s * 1e9)

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.shift_s


class Reader:
    """A subscription's deliver: keeps what comes; `next` waits for it."""

    def __init__(self) -> None:
        self.seen: list[Delivery] = []
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()

    def __call__(self, delivery: Delivery) -> None:
        self.seen.append(delivery)
        self._queue.put_nowait(delivery)

    async def next(self) -> Delivery:
        async with asyncio.timeout(LIMIT_S):
            return await self._queue.get()

    async def take(self, count: int) -> list[Delivery]:
        return [await self.next() for _ in range(count)]

    @property
    def unread(self) -> int:
        return self._queue.qsize()


class Settling(Reader):
    """Settles before it returns."""

    def __call__(self, delivery: Delivery) -> None:
        super().__call__(delivery)
        delivery.settle()


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.event.id for delivery in deliveries]


class Harness:
    """One channel of one backend in one folder."""

    def __init__(self, backend: str, folder: Path, *, bootstrap: str = "") -> None:
        self.backend = backend
        self.bootstrap = bootstrap
        self.folder = folder / "w0"
        self.log_settings = LogSettings(max_bytes=64 * 1024**2)
        self.memory_settings = MemorySettings(max_bytes=1024**2)
        self.kafka_settings = KafkaSettings(max_bytes=1024**2, commit_period_s=0.02)
        self.run = uuid4().hex[:8]
        self.share = (0, 1)
        self.adopt: list[Path] = []
        self.troubles: list[tuple[str, dict[str, object]]] = []
        self.clock = ShiftedClock()
        self.is_open = False
        self.channel: Channel

    def _make(self) -> Channel:
        if self.backend == "memory":
            return MemoryChannel(self.memory_settings, clock=self.clock, share=self.share)
        if self.backend == "kafka":
            return KafkaChannel(
                self.kafka_settings, clock=self.clock, share=self.share,
                on_trouble=lambda what, fields: self.troubles.append((what, fields)),
            )  # fmt: skip
        return LogChannel(
            self.folder, settings=self.log_settings, clock=self.clock, share=self.share, adopt=self.adopt,
            on_trouble=lambda what, fields: self.troubles.append((what, fields)),
        )  # fmt: skip

    async def open(self) -> Channel:
        self.channel = self._make()
        await self.channel.start()
        self.is_open = True
        self.open_topic(TOPIC)
        return self.channel

    def options(self, topic: str) -> dict[str, str | float | bool]:
        """What a topic is opened with; on a server that all tests share its name is this harness's own."""
        if self.backend != "kafka":
            return {"sync": False}
        name = f"{topic.replace('/', '.')}.{self.run}"
        return {"bootstrap": self.bootstrap, "topic": name, "config.max.message.bytes": "2000000"}

    def open_topic(self, topic: str, **more: str | float | bool) -> None:
        self.channel.open_topic(TopicSpec(topic, {**self.options(topic), **more}))

    def spec(
        self, key: str, filters: tuple[FilterNode, ...] = (), parallelism: int = 100, **options: str | float | bool
    ) -> SubscriptionSpec:
        return SubscriptionSpec(key, filters, parallelism, {"group": f"{key}.{self.run}", **options})

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            async with asyncio.timeout(LIMIT_S):
                await self.channel.aclose()

    async def reopen(self) -> Channel:
        await self.close()
        return await self.open()

    async def crash(self) -> Channel:
        """What a killed process leaves: the files as they are on disk now, nothing more; on a server what it was told."""
        if isinstance(self.channel, KafkaChannel):
            self.is_open = False
            await self._vanish(self.channel)
            return await self.open()
        image = self.folder.with_name(self.folder.name + "-image")
        shutil.copytree(self.folder, image)
        await self.close()
        shutil.rmtree(self.folder)
        image.rename(self.folder)
        return await self.open()

    async def _vanish(self, channel: KafkaChannel) -> None:
        runs = [*channel._runs.values(), *channel._chores]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        for topic in channel._topics.values():
            topic.committer.close()
        for wire in channel._wires.values():
            await wire.aclose()

    async def publish(self, *events: Event, topic: str = TOPIC) -> Refusal | None:
        """Publish and wait for the answer."""
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.channel.publish(topic, events, answer.set_result)
        async with asyncio.timeout(LIMIT_S):
            return await answer

    async def barrier(self) -> None:
        """Return when all that was said to the channel before has had its effect, handing out included."""
        if isinstance(self.channel, KafkaChannel):
            await self._read_up(self.channel)
            return
        for number in range(3):
            topic = f"barrier/{id(self)}/{number}"
            reader = Settling()
            self.open_topic(topic)
            self.channel.subscribe(topic, self.spec("b"), reader)
            await self.publish(event("barrier"), topic=topic)
            await reader.next()
            self.channel.close_topic(topic)

    async def settled_on_disk(self) -> None:
        """Return when nothing is left to write: what was settled before is safe then."""
        await self.barrier()
        if isinstance(self.channel, LogChannel):
            await self.quiet()
        if isinstance(self.channel, KafkaChannel):
            for topic in self.channel._topics.values():
                await topic.committer.flush()

    async def _read_up(self, channel: KafkaChannel) -> None:
        """Until all that is stored now was looked at for everybody who listens."""
        async with asyncio.timeout(LIMIT_S):
            for topic in channel._topics.values():
                while not topic.publisher.is_idle or not topic._is_open:
                    await asyncio.sleep(0.01)
                ends = await topic.wire.offsets(topic.name, topic.wire.partitions(topic.name), which=LATEST)
                while not all(
                    (cursor := group.cursors.get(number)) is not None and (cursor.reached >= end or not cursor.room)
                    for group in topic.groups.values()
                    for number, end in ends.items()
                ):
                    await asyncio.sleep(0.01)

    async def quiet(self) -> None:
        """Return when the log has nothing to write."""
        assert isinstance(self.channel, LogChannel)
        async with asyncio.timeout(LIMIT_S):
            while not all(partition.is_idle for partition in self.channel._partitions):
                self.channel._idle.clear()
                await self.channel._idle.wait()
