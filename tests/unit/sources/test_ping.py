"""PingSource: what its events look like and when they come. In virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from mesh.errors import ResourceError
from mesh.events.event import Event
from mesh.plan.model import SourceSpec, Target
from sources.api import EmitLimits
from sources.ping import PingSource, sleep_until
from tests.support.loop_clock import LoopClock

pytestmark = pytest.mark.looptime


def ping(clock: LoopClock, **options: str) -> PingSource:
    spec = SourceSpec("pingsource/shop/tick", "PingSource", "shop", "tick", Target("http://sink/"), options=options)
    return PingSource(spec, clock, EmitLimits())


class Ticks:
    """An `emit` that keeps what it is given, with the wall clock's time."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.at: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.at.append(datetime.fromtimestamp(self.clock.now_ns() / 1e9, UTC).strftime("%H:%M:%S"))


@asynccontextmanager
async def running(source: PingSource, emit: Ticks) -> AsyncIterator[None]:
    task = asyncio.ensure_future(source.run(emit))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def one_event(**options: str) -> Event:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, **options), ticks):
        await asyncio.sleep(31)
    [event] = ticks.events
    return event


async def test_an_event_is_as_knatives() -> None:
    event = await one_event(contentType="application/json", data='{"msg": "hello"}')
    attributes = dict(event.attributes)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", attributes.pop("id"))
    assert attributes == {
        "specversion": "1.0",
        "type": "dev.knative.sources.ping",
        "source": "/apis/v1/namespaces/shop/pingsources/tick",
        "time": "2026-03-04T10:18:00Z",
        "datacontenttype": "application/json",
    }
    assert event.body == b'{"msg": "hello"}'


@pytest.mark.parametrize("options", [{}, {"data": ""}, {"data": "", "contentType": "text/plain"}, {"dataBase64": ""}])
async def test_without_data_there_is_neither_a_body_nor_a_content_type(options: dict[str, str]) -> None:
    event = await one_event(**options)
    assert event.body == b""
    assert "datacontenttype" not in event.attributes
    assert b"content-type" not in event.block


async def test_data_without_a_content_type_has_none() -> None:
    event = await one_event(data="tick ä")
    assert event.body == "tick ä".encode()
    assert "datacontenttype" not in event.attributes


@pytest.mark.parametrize("text", ["AAH/ZGF0YQ==", "AAH/\n  ZGF0YQ==\n"])
async def test_binary_data_is_decoded(text: str) -> None:
    event = await one_event(dataBase64=text, contentType="application/octet-stream")
    assert event.body == b"\x00\x01\xffdata"


@pytest.mark.parametrize("text", ["not base64!", "ZGF0YQ", "ZGF0Y==="])
async def test_data_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ResourceError, match="dataBase64: expected base64") as caught:
        ping(LoopClock(), dataBase64=text)
    assert caught.value.path == "dataBase64"


async def test_a_schedule_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ResourceError, match="timezone"):
        ping(LoopClock(), timezone="UTC+8")


async def test_every_tick_has_its_own_id_and_time() -> None:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, schedule="*/20 * * * * *"), ticks):
        await asyncio.sleep(60)
    assert [event.attributes["time"][-9:] for event in ticks.events] == ["10:17:40Z", "10:18:00Z", "10:18:20Z"]
    assert len({event.id for event in ticks.events}) == 3


async def test_ticks_come_at_their_time_for_days_and_without_a_random_delay() -> None:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, schedule="0 15 * * ?", timezone="Asia/Shanghai"), ticks):
        await asyncio.sleep(3 * 86_400)
    assert ticks.at == ["07:00:00"] * 3


async def test_the_default_is_every_minute() -> None:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock), ticks):
        await asyncio.sleep(120)
    assert ticks.at == ["10:18:00", "10:19:00"]


async def test_a_slow_sink_delays_no_tick() -> None:
    clock = LoopClock()
    started: list[float] = []

    async def emit(event: Event) -> None:
        started.append(clock.monotonic())
        await asyncio.sleep(1000)

    task = asyncio.ensure_future(ping(clock).run(emit))
    await asyncio.sleep(200)
    assert started == [30.0, 90.0, 150.0]
    task.cancel()
    await asyncio.wait([task])


async def test_stopping_waits_for_the_tick_under_way() -> None:
    clock = LoopClock()
    taken: list[Event] = []

    async def emit(event: Event) -> None:
        await asyncio.sleep(3)
        taken.append(event)

    task = asyncio.ensure_future(ping(clock).run(emit))
    await asyncio.sleep(31)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(taken) == 1
    assert clock.monotonic() == 33.0


async def test_a_bug_while_emitting_ends_the_source() -> None:
    async def emit(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await ping(LoopClock()).run(emit)


async def test_a_schedule_that_never_fires_waits_to_be_stopped() -> None:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, schedule="0 0 30 2 *"), ticks):
        await asyncio.sleep(86_400)
    assert ticks.events == []


async def test_missed_ticks_are_not_caught_up() -> None:
    """The clock goes on by three hours, as after a suspend: one tick comes late, then it goes on as planned."""
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, schedule="0 * * * *"), ticks):
        await asyncio.sleep(10)
        clock.set(by_s=3 * 3600)
        await asyncio.sleep(3600)
    assert ticks.at == ["13:18:00", "14:00:00"]


async def test_a_clock_set_forward_is_noticed_within_half_a_minute() -> None:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, schedule="0 12 * * *"), ticks):
        await asyncio.sleep(10)
        clock.set(by_s=100 * 60)  # 11:57:40
        await asyncio.sleep(200)
    assert ticks.at == ["12:00:00"]


async def test_a_clock_set_far_back_is_followed() -> None:
    """Without looking again the source would stay silent until the clock shows 11:00 once more."""
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock, schedule="0 * * * *"), ticks):
        await asyncio.sleep(10)
        clock.set(by_s=-2 * 3600)  # 08:17:40
        await asyncio.sleep(3600)
    assert ticks.at == ["09:00:00"]


async def test_a_clock_that_is_corrected_a_little_fires_no_tick_twice() -> None:
    clock = LoopClock()
    ticks = Ticks(clock)
    async with running(ping(clock), ticks):
        await asyncio.sleep(31)  # the tick of 10:18:00 has come
        clock.set(by_s=-5)
        await asyncio.sleep(60)
    assert ticks.at == ["10:18:00"]


async def test_waiting_is_cheap() -> None:
    """A day of waiting looks at the clock every half minute, not more often."""
    clock, looks = LoopClock(), 0
    now_ns = clock.now_ns

    def counted() -> int:
        nonlocal looks
        looks += 1
        return now_ns()

    clock.now_ns = counted  # type: ignore[method-assign]  # a wrapper of the same clock
    assert await sleep_until(clock, now_ns() + 86_400 * 10**9)
    assert 2880 <= looks <= 2890
