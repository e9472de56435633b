"""The admin API: what runs, what became of an event, metrics, probes. Read-only, but for the built-in event display.

It has no log-in, so the process that serves it binds to loopback unless it is told otherwise.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol

from aiohttp import web

from mesh.errors import EventError, NotConnectedError
from mesh.events.event import Event
from mesh.events.http import read
from mesh.events.jsonformat import dumps
from mesh.telemetry.metrics import ROLES, content_type

_MAX_BODY_BYTES = 16 * 1024**2
_JSON = "application/json"
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """detail: anything that JSON can say, such as workers, the last good plan, bad files."""

    is_ready: bool
    detail: Mapping[str, Any] = field(default_factory=dict)


class ConsoleBackend(Protocol):
    """What the admin API asks. Every value is plain: dicts, lists, texts, numbers.

    Any method may raise NotConnectedError: what it asks is gone for the moment (503).
    """

    async def readiness(self) -> Readiness:
        """Whether events are taken, and in detail why not."""

    async def metrics(self, *, accept: str, role: str) -> str:
        """The text of `telemetry.metrics.render` for this Accept header and role."""

    async def resources(self) -> Sequence[Mapping[str, Any]]:
        """All objects, whole, with their status."""

    async def story(self, event_id: str, *, source: str) -> Mapping[str, Any]:
        """`id`, `events` and `steps`; no steps where nothing is remembered of that event. source "" is any."""

    async def dead_letters(self) -> Sequence[Mapping[str, Any]]:
        """`ref`, `subscription`, `id`, `source`, `type`, `why`, `code`, `attempts`, `destination`, `arrived`, `buried`."""

    async def summary(self) -> Mapping[str, Any]:
        """What was loaded, what was ignored and why, and the URLs (`ingress`, `admin`)."""

    async def problems(self) -> Sequence[Mapping[str, Any]]:
        """What is wrong with the files now."""

    async def display(self, namespace: str, name: str, event: Event) -> None:
        """Show an event that was sent to the built-in event display of this name."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(backend: ConsoleBackend) -> web.Application:
    """The application; serving it is the caller's job."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors])
    api = _Api(backend)
    app.add_routes(
        [
            web.get("/", api.index),
            web.get("/healthz", api.healthz),
            web.get("/readyz", api.readyz),
            web.get("/metrics", api.metrics),
            web.get("/api/v1/resources", api.resources),
            web.get("/api/v1/stories/{id:.+}", api.story),
            web.get("/api/v1/deadletters", api.dead_letters),
            web.get("/api/v1/summary", api.summary),
            web.get("/api/v1/problems", api.problems),
            web.post("/event-display/{namespace}/{name}", api.display),
        ]
    )
    return app


class ConsoleServer:
    """The application, listening."""

    def __init__(self, backend: ConsoleBackend) -> None:
        self._app = make_app(backend)
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=_CLOSE_S)

    async def listen(self, host: str, port: int) -> int:
        """Answer on this address; port 0 takes a free one. Returns the port.

        Raises:
            OSError: the address is taken or not ours.
        """
        if _is_loopback(host):
            self._app.middlewares.append(_only_loopback_names)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[-1][1]
        return bound

    async def aclose(self) -> None:
        """Close all connections; requests in hand have a moment left."""
        await self._runner.cleanup()


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=dumps(value) + b"\n", content_type=_JSON, status=status)


def _error(status: int, message: str, hint: str = "") -> web.Response:
    return _json({"error": message, "hint": hint}, status=status)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as JSON that says what would work."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _error(404, f"there is nothing at {request.path}", "GET / lists what there is")
    except web.HTTPMethodNotAllowed as exc:
        response = _error(
            405, f"{request.method} is not answered here", f"use {', '.join(sorted(exc.allowed_methods))}"
        )
        response.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
        return response
    except web.HTTPRequestEntityTooLarge:
        return _error(413, f"the body is larger than {_MAX_BODY_BYTES} bytes")
    except NotConnectedError as exc:
        return _error(503, str(exc), "try again in a moment; GET /readyz says what is missing")


@web.middleware
async def _only_loopback_names(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse other names in Host: a web page could give its own name this address, and read here (DNS rebinding)."""
    if not _is_loopback(request.url.host or "localhost"):
        return _error(403, f"{request.host} is no name for this machine", "ask at 127.0.0.1 or localhost")
    return await handler(request)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Api:
    def __init__(self, backend: ConsoleBackend) -> None:
        self._backend = backend

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """Short for probes; with `?verbose`, or where JSON is asked for or it is not ready, the detail."""
        readiness = await self._backend.readiness()
        status = 200 if readiness.is_ready else 503
        wants_detail = "verbose" in request.query or _JSON in request.headers.get("Accept", "")
        if readiness.is_ready and not wants_detail:
            return _json({"ready": True})
        return _json({"ready": readiness.is_ready, **readiness.detail}, status=status)

    async def metrics(self, request: web.Request) -> web.Response:
        role = request.query.get("role", "")
        if role and role not in ROLES:
            return _error(400, f'there is no role "{role}"', f"one of {', '.join(ROLES)}, or none for everything")
        accept = request.headers.get("Accept", "")
        text = await self._backend.metrics(accept=accept, role=role)
        return web.Response(body=text.encode(), headers={"Content-Type": content_type(accept)})

    async def resources(self, request: web.Request) -> web.Response:
        wanted = {name: request.query[name] for name in ("kind", "namespace", "name") if request.query.get(name)}
        unknown = sorted(set(request.query) - {"kind", "namespace", "name"})
        if unknown:
            return _error(400, f"unknown parameter {unknown[0]}", "kind, namespace and name are read")
        items = [item for item in await self._backend.resources() if _matches(item, wanted)]
        return _json({"items": items})

    async def story(self, request: web.Request) -> web.Response:
        event_id = request.match_info["id"]
        told = await self._backend.story(event_id, source=request.query.get("source", ""))
        if not told.get("steps"):
            hint = "the last happenings of each worker are remembered; is the id spelt as it was sent?"
            return _error(404, f'nothing is remembered of an event with the id "{event_id}"', hint)
        return _json(told)

    async def dead_letters(self, _request: web.Request) -> web.Response:
        return _json({"items": list(await self._backend.dead_letters())})

    async def summary(self, _request: web.Request) -> web.Response:
        return _json(await self._backend.summary())

    async def problems(self, _request: web.Request) -> web.Response:
        return _json({"items": list(await self._backend.problems())})

    async def display(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = [(name.lower(), value) for name, value in request.raw_headers]
        try:
            events = read(headers, body)
        except EventError as exc:
            return _error(400, str(exc), "send a CloudEvent in binary, structured or batch mode")
        for event in events:
            await self._backend.display(request.match_info["namespace"], request.match_info["name"], event)
        return web.Response(status=202)

    async def index(self, _request: web.Request) -> web.Response:
        summary = await self._backend.summary()
        return web.Response(text=_index_page(summary), content_type="text/html")


def _matches(item: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    metadata = item.get("metadata", {})
    has = {"kind": item.get("kind", ""), "namespace": metadata.get("namespace", ""), "name": metadata.get("name", "")}
    return all(str(has[field]).lower() == value.lower() for field, value in wanted.items())


_LINKS = (
    ("/readyz?verbose", "ready?", "workers, the plan that runs, files that are not valid"),
    ("/api/v1/summary", "summary", "what was loaded, what was ignored and why, addresses"),
    ("/api/v1/problems", "problems", "what is wrong with the files, with line and hint"),
    ("/api/v1/resources", "resources", "every object with its status; ?kind=&amp;namespace=&amp;name="),
    ("/api/v1/deadletters", "dead letters", "events that could go nowhere"),
    ("/metrics", "metrics", "for Prometheus; ?role=ingress, filter or dispatcher for one part"),
    ("/healthz", "alive?", "for liveness probes"),
)


def _index_page(summary: Mapping[str, Any]) -> str:
    rows = "".join(f'<li><a href="{url}">{name}</a>: {what}</li>\n' for url, name, what in _LINKS)
    ingress = html.escape(str(summary.get("ingress", "")))
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Knit</title>\n'
        "<style>body{font:16px/1.5 system-ui;max-width:44em;margin:2em auto;padding:0 1em}</style>\n"
        f"<h1>Knit</h1>\n<p>Events go to <code>{ingress}/NAMESPACE/BROKER</code>.</p>\n<ul>\n{rows}</ul>\n"
        "<p>Where did an event go? <code>knit story EVENT_ID</code>, or <code>/api/v1/stories/EVENT_ID</code>.</p>\n</html>\n"
    )
