"""Processes that share a Redis, as channels in one test: opened, killed, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from channels.api import Refusal, SubscriptionSpec, TopicSpec
from channels.redis_streams import RedisChannel
from mesh.events.event import Event
from mesh.runtime.clock import SystemClock
from mesh.settings import RedisSettings
from tests.support.channels import LIMIT_S, TOPIC, Reader

SETTINGS = RedisSettings(beat_s=0.05, dead_s=0.5, answer_timeout_s=0.5, connect_timeout_s=0.5)
"""Everything ten times as soon as in life."""


class Peer:
    """One process: a channel with one topic. `async with Peer("one", {"address": …}) as one:`."""

    def __init__(
        self, name: str, options: Mapping[str, str | float | bool], *, settings: RedisSettings = SETTINGS
    ) -> None:
        self.troubles: list[tuple[str, dict[str, object]]] = []
        self.channel = RedisChannel(
            name, settings=settings, clock=SystemClock(),
            on_trouble=lambda what, fields: self.troubles.append((what, fields)),
        )  # fmt: skip
        self._options = options

    async def __aenter__(self) -> Peer:
        await self.channel.start()
        self.channel.open_topic(TopicSpec(TOPIC, self._options))
        return self

    async def __aexit__(self, *_: object) -> None:
        async with asyncio.timeout(LIMIT_S):
            await self.channel.aclose()

    def read(self, key: str = "a", *, parallelism: int = 100, reader: Reader | None = None) -> Reader:
        reader = reader or Reader()
        self.channel.subscribe(TOPIC, SubscriptionSpec(key, parallelism=parallelism), reader)
        return reader

    async def publish(self, *events: Event) -> Refusal | None:
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.channel.publish(TOPIC, events, answer.set_result)
        async with asyncio.timeout(LIMIT_S):
            return await answer

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for what no call tells: looked at again after each beat."""
        async with asyncio.timeout(LIMIT_S):
            while not holds():
                await asyncio.sleep(SETTINGS.beat_s / 5)

    async def until_taken(self, *events: Event) -> int:
        """Publish until it is taken; returns how often it was refused before."""
        refused = 0
        async with asyncio.timeout(LIMIT_S):
            while await self.publish(*events) is not None:
                refused += 1
                await asyncio.sleep(0.01)
        return refused

    @property
    def is_up(self) -> bool:
        return self.channel.health()[TOPIC].is_up
