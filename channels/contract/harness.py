"""What the contract suite needs of a backend: opened, reopened and crashed the same way for every one; readers that remember."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from channels.api import Channel, Delivery, Refusal, SubscriptionSpec, TopicSpec
from channels.registry import Site
from mesh.events.event import Event, encode_block
from mesh.filters.dialects import Exact, FilterNode
from mesh.runtime.clock import SystemClock
from mesh.settings import Settings

# The assertions of the suite are rewritten when it is imported, which is after this.
pytest.register_assert_rewrite("channels.contract.suite")

TOPIC = "broker/default/orders"
LIMIT_S = 10.0
"""How long a test waits for what must come; never waited in full where the channel keeps its word."""


def event(number: int | str, kind: str = "order.created", body: bytes = b"{}") -> Event:
    attributes = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": kind}
    return Event(encode_block(attributes), body, passed=b"x-request-id: 7\r\n", ttl=250)


def only(kind: str) -> tuple[FilterNode, ...]:
    return (Exact((("type", kind),)),)


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
    """One channel of one backend in one folder. A backend says how it is made, crashed and made small."""

    is_bounded = True
    """Whether it holds events itself, and so has a bound and knows of everything that waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "w0"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.share = (0, 1)
        self.options: dict[str, str | float | bool] = {"sync": False}
        """Of the topic that the suite uses."""
        self.troubles: list[tuple[str, dict[str, object]]] = []
        self.is_open = False
        self.channel: Channel

    def make(self) -> Channel:
        """A channel that is not started yet, with this folder, share, and whatever `make_small` set."""
        raise NotImplementedError

    def site(self) -> Site:
        """What a backend is made of in life."""
        return Site(
            settings=Settings(), clock=SystemClock(), path=self.folder, share=self.share,
            on_trouble=lambda what, fields: self.troubles.append((what, fields)),
        )  # fmt: skip

    def make_small(self) -> None:
        """From the next time it is opened it is full at some 10 to 100 events of 50 kB."""
        raise NotImplementedError

    async def crash(self) -> Channel:
        """What a killed process leaves, and a new one that finds it: nothing may be written that was not at this moment."""
        raise NotImplementedError

    async def settled_on_disk(self) -> None:
        """Return when nothing is left to write: what was settled before is safe then."""
        await self.barrier()

    async def open(self) -> Channel:
        self.channel = self.make()
        await self.channel.start()
        self.is_open = True
        self.open_topic(TOPIC, **self.options)
        return self.channel

    def open_topic(self, topic: str, **options: str | float | bool) -> None:
        """Make a topic, with whatever this backend wants of every topic besides."""
        self.channel.open_topic(TopicSpec(topic, {"sync": False, **options}))

    def spec(self, key: str, filters: tuple[FilterNode, ...] = (), parallelism: int = 100) -> SubscriptionSpec:
        """A subscription, with whatever this backend wants of every one."""
        return SubscriptionSpec(key, filters, parallelism)

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            async with asyncio.timeout(LIMIT_S):
                await self.channel.aclose()

    async def reopen(self) -> Channel:
        await self.close()
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
            self.open_topic(topic)
            self.channel.subscribe(topic, self.spec("b"), reader)
            await self.publish(event("barrier"), topic=topic)
            await reader.next()
            self.channel.close_topic(topic)
