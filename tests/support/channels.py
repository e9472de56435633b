"""Channels for tests: Knit's own backends as the contract suite wants them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from channels import contract
from channels.api import Channel
from channels.contract.harness import LIMIT_S, TOPIC, Reader, Settling, event, ids, only
from channels.log import LogChannel
from channels.memory import MemoryChannel
from channels.redis_streams import RedisChannel
from mesh.runtime.clock import SystemClock
from mesh.settings import LogSettings, MemorySettings, RedisSettings
from tests.servers.redis import shared_redis

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

    def __init__(self, backend: str, folder: Path) -> None:
        super().__init__(folder)
        self.backend = backend
        self.log_settings = LogSettings(max_bytes=64 * 1024**2)
        self.memory_settings = MemorySettings(max_bytes=1024**2)
        self.redis_settings = RedisSettings()
        if backend == "redis":
            server = shared_redis()
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
        return LogChannel(
            self.folder, settings=self.log_settings, clock=self.clock, share=self.share, adopt=self.adopt,
            on_trouble=lambda what, fields: self.troubles.append((what, fields)),
        )  # fmt: skip

    def make_small(self) -> None:
        self.log_settings = type(self.log_settings)(max_bytes=4 * 1024**2)
        self.options = {"sync": False, "max_length": 40}

    async def open(self) -> Channel:
        channel = await super().open()
        if isinstance(channel, RedisChannel):
            async with asyncio.timeout(LIMIT_S):
                await channel.joined()
        return channel

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
