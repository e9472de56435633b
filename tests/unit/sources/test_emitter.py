"""An event on its way to a sink: its form, its retries, its limits, and what is reported. In virtual time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest

from mesh.errors import NotConnectedError
from mesh.events.event import Event, encode_block
from mesh.plan.model import SourceSpec, Target
from sources.api import Emission, EmitLimits, NotTakenError
from sources.emitter import Emitter, Outbox, pause_s
from tests.support.loop_clock import LoopClock
from tests.support.sinks import VirtualSink

pytestmark = pytest.mark.looptime

URL = "http://broker/default/default"
SPEC = SourceSpec("pingsource/shop/tick", "PingSource", "shop", "tick", Target(URL))
EVENT = Event(
    encode_block({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "text/plain"}),
    b"tick",
)


class Bench:
    """An emitter, its sink and its reports."""

    def __init__(
        self, *answers: int | Exception | asyncio.Event, spec: SourceSpec = SPEC, limits: EmitLimits | None = None
    ) -> None:
        self.sink = VirtualSink(list(answers) or [202])
        self.reports: list[Emission] = []
        self.emitter = Emitter(
            spec, post=self.sink, report=self.reports.append, clock=LoopClock(), limits=limits or EmitLimits()
        )

    async def emit(self) -> Emission:
        """Emit one event to its end, whatever that is; return the one report."""
        with suppress(NotTakenError):
            await self.emitter.emit(EVENT)
        assert len(self.reports) == 1
        return self.reports[0]

    @property
    def gaps(self) -> list[float]:
        times = [posted.at_s for posted in self.sink.seen]
        return [round(later - earlier, 3) for earlier, later in pairwise(times)]


async def test_an_event_is_posted_in_binary_mode_with_its_namespace() -> None:
    bench = Bench()
    report = await bench.emit()
    [posted] = bench.sink.seen
    assert (posted.url, posted.body) == (URL, b"tick")
    assert posted.headers == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": "t",
        "content-type": "text/plain",
        "kn-namespace": "shop",
    }
    assert (report.source, report.delivered, report.attempts, report.why) == (SPEC.key, True, 1, "")


async def test_overrides_replace_and_are_lower_cased_and_encoded() -> None:
    spec = SourceSpec(
        SPEC.key, "PingSource", "shop", "tick", Target(URL), overrides={"Colour": "grün", "type": "other"}
    )
    bench = Bench(spec=spec)
    report = await bench.emit()
    [posted] = bench.sink.seen
    assert posted.headers["ce-colour"] == "gr%C3%BCn"
    assert posted.headers["ce-type"] == "other"
    assert report.event.attributes["colour"] == "grün"


async def test_headers_that_travel_with_an_event_are_posted() -> None:
    bench = Bench()
    await bench.emitter.emit(Event(EVENT.block, b"", passed=b"traceparent: 00-a-b-01\r\n"))
    assert bench.sink.seen[0].headers["traceparent"] == "00-a-b-01"


@pytest.mark.parametrize("status", [200, 202, 204, 299])
async def test_any_2xx_is_taken(status: int) -> None:
    assert (await Bench(status).emit()).delivered


@pytest.mark.parametrize(
    "trouble",
    [404, 413, 425, 429, 502, 503, 504, ConnectionRefusedError("refused"), TimeoutError(), NotConnectedError("gone")],
)
async def test_what_may_mend_is_retried(trouble: int | Exception) -> None:
    bench = Bench(trouble, trouble, 202)
    report = await bench.emit()
    assert (report.delivered, report.attempts) == (True, 3)
    assert bench.gaps == [0.1, 0.2]


@pytest.mark.parametrize("status", [100, 301, 307, 400, 401, 403, 405, 410, 415, 422, 500, 501])
async def test_what_cannot_mend_is_reported_at_once(status: int) -> None:
    bench = Bench(status)
    with pytest.raises(NotTakenError) as caught:
        await bench.emitter.emit(EVENT)
    [report] = bench.reports
    assert (report.delivered, report.attempts) == (False, 1)
    assert report.why == str(caught.value)
    assert report.why == f"{URL} answered {status}, which is final"


async def test_retries_begin_as_upstream_and_go_on_with_growing_pauses_to_the_limit() -> None:
    bench = Bench(503)
    report = await bench.emit()
    assert bench.gaps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10]
    assert (report.delivered, report.attempts) == (False, 12)
    assert report.why == f"{URL} answered 503; given up after 12 attempts in 53 s"


async def test_the_first_retries_are_made_however_slow_the_sink() -> None:
    bench = Bench(asyncio.Event(), limits=EmitLimits(request_s=60, retry_s=60))
    report = await bench.emit()
    assert report.attempts == 6
    assert report.why.startswith(f"{URL} gave no answer within 60 s; given up after 6 attempts")


async def test_an_unreachable_sink_is_told_with_its_reason() -> None:
    limits = EmitLimits(retry_s=0)
    assert "could not be reached: no route" in (await Bench(OSError("no route"), limits=limits).emit()).why
    assert (
        "could not be reached: ConnectionResetError" in (await Bench(ConnectionResetError(), limits=limits).emit()).why
    )


async def test_a_bug_in_the_poster_is_no_answer_and_flies() -> None:
    with pytest.raises(ZeroDivisionError):
        await Bench(ZeroDivisionError()).emitter.emit(EVENT)


def test_pauses_are_bounded_for_any_attempt() -> None:
    assert [pause_s(attempt) for attempt in (1, 2, 5, 8, 2**31)] == [0.1, 0.2, 1.6, 10.0, 10.0]


async def test_a_cancelled_emission_is_reported() -> None:
    bench = Bench(503)
    task = asyncio.ensure_future(bench.emitter.emit(EVENT))
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [report] = bench.reports
    assert (report.delivered, report.attempts) == (False, 6)
    assert report.why == f"the source was stopped; {URL} answered 503"


async def test_a_full_outbox_gives_up_the_oldest_and_says_so() -> None:
    never = asyncio.Event()
    bench = Bench(never)
    async with asyncio.TaskGroup() as group:
        outbox = Outbox(group, bench.emitter.emit, limit=3)
        for number in range(5):
            outbox.put(EVENT.with_attributes({"id": str(number)}))
            await asyncio.sleep(1)
        assert [(report.event.id, report.delivered) for report in bench.reports] == [("0", False), ("1", False)]
        assert bench.reports[0].why.startswith("given up, because 3 later events wait for this sink too")
        never.set()
    assert [(report.event.id, report.delivered) for report in bench.reports[2:]] == [
        ("2", True),
        ("3", True),
        ("4", True),
    ]


async def test_an_outbox_goes_on_after_an_event_that_was_refused() -> None:
    bench = Bench(400, 202)
    async with asyncio.TaskGroup() as group:
        outbox = Outbox(group, bench.emitter.emit, limit=3)
        outbox.put(EVENT)
        await asyncio.sleep(1)
        outbox.put(EVENT)
    assert [report.delivered for report in bench.reports] == [False, True]


async def test_draining_waits_for_what_is_under_way() -> None:
    bench = Bench(503, 503, 202)
    async with asyncio.TaskGroup() as group:
        outbox = Outbox(group, bench.emitter.emit, limit=3)
        outbox.put(EVENT)
        await outbox.drain(5.0)
        assert [report.delivered for report in bench.reports] == [True]


async def test_draining_gives_up_at_its_limit_and_says_so() -> None:
    bench = Bench(asyncio.Event())
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        outbox = Outbox(group, bench.emitter.emit, limit=3)
        outbox.put(EVENT)
        await outbox.drain(5.0)
    assert loop.time() == pytest.approx(5.0)
    [report] = bench.reports
    assert report.why == "the source was stopped before the sink took it; no answer yet"
