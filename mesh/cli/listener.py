"""The server of `knit listen`, on the mesh's own listener."""

from __future__ import annotations

import asyncio
import signal
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import click

from mesh.console.display import event_text, visible
from mesh.errors import EventError, SettingsError
from mesh.events.event import CONTENT_TYPE, Event, encode_block
from mesh.events.http import read
from mesh.http.server import HttpServer, Request
from mesh.runtime.clock import SystemClock
from mesh.settings import HttpSettings
from mesh.telemetry.story import timestamp

Answer = Callable[[Request], None]

_REMEMBERED = 100_000
"""Events whose attempts are counted; the oldest are forgotten beyond it."""
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """count 0: no end. reply_type "": no reply."""

    fail_first: int = 0
    status: int = 503
    delay_s: float = 0.0
    reply_type: str = ""
    count: int = 0
    is_quiet: bool = False


def serve(host: str, port: int, behaviour: Behaviour) -> int:
    """Listen until Ctrl-C, SIGTERM or the wanted number of events. Returns the exit code.

    Raises:
        SettingsError: the port is taken.
    """
    return asyncio.run(_serve(host, port, behaviour))


async def _serve(host: str, port: int, behaviour: Behaviour) -> int:
    listener = Listener(behaviour)
    server = HttpServer(listener, HttpSettings(max_event_bytes=64 * 1024**2), SystemClock())
    try:
        bound = await server.listen(host, port)
    except OSError as exc:
        await server.aclose()
        raise SettingsError(
            f"cannot listen on {host}:{port}: {exc.strerror or exc}; --port 0 takes a free one"
        ) from exc
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, listener.done.set)
    click.echo(f"listening on http://{host}:{bound}  (Ctrl-C ends)", err=True)
    try:
        await listener.done.wait()
        server.stop_accepting()
        async with asyncio.timeout(_CLOSE_S + behaviour.delay_s):
            await server.drained()
    except TimeoutError:
        pass  # whoever still waits gets no answer
    finally:
        await server.aclose()
        click.echo(listener.summary(), err=True)
    return 0


class Listener:
    """The handler. `done` is set once `Behaviour.count` events were taken."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.done = asyncio.Event()
        self._behaviour = behaviour
        self._attempts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._taken = self._refused = self._invalid = 0
        self._clock = SystemClock()

    def summary(self) -> str:
        """What came, in one line."""
        invalid = f", {self._invalid} requests that were no event" if self._invalid else ""
        return f"{self._taken} events taken, {self._refused} attempts refused{invalid}"

    def __call__(self, request: Request) -> None:
        if request.method != b"POST":
            request.respond(200 if request.method in (b"GET", b"HEAD", b"OPTIONS") else 405)
            return
        try:
            events = read(request.headers, request.body)
        except EventError as exc:
            self._invalid += 1
            click.secho(f"no event from {request.peer}: {visible(str(exc))}", fg="red", err=True)
            request.respond(400, f"{exc}\n".encode())
            return
        attempt = max((self._count_attempt(event) for event in events), default=1)
        if attempt <= self._behaviour.fail_first:
            self._refused += 1
            self._tell(events, f"attempt {attempt}, refused with {self._behaviour.status}")
            self._answer_later(request, self._refuse)
            return
        self._taken += len(events)
        self._tell(events, f"attempt {attempt}" if attempt > 1 else "")
        self._answer_later(request, lambda answered: self._accept(answered, events))

    def _count_attempt(self, event: Event) -> int:
        if not self._behaviour.fail_first:
            return 1
        key = event.source, event.id
        attempt = self._attempts[key] = self._attempts.pop(key, 0) + 1
        if len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)
        return attempt

    def _answer_later(self, request: Request, answer: Answer) -> None:
        if self._behaviour.delay_s:
            asyncio.get_running_loop().call_later(self._behaviour.delay_s, answer, request)
        else:
            answer(request)

    def _refuse(self, request: Request) -> None:
        request.respond(self._behaviour.status, b"refused by knit listen\n")

    def _accept(self, request: Request, events: list[Event]) -> None:
        if self._behaviour.reply_type and events:
            reply = self._reply(events[-1])
            lines = [line for line in reply.block.split(b"\r\n") if line and not line.startswith(CONTENT_TYPE)]
            content_type = reply.attributes.get("datacontenttype", "application/json").encode()
            request.respond(
                200, reply.body, headers=b"".join(line + b"\r\n" for line in lines), content_type=content_type
            )
        else:
            request.respond(200)
        if self._behaviour.count and self._taken >= self._behaviour.count:
            self.done.set()

    def _reply(self, event: Event) -> Event:
        attributes = {
            "specversion": "1.0",
            "type": self._behaviour.reply_type,
            "source": "/knit/listen",
            "id": str(uuid4()),
        }
        attributes["time"] = timestamp(self._clock.now_ns())
        for name in ("subject", "datacontenttype"):
            if name in event.attributes:
                attributes[name] = event.attributes[name]
        return Event(encode_block(attributes), event.body, attributes=attributes)

    def _tell(self, events: list[Event], remark: str) -> None:
        if self._behaviour.is_quiet:
            return
        for event in events:
            click.echo(event_text(event) + (f"\n{click.style(remark, fg='yellow')}" if remark else "") + "\n")
