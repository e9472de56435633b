"""Sinks for sources: one as a plain callable in virtual time, one as a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, web

from sources.api import Post


@dataclass(frozen=True, slots=True)
class Posted:
    """A request as the sink saw it; header names in lower case. at_s: the loop's time."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float = 0.0


Reply = int | Exception | asyncio.Event


@dataclass
class VirtualSink:
    """A `Post` that answers by `answers`, one a request, the last for all further ones.

    A number is the status, an exception is raised, an `asyncio.Event` is waited for and then answered 202.
    """

    answers: list[Reply] = field(default_factory=lambda: [202])
    seen: list[Posted] = field(default_factory=list)

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        lower = {name.lower(): value for name, value in headers.items()}
        self.seen.append(Posted(url, lower, body, asyncio.get_running_loop().time()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return 202
        return answer


@dataclass
class HttpSink:
    """A server that answers by `answers`, one a request, the last for all further ones; `seen` fills up."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [202])
    seen: asyncio.Queue[Posted] = field(default_factory=asyncio.Queue)

    async def handle(self, request: web.Request) -> web.Response:
        lower = {name.lower(): value for name, value in request.headers.items()}
        self.seen.put_nowait(Posted(str(request.url), lower, await request.read()))
        return web.Response(status=self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


@asynccontextmanager
async def http_sink() -> AsyncIterator[HttpSink]:
    """A running HttpSink on a free port of the loopback interface."""
    sink = HttpSink()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", sink.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        sink.url = f"http://127.0.0.1:{port}/sink"
        yield sink
    finally:
        await runner.cleanup()


def aiohttp_post(session: ClientSession) -> Post:
    """A `Post` through an aiohttp session, with its errors as the contract wants them."""

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            async with session.post(url, headers=headers, data=body, allow_redirects=False) as response:
                return response.status
        except ClientError as error:
            raise ConnectionError(str(error)) from error

    return post
