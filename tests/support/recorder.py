"""A real HTTP server on loopback that records what it gets and answers as it is told: the subscriber of the tests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Seen:
    """One request. Header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers.get("ce-id", "")


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 202
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0


Behaviour = Callable[[Seen, int], Reply]
"""(request, how many came to this path before) → answer."""


def event_reply(
    event_type: str, *, status: int = 200, body: bytes = b"", event_id: str = "reply", **extra: str
) -> Reply:
    headers = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "/reply", "ce-type": event_type, **extra}
    return Reply(status, headers, body)


class Recorder:
    """`with Recorder() as sink:` runs it in a thread of its own; everything it saw is in `seen`."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.port = 0
        self._arrived = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Recorder:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.path, headers, body, time.monotonic())
        with self._arrived:
            number = self._counts[seen.path]
            self._counts[seen.path] += 1
            self.seen.append(seen)
            self._arrived.notify_all()
        reply = self.behaviours.get(seen.path, lambda _s, _n: Reply())(seen, number)
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Seen]:
        with self._arrived:
            return [seen for seen in self.seen if seen.path == path]

    def by_path(self) -> dict[str, list[Seen]]:
        paths: dict[str, list[Seen]] = defaultdict(list)
        for seen in list(self.seen):
            paths[seen.path].append(seen)
        return paths

    def wait(self, path: str, count: int = 1, *, limit_s: float = 10.0) -> list[Seen]:
        """Until `count` requests came to `path`. Raises AssertionError, with what did come, after `limit_s`."""
        with self._arrived:
            done = self._arrived.wait_for(lambda: self._counts[path] >= count, limit_s)
            assert done, f"{count} wanted at {path}; came: {dict(self._counts)}"
            return [seen for seen in self.seen if seen.path == path]

    def wait_until(self, holds: Callable[[Sequence[Seen]], bool], *, limit_s: float = 10.0) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: holds(self.seen), limit_s), f"came: {dict(self._counts)}"
