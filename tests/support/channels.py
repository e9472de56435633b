"""Channels for tests: made, reopened and crashed the same way for every backend; readers that remember."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from channels.api import Channel, Delivery, Refusal, SubscriptionSpec, TopicSpec
from channels.log import LogChannel
from channels.memory import MemoryChannel
from channels.redis_streams import RedisChannel
from mesh.events.event import Event, encode_block
from mesh.filters.dialects import Exact, FilterNode
from mesh.runtime.clock import SystemClock
from mesh.settings import LogSettings, MemorySettings, RedisSettings
from tests.servers.redis import shared_redis

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

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend = backend
        self.folder = folder / "w0"
        self.log_settings = LogSettings(max_bytes=64 * 1024**2)
        self.memory_settings = MemorySettings(max_bytes=1024**2)
        self.redis_settings = RedisSettings()
        if backend == "redis":
            server = shared_redis()
            server.flush()
            self.redis_settings = RedisSettings(address=server.address)
        self.share = (0, 1)
        self.adopt: list[Path] = []
        self.troubles: list[tuple[str, dict[str, object]]] = []
        self.clock = ShiftedClock()
        self.is_open = False
        self.options: dict[str, float] = {}
        self.channel: Channel

    def _make(self) -> Channel:
        if self.backend == "memory":
            return MemoryChannel(self.memory_settings, clock=self.clock, share=self.share)
        if self.backend == "redis":
            return RedisChannel(
                "contract", settings=self.redis_settings, clock=self.clock, share=self.share,
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
        self.channel.open_topic(TopicSpec(TOPIC, {"sync": False, **self.options}))
        if isinstance(self.channel, RedisChannel):
            async with asyncio.timeout(LIMIT_S):
                await self.channel.joined()
        return self.channel

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            async with asyncio.timeout(LIMIT_S):
                await self.channel.aclose()

    async def reopen(self) -> Channel:
        await self.close()
        return await self.open()

    async def crash(self) -> Channel:
        """What a killed process leaves: the files as they are on disk now, nothing more."""
        if isinstance(self.channel, RedisChannel):
            self.channel.kill()
            self.is_open = False
            return await self.open()
        image = self.folder.with_name(self.folder.name + "-image")
        shutil.copytree(self.folder, image)
        await self.close()
        shutil.rmtree(self.folder)
        image.rename(self.folder)
        return await self.open()

    async def publish(self, *events: Event, topic: str = TOPIC) -> Refusal | None:
        """Publish and wait for the answer."""
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.channel.publish(topic, events, answer.set_result)
        async with asyncio.timeout(LIMIT_S):
            return await answer

    async def barrier(self) -> None:
        """Return when all that was said to the channel before has had its effect, handing out included."""
        for number in range(3):
            topic = f"barrier/{id(self)}/{number}"
            reader = Settling()
            self.channel.open_topic(TopicSpec(topic, {"sync": False}))
            self.channel.subscribe(topic, SubscriptionSpec("b"), reader)
            await self.publish(event("barrier"), topic=topic)
            await reader.next()
            self.channel.close_topic(topic)

    async def settled_on_disk(self) -> None:
        """Return when nothing is left to write: what was settled before is safe then."""
        await self.barrier()
        if isinstance(self.channel, LogChannel):
            await self.quiet()

    async def quiet(self) -> None:
        """Return when the log has nothing to write."""
        assert isinstance(self.channel, LogChannel)
        async with asyncio.timeout(LIMIT_S):
            while not all(partition.is_idle for partition in self.channel._partitions):
                self.channel._idle.clear()
                await self.channel._idle.wait()
