"""Channels for tests: Knit's own backends as the contract suite wants them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from uuid import uuid4

from channels import contract
from channels.api import Channel, SubscriptionSpec, TopicSpec
from channels.contract.harness import LIMIT_S, TOPIC, Reader, Settling, event, ids, only
from channels.kafka import KafkaChannel
from channels.kafka.wire import LATEST
from channels.log import LogChannel
from channels.memory import MemoryChannel
from channels.redis_streams import RedisChannel
from mesh.filters.dialects import FilterNode
from mesh.runtime.clock import SystemClock
from mesh.settings import KafkaSettings, LogSettings, MemorySettings, RedisSettings
from tests.servers.redis import any_redis

__all__ = ["LIMIT_S", "TOPIC", "Harness", "Reader", "Settling", "ShiftedClock", "event", "ids", "only"]


class ShiftedClock:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now_ns(self) -> int:
        return SystemClock.now_ns() + int(self.shift_s * 1e9)

    def monotonic(self) -> float:
        return SystemClock.monotonic() + self.shift_s


class Harness(contract.Harness):
    """One channel of one backend in one folder."""

    def __init__(self, backend: str, folder: Path, *, bootstrap: str = "") -> None:
        super().__init__(folder)
        self.backend = backend
        self.bootstrap = bootstrap
        self.is_bounded = backend != "kafka"
        self.log_settings = LogSettings(max_bytes=64 * 1024**2)
        self.memory_settings = MemorySettings(max_bytes=1024**2)
        self.kafka_settings = KafkaSettings(max_bytes=1024**2, commit_period_s=0.02)
        self.redis_settings = RedisSettings()
        self.run = uuid4().hex[:8]
        """On a server that all tests share the names of topics and groups are this harness's own."""
        if backend == "redis":
            server = any_redis()
            server.flush()
            self.redis_settings = RedisSettings(address=server.address)
        self.adopt: list[Path] = []
        self.clock = ShiftedClock()

    def make(self) -> Channel:
        if self.backend == "memory":
            return MemoryChannel(self.memory_settings, clock=self.clock, share=self.share)
        if self.backend == "redis":
            return RedisChannel(
                "contract", settings=self.redis_settings, clock=self.clock, share=self.share,
                on_trouble=lambda what, fields: self.troubles.append((what, fields)),
            )  # fmt: skip
        if self.backend == "kafka":
            return KafkaChannel(
                self.kafka_settings, clock=self.clock, share=self.share,
                on_trouble=lambda what, fields: self.troubles.append((what, fields)),
            )  # fmt: skip
        return LogChannel(
            self.folder, settings=self.log_settings, clock=self.clock, share=self.share, adopt=self.adopt,
            on_trouble=lambda what, fields: self.troubles.append((what, fields)),
        )  # fmt: skip

    def make_small(self) -> None:
        self.log_settings = type(self.log_settings)(max_bytes=4 * 1024**2)
        self.options = {"sync": False, "max_length": 40}

    def open_topic(self, topic: str, **options: str | float | bool) -> None:
        if self.backend == "kafka":
            name = f"{topic.replace('/', '.')}.{self.run}"
            wanted = {"bootstrap": self.bootstrap, "topic": name, "config.max.message.bytes": "2000000"}
            self.channel.open_topic(TopicSpec(topic, {**wanted, **options}))
        else:
            super().open_topic(topic, **options)

    def spec(
        self, key: str, filters: tuple[FilterNode, ...] = (), parallelism: int = 100, **options: str | float | bool
    ) -> SubscriptionSpec:
        if self.backend != "kafka":
            return super().spec(key, filters, parallelism)
        return SubscriptionSpec(key, filters, parallelism, {"group": f"{key}.{self.run}", **options})

    async def open(self) -> Channel:
        channel = await super().open()
        if isinstance(channel, RedisChannel):
            async with asyncio.timeout(LIMIT_S):
                await channel.joined()
        return channel

    async def crash(self) -> Channel:
        """What a killed process leaves: the files as they are on disk now, nothing more; on a server what it was told."""
        if isinstance(self.channel, RedisChannel):
            self.channel.kill()
            self.is_open = False
            return await self.open()
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

    async def barrier(self) -> None:
        """Return when all that was said to the channel before has had its effect, handing out included."""
        if isinstance(self.channel, KafkaChannel):
            await self._read_up(self.channel)
        else:
            await super().barrier()

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
