"""What every source promises (`sources/api.py`). To hold a new source to it, add a case to SOURCES."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mesh.events.event import Event, encode_block
from mesh.plan.model import SourceSpec, Target
from sources.api import EmitLimits, NotTakenError, Source
from sources.registry import KINDS, source_for
from tests.support.loop_clock import LoopClock

LIMITS = EmitLimits(drain_s=5.0)


def ping() -> Source:
    """One event a minute."""
    spec = SourceSpec("source/ns/ping", "PingSource", "ns", "ping", Target("http://sink/"), options={"data": "x"})
    return source_for(spec, LoopClock(), limits=LIMITS)


Make = Callable[[], Source]
SOURCES = {"PingSource": ping}
"""By kind: a source that makes an event about every minute."""


@pytest.fixture(params=[pytest.param(make, id=kind, marks=pytest.mark.looptime) for kind, make in SOURCES.items()])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


def test_every_kind_is_held_to_the_contract() -> None:
    assert set(SOURCES) == set(KINDS)


async def test_events_are_valid_and_each_has_its_own_id(make: Make) -> None:
    events: list[Event] = []

    async def emit(event: Event) -> None:
        events.append(event)

    task = asyncio.ensure_future(make().run(emit))
    await asyncio.sleep(600)
    task.cancel()
    await asyncio.wait([task])
    assert len(events) >= 2
    assert len({event.id for event in events}) == len(events)
    for event in events:
        assert event.attributes["specversion"] == "1.0"
        assert event.type
        assert event.source
        assert event.block == encode_block(event.attributes)


async def test_a_refused_event_does_not_end_the_source(make: Make) -> None:
    tried = 0

    async def emit(event: Event) -> None:
        nonlocal tried
        tried += 1
        raise NotTakenError("answered 400, which is final")

    task = asyncio.ensure_future(make().run(emit))
    await asyncio.sleep(600)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert tried >= 2


async def test_cancelling_ends_it_and_makes_no_more_events(make: Make) -> None:
    events: list[Event] = []

    async def emit(event: Event) -> None:
        events.append(event)

    task = asyncio.ensure_future(make().run(emit))
    await asyncio.sleep(100)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = len(events)
    await asyncio.sleep(600)
    assert len(events) == before


async def test_cancelling_ends_within_the_limit_where_the_sink_never_answers(make: Make) -> None:
    ended: list[Event] = []

    async def emit(event: Event) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(event)

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(make().run(emit))
    await asyncio.sleep(100)
    stopped_at = loop.time()
    task.cancel()
    await asyncio.wait([task])
    assert loop.time() - stopped_at <= LIMITS.drain_s
    assert ended


async def test_cancelling_before_it_began_is_harmless(make: Make) -> None:
    async def emit(event: Event) -> None:
        raise AssertionError

    task = asyncio.ensure_future(make().run(emit))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
