"""POST /NAMESPACE/BROKER, and channels by path or Host: check, hand to the channel, answer 202 when it is safe.

Order of checks as Knative's multi-tenant ingress has it: method, path, body, validity, broker, ttl, store. Better than there:
the query string is ignored, batches are taken, a full store answers 429, a backend that is gone 503, and every refusal says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from channels.api import Refusal
from mesh.broker.router import FORWARDED, Route, Router
from mesh.delivery.outcome import Answer, Outcome
from mesh.errors import EventError
from mesh.events.event import Event
from mesh.events.extensions import PASSED_HEADERS, PASSED_PREFIXES
from mesh.events.http import read
from mesh.http.client import Endpoint
from mesh.http.server import Request
from mesh.plan.model import Ingress as IngressSpec
from mesh.telemetry.signals import Signals
from mesh.telemetry.story import timestamp
from mesh.telemetry.tracing import Tracing

_ALLOW = b"Allow: POST, OPTIONS\r\n"
_WEBHOOK = _ALLOW + b"WebHook-Allowed-Origin: *\r\nWebHook-Allowed-Rate: *\r\n"
_STATUS = {"full": 429, "unavailable": 503, "failed": 500, "unknown": 404, "invalid": 400, "too-large": 413}
_FORWARDED = FORWARDED.split(b":")[0]


@dataclass(frozen=True, slots=True)
class Door:
    """An address of the plan: a route, or why there is none yet."""

    route: Route | None
    not_ready: str = ""


class Ingress:
    """The handler of the ingress listener."""

    def __init__(
        self, router: Router, signals: Signals, now_ns: Callable[[], int], *, tracing: Tracing | None = None
    ) -> None:
        self._router = router
        self._signals = signals
        self.accepted = signals.accepted
        self._now_ns = now_ns
        self._tracing = tracing
        self._paths: dict[bytes, Door] = {}
        self._hosts: dict[str, Door] = {}
        self._second = -1
        self._prefix = ""

    def replace(self, doors: Iterable[IngressSpec]) -> None:
        """Take the addresses of a new plan; requests already in hand end as they began."""
        paths: dict[bytes, Door] = {}
        hosts: dict[str, Door] = {}
        for spec in doors:
            door = Door(self._router.route(spec.topic) if spec.topic else None, spec.not_ready)
            paths.update((path.encode(), door) for path in spec.paths)
            hosts.update((host, door) for host in spec.hosts)
        self._paths, self._hosts = paths, hosts

    def __call__(self, request: Request) -> None:
        door = self._paths.get(request.target)
        if request.method != b"POST":
            self._other_method(request)
            return
        if door is None:
            other = self._find(request)
            if other is None:
                return
            door = other
        route = door.route
        if route is None:
            self._no_route(request, door)
            return
        if route.forward is not None and not any(name == _FORWARDED for name, _ in request.headers):
            self._forward(request, route, route.forward)
            return
        now = self._now_ns()
        found = request.recognised
        if found is not None:
            _, attributes, block, passed, _, _ = found
            event = Event(block, request.body, passed=passed, attributes=attributes)
            if route.topic.is_broker:
                event.arrive(self._stamp(now))
            if self._tracing is None:
                topic = route.topic.key
                acceptance = _Acceptance(self, request, topic, event, now)
                acceptance.published(route.channel.publish(topic, (event,), acceptance))
                return
            events = [event]
        else:
            try:
                events = read(request.headers, request.body, arrival=self._stamp(now) if route.topic.is_broker else "")
            except EventError as exc:
                self._refuse(request, 400, str(exc), reason="invalid", where=route.topic.key)
                return
        self._publish(request, route, events, now)

    def _publish(self, request: Request, route: Route, events: list[Event], now: int) -> None:
        topic = route.topic.key
        if any(event.ttl == 0 for event in events):
            why = "knativebrokerttl is used up: the event has gone round too often"
            self._refuse(request, 400, why, reason="ttl", where=topic)
        elif len(events) == 1 and self._tracing is None:
            acceptance = _Acceptance(self, request, topic, events[0], now)
            acceptance.published(route.channel.publish(topic, events, acceptance))
        elif not events:
            request.accepted()
        else:
            self._publish_all(request, route, events, now)

    def _publish_all(self, request: Request, route: Route, events: list[Event], now: int) -> None:
        """A batch, or an event that is traced: answered once all are safe; none is stored where one cannot be."""
        topic, tracing = route.topic.key, self._tracing
        spans: list[Any] = []
        if tracing is not None:
            traced = [tracing.received(route.topic, event, at_ns=now) for event in events]
            events, spans = [event for event, _ in traced], [span for _, span in traced]

        def done(refusal: Refusal | None) -> None:
            status = 202 if refusal is None else _STATUS.get(refusal.kind, 500)
            for span in spans:
                if tracing is not None:
                    tracing.end(span, status=status)
            if refusal is not None:
                self.not_stored(request, topic, events, refusal)
                return
            request.accepted()
            for event in events:
                self.accepted(topic, event, route.channel.matching(topic, event), at_ns=now)

        route.channel.publish(topic, events, done)

    def _stamp(self, now_ns: int) -> str:
        """RFC 3339 with nanoseconds; the part up to the second is made once a second."""
        second, nanos = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = timestamp(second * 1_000_000_000)[:20]
        return f"{self._prefix}{nanos:09d}Z"

    def not_stored(self, request: Request, topic: str, events: list[Event], refusal: Refusal) -> None:
        status = _STATUS.get(refusal.kind, 500)
        for event in events:
            self._signals.refused(
                why=refusal.why, status=status, reason=refusal.kind, where=topic, block=event.block, topic=True
            )
        headers = b"Retry-After: %d\r\n" % refusal.retry_after_s if status in (429, 503) else b""
        request.respond(status, refusal.why.encode() + b"\n", headers=_ALLOW + headers)

    # What is not the fast path.

    def _other_method(self, request: Request) -> None:
        if request.method == b"OPTIONS":
            request.respond(200, headers=_WEBHOOK)
        elif _is_probe(request):
            request.respond(200)
        else:
            self._signals.refused(why="method", status=405, reason="method")
            request.respond(405, b"only POST and OPTIONS are answered here\n", headers=_ALLOW)

    def _find(self, request: Request) -> Door | None:
        """The door for a path in another spelling, or for a Host; answers the request itself where there is none."""
        path = _path(request.target)
        door = self._paths.get(path.rstrip(b"/"))
        if door is not None:
            return door
        parts = path.strip(b"/").split(b"/") if path.strip(b"/") else []
        if not parts:
            host = next((value for name, value in request.headers if name == b"host"), b"")
            name = host.decode("latin-1").lower().partition(":")[0]
            door = self._hosts.get(name)
            if door is not None:
                return door
            self._refuse(
                request,
                404,
                f"nothing is served at / for the host {name}; a broker is at /NAMESPACE/NAME",
                reason="path",
            )
            return None
        if len(parts) != 2:
            self._refuse(request, 400, "the path must be /NAMESPACE/NAME", reason="path")
            return None
        try:
            read(request.headers, request.body)
        except EventError as exc:
            self._refuse(request, 400, str(exc), reason="invalid")
            return None
        where = b"/".join(parts).decode("utf-8", "replace")
        self._refuse(request, 404, f"there is no broker or channel at /{where}", reason="unknown")
        return None

    def _no_route(self, request: Request, door: Door) -> None:
        try:
            read(request.headers, request.body)
        except EventError as exc:
            self._refuse(request, 400, str(exc), reason="invalid")
            return
        self._refuse(request, 503, door.not_ready or "not ready", reason="not-ready")

    def _refuse(self, request: Request, status: int, why: str, *, reason: str, where: str = "") -> None:
        block = b"".join(n + b": " + v + b"\r\n" for n, v in request.headers if n[:3] == b"ce-")
        self._signals.refused(why=why, status=status, reason=reason, where=where, block=block, topic=bool(where))
        request.respond(status, why.encode() + b"\n", headers=_ALLOW)

    def _forward(self, request: Request, route: Route, forward: Endpoint) -> None:
        """The topic is served by one worker, for the sake of order or of a small limit: hand the request on as it came."""
        lines = b"".join(n + b": " + v + b"\r\n" for n, v in request.headers if _travels(n))

        def answer(outcome: Outcome) -> None:
            if isinstance(outcome, Answer):
                passed = b"".join(b"Retry-After: " + v + b"\r\n" for n, v in outcome.headers if n == b"retry-after")
                if outcome.status == 202 and not outcome.body:
                    request.accepted()
                else:
                    request.respond(outcome.status, outcome.body, headers=_ALLOW + passed)
            else:
                why = f"the worker that serves {route.topic.key} does not answer: {outcome.why}"
                self._signals.refused(why=why, status=503, reason="unavailable", where=route.topic.key)
                request.respond(503, why.encode() + b"\n", headers=_ALLOW + b"Retry-After: 1\r\n")

        forward.send(FORWARDED, lines, request.body, answer)


class _Acceptance:
    """One event on its way: answers the request when it is safe, and tells the signals once it is also known who wants it.

    Which comes first depends on the channel: in memory it is safe before `publish` returns.
    """

    __slots__ = ("_at_ns", "_event", "_ingress", "_matched", "_request", "_safe", "_topic")

    def __init__(self, ingress: Ingress, request: Request, topic: str, event: Event, at_ns: int) -> None:
        self._ingress = ingress
        self._request = request
        self._topic = topic
        self._event = event
        self._at_ns = at_ns
        self._safe = False
        self._matched: tuple[str, ...] | None = None

    def __call__(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._ingress.not_stored(self._request, self._topic, [self._event], refusal)
            return
        self._request.accepted()
        if self._matched is None:
            self._safe = True
        else:
            self._ingress.accepted(self._topic, self._event, self._matched, at_ns=self._at_ns)

    def published(self, matched: tuple[str, ...]) -> None:
        if self._safe:
            self._ingress.accepted(self._topic, self._event, matched, at_ns=self._at_ns)
        else:
            self._matched = matched


def _path(target: bytes) -> bytes:
    """The path of a request target: without query and fragment; absolute form is understood."""
    path = target.partition(b"?")[0].partition(b"#")[0]
    if path[:7].lower() == b"http://":
        path = b"/" + path[7:].partition(b"/")[2]
    return path


def _is_probe(request: Request) -> bool:
    """The kubelet's and Knative's own probes are answered on any path."""
    return any(
        (name == b"user-agent" and value.startswith(b"kube-probe/")) or name in (b"k-kubelet-probe", b"k-network-probe")
        for name, value in request.headers
    )


def _travels(name: bytes) -> bool:
    return name[:3] == b"ce-" or name == b"content-type" or name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)
