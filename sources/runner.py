"""Runs the sources of a plan: the owner of their tasks. A new plan starts, stops and restarts only what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from mesh.plan.model import SourceSpec
from mesh.runtime.clock import Clock
from sources.api import EmitLimits, Post, Report
from sources.emitter import Emitter
from sources.registry import KINDS, Make, source_for

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
"""A source that ends by itself is started again after 1, 2, 4 … 60 s, and after 1 s again once it ran as long as this."""

OnCrash = Callable[[str, Exception | None, float], None]
"""Called with the source's key, why it ended (None: it returned) and the seconds until it is started again."""


class SourceRunner:
    """`async with` it; then `apply` each plan's sources. Leaving stops them all, each within `EmitLimits.drain_s`."""

    def __init__(
        self,
        *,
        clock: Clock,
        post: Post,
        report: Report,
        on_crash: OnCrash,
        limits: EmitLimits | None = None,
        kinds: Mapping[str, Make] = KINDS,
    ) -> None:
        self._clock = clock
        self._post = post
        self._report = report
        self._on_crash = on_crash
        self._limits = limits or EmitLimits()
        self._kinds = kinds
        self._group = asyncio.TaskGroup()
        self._running: dict[str, tuple[SourceSpec, asyncio.Task[None]]] = {}
        self._applying = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, task in self._running.values():
            task.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def running(self) -> tuple[str, ...]:
        """The keys of the sources that run now."""
        return tuple(self._running)

    async def apply(self, sources: Iterable[SourceSpec]) -> None:
        """Run exactly these. One that is unchanged is not touched; a changed one is stopped before it is started anew."""
        wanted = {spec.key: spec for spec in sources}
        async with self._applying:
            await self._stop([key for key, (spec, _) in self._running.items() if wanted.get(key) != spec])
            for key, spec in wanted.items():
                if key not in self._running:
                    self._running[key] = (spec, self._group.create_task(self._keep(spec), name=key))

    async def _stop(self, keys: list[str]) -> None:
        tasks = [self._running.pop(key)[1] for key in keys]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep(self, spec: SourceSpec) -> None:
        """Run one source, and again after each end, with growing pauses."""
        emitter = Emitter(spec, post=self._post, report=self._report, clock=self._clock, limits=self._limits)
        pause_s = FIRST_PAUSE_S
        while True:
            started_s = self._clock.monotonic()
            error: Exception | None = None
            try:
                source = source_for(spec, self._clock, limits=self._limits, kinds=self._kinds)
                await source.run(emitter.emit)
            except Exception as crash:  # noqa: BLE001 - where a task meets its owner: one bad source stops no other
                error = crash
            if self._clock.monotonic() - started_s >= MAX_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self._on_crash(spec.key, error, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MAX_PAUSE_S)
