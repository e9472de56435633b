"""PingSource over real sockets: a tick arrives, a sink that was down gets it later, one that refuses is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from aiohttp import ClientSession
from cloudevents.v1.http import from_http

from mesh.plan.model import SourceSpec, Target
from mesh.runtime.clock import SystemClock
from sources.api import Emission, EmitLimits, Post
from sources.runner import SourceRunner
from tests.support.sinks import HttpSink, aiohttp_post, http_sink

LIMIT_S = 10


@pytest.fixture
async def sink() -> AsyncIterator[HttpSink]:
    async with http_sink() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def spec(url: str) -> SourceSpec:
    options = {"schedule": "* * * * * *", "contentType": "application/json", "data": '{"msg": "hé"}'}
    overrides = {"Colour": "grün"}
    return SourceSpec("pingsource/shop/tick", "PingSource", "shop", "tick", Target(url), overrides, options)


class Reports:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Emission] = asyncio.Queue()

    async def next(self) -> Emission:
        async with asyncio.timeout(LIMIT_S):
            return await self.queue.get()


def runner(post: Post, reports: Reports, limits: EmitLimits | None = None) -> SourceRunner:
    return SourceRunner(
        clock=SystemClock(),
        post=post,
        report=reports.queue.put_nowait,
        on_crash=lambda key, error, pause_s: pytest.fail(f"{key} crashed: {error!r}"),
        limits=limits,
    )


async def test_a_tick_arrives_as_a_cloud_event(sink: HttpSink, session: ClientSession) -> None:
    reports = Reports()
    async with runner(aiohttp_post(session), reports) as running, asyncio.timeout(LIMIT_S):
        await running.apply([spec(sink.url)])
        posted = await sink.seen.get()
        report = await reports.next()
    event = from_http(dict(posted.headers), posted.body)
    assert event["type"] == "dev.knative.sources.ping"
    assert event["source"] == "/apis/v1/namespaces/shop/pingsources/tick"
    assert event["id"] == report.event.id
    assert posted.headers["ce-colour"] == "gr%C3%BCn"
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["kn-namespace"] == "shop"
    assert posted.body == '{"msg": "hé"}'.encode()
    assert (report.delivered, report.attempts) == (True, 1)


async def test_a_sink_that_is_unavailable_for_a_moment_loses_no_tick(sink: HttpSink, session: ClientSession) -> None:
    sink.answers = [503, 429, 202]
    reports = Reports()
    async with runner(aiohttp_post(session), reports) as running:
        await running.apply([spec(sink.url)])
        report = await reports.next()
    ids = {(await sink.seen.get()).headers["ce-id"] for _ in range(3)}
    assert (report.delivered, report.attempts) == (True, 3)
    assert ids == {report.event.id}


async def test_a_sink_that_refuses_is_reported(sink: HttpSink, session: ClientSession) -> None:
    sink.answers = [400]
    reports = Reports()
    async with runner(aiohttp_post(session), reports) as running:
        await running.apply([spec(sink.url)])
        report = await reports.next()
    assert (report.delivered, report.attempts, report.why) == (False, 1, f"{sink.url} answered 400, which is final")


async def test_a_sink_where_nothing_listens_is_reported(session: ClientSession) -> None:
    async with http_sink() as gone:
        url = gone.url
    refused = asyncio.Event()

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            return await aiohttp_post(session)(url, headers, body)
        finally:
            refused.set()

    reports = Reports()
    async with runner(post, reports, EmitLimits(drain_s=0)) as running, asyncio.timeout(LIMIT_S):
        await running.apply([spec(url)])
        await refused.wait()
    report = await reports.next()
    assert not report.delivered
    assert "could not be reached" in report.why


async def test_a_redirect_is_an_answer_and_is_not_followed(sink: HttpSink, session: ClientSession) -> None:
    sink.answers = [307]
    reports = Reports()
    async with runner(aiohttp_post(session), reports) as running:
        await running.apply([spec(sink.url)])
        report = await reports.next()
    assert report.why.endswith("answered 307, which is final")
