"""The owner of the sources: what a new plan starts and stops, and how a broken source is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from mesh.errors import ResourceError
from mesh.plan.model import SourceSpec, Target
from sources.api import Emission, Emit, EmitLimits, Source
from sources.registry import KINDS, Make, source_for
from sources.runner import SourceRunner
from tests.support.loop_clock import LoopClock
from tests.support.sinks import VirtualSink

pytestmark = pytest.mark.looptime


def spec(name: str, *, kind: str = "Watched", schedule: str = "* * * * *") -> SourceSpec:
    sink = Target("http://sink/")
    return SourceSpec(f"source/ns/{name}", kind, "ns", name, sink, options={"schedule": schedule})


class Watched:
    """A source that tells when it runs and when it stopped."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    async def run(self, emit: Emit) -> None:
        self.log.append(f"+{self.name}")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.log.append(f"-{self.name}")


class Crashing:
    """A source that ends after `lasts_s`, by an exception or by returning."""

    def __init__(self, lasts_s: float, error: Exception | None) -> None:
        self.lasts_s, self.error = lasts_s, error

    async def run(self, emit: Emit) -> None:
        await asyncio.sleep(self.lasts_s)
        if self.error is not None:
            raise self.error


class Bench:
    def __init__(self, kinds: Mapping[str, Make] | None = None) -> None:
        self.log: list[str] = []
        self.crashes: list[tuple[str, Exception | None, float]] = []
        self.reports: list[Emission] = []
        self.sink = VirtualSink()
        self.runner = SourceRunner(
            clock=LoopClock(),
            post=self.sink,
            report=self.reports.append,
            on_crash=lambda *crash: self.crashes.append(crash),
            kinds=kinds or {**KINDS, "Watched": self.watched},
        )

    def watched(self, spec: SourceSpec, clock: object, limits: EmitLimits) -> Source:
        return Watched(self.log, f"{spec.name} {spec.options['schedule'][0]}")


async def test_a_plan_starts_its_sources_and_leaving_stops_them() -> None:
    bench = Bench()
    async with bench.runner as runner:
        await runner.apply([spec("a"), spec("b")])
        await asyncio.sleep(1)
        assert (bench.log, runner.running) == (["+a *", "+b *"], ("source/ns/a", "source/ns/b"))
    assert sorted(bench.log[2:]) == ["-a *", "-b *"]


async def test_a_new_plan_touches_only_what_differs() -> None:
    bench = Bench()
    async with bench.runner as runner:
        await runner.apply([spec("same"), spec("gone"), spec("changed")])
        await asyncio.sleep(1)
        bench.log.clear()
        await runner.apply([spec("same"), spec("changed", schedule="5 * * * *"), spec("new")])
        await asyncio.sleep(1)
        assert sorted(bench.log) == ["+changed 5", "+new *", "-changed *", "-gone *"]
        assert bench.log.index("-changed *") < bench.log.index("+changed 5")


async def test_an_empty_plan_stops_all() -> None:
    bench = Bench()
    async with bench.runner as runner:
        await runner.apply([spec("a")])
        await asyncio.sleep(1)
        await runner.apply([])
        assert (bench.log, runner.running) == (["+a *", "-a *"], ())


async def test_a_crashed_source_is_started_again_with_growing_pauses() -> None:
    error = RuntimeError("lost")
    bench = Bench({"Watched": lambda spec, clock, limits: Crashing(0, error)})
    async with bench.runner as runner:
        await runner.apply([spec("a")])
        await asyncio.sleep(200)
    assert bench.crashes == [("source/ns/a", error, pause) for pause in (1, 2, 4, 8, 16, 32, 60, 60, 60)]


async def test_a_source_that_ran_for_long_is_started_again_soon() -> None:
    bench = Bench({"Watched": lambda spec, clock, limits: Crashing(100, None)})
    async with bench.runner as runner:
        await runner.apply([spec("a")])
        await asyncio.sleep(310)
    assert bench.crashes == [("source/ns/a", None, 1.0)] * 3


async def test_one_bad_source_stops_no_other() -> None:
    bench = Bench()
    async with bench.runner as runner:
        await runner.apply(
            [spec("bad", kind="Unheard"), spec("worse", kind="PingSource", schedule="@every 1m"), spec("a")]
        )
        await asyncio.sleep(0.5)
        assert bench.log == ["+a *"]
    assert sorted(key for key, _, _ in bench.crashes) == ["source/ns/bad", "source/ns/worse"]


async def test_a_source_in_its_pause_stops_at_once() -> None:
    bench = Bench({"Watched": lambda spec, clock, limits: Crashing(0, None)})
    async with bench.runner as runner:
        await runner.apply([spec("a")])
        await asyncio.sleep(30)
        await runner.apply([])
        assert asyncio.get_running_loop().time() == pytest.approx(30)


async def test_a_ping_source_reaches_its_sink_and_is_reported() -> None:
    bench = Bench()
    async with bench.runner as runner:
        await runner.apply([replace(spec("tick", kind="PingSource"), overrides={"colour": "blue"})])
        await asyncio.sleep(31)
    [posted] = bench.sink.seen
    assert posted.headers["ce-type"] == "dev.knative.sources.ping"
    assert posted.headers["ce-colour"] == "blue"
    assert [(report.source, report.delivered) for report in bench.reports] == [("source/ns/tick", True)]


async def test_an_error_inside_leaves_no_source_running() -> None:
    bench = Bench()

    async def fail_inside() -> None:
        async with bench.runner as runner:
            await runner.apply([spec("a")])
            await asyncio.sleep(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_inside()
    assert bench.log == ["+a *", "-a *"]


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ResourceError, match="no source of kind Unheard, expected one of PingSource"):
        source_for(spec("a", kind="Unheard"), LoopClock(), limits=EmitLimits())
