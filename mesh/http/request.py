"""A request as the handler sees it, and what all connections of one listener have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mesh.events.template import Learner, Recognised
from mesh.http.framing import Refusal
from mesh.http.turns import CallSoon, Outbox
from mesh.http.wire import SWEEP_S, TEXT, Clock, answer_bytes, date_line
from mesh.settings import HttpSettings

_ALLOW = b"allow: POST, OPTIONS\r\n"


class Conversation(Protocol):
    """A connection, as requests and the server see it; `mesh/http/inbound.py` is it."""

    intake: Intake
    peer: str
    deadline: float

    @property
    def is_busy(self) -> bool:
        """A request is in hand: being read, waiting, or in the handler."""

    def answer(self, data: bytes, *, close: bool) -> None:
        """Write the answer to the request in hand. Never raises."""

    def drain(self) -> None:
        """Close if idle; otherwise the answer that is due will say `connection: close`."""

    def close(self) -> None:
        """Close once what was answered is written."""

    def abort(self) -> None:
        """Close now."""

    def expire(self) -> None:
        """The deadline has passed."""


class Request:
    """One request. Answer it once, now or later; an answer to a connection that is gone is dropped.

    target: path and query, raw. recognised: the head was one of the usual ones, and this is what it says (`headers` is then
    read from the bytes when somebody asks).
    """

    __slots__ = ("_connection", "_headers", "body", "keep_alive", "method", "peer", "recognised", "target")

    def __init__(
        self,
        connection: Conversation,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]] | None,
        recognised: Recognised | None,
        body: bytes,
        keep_alive: bool,  # noqa: FBT001 - two call sites, on the hot path
    ) -> None:
        self._connection: Conversation | None = connection
        self.method = method
        self.target = target
        self._headers = headers
        self.recognised = recognised
        self.body = body
        self.keep_alive = keep_alive
        self.peer = connection.peer

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, values stripped, in order; no value holds CR, LF or NUL."""
        if self._headers is None:
            assert self.recognised is not None
            pairs = [line.partition(":") for line in self.recognised[5][:-4].split("\r\n")[1:]]
            self._headers = [(name.lower().encode(), value.strip().encode()) for name, _, value in pairs]
        return self._headers

    def respond(self, status: int, body: bytes = b"", *, headers: bytes = b"", content_type: bytes = TEXT) -> None:
        """Answer. `headers`: raw lines each ended by CRLF. A second answer is a no-op."""
        connection, self._connection = self._connection, None
        if connection is not None:
            intake = connection.intake
            close = intake.draining or not self.keep_alive
            data = answer_bytes(
                status,
                body,
                headers=headers,
                content_type=content_type,
                date=intake.date,
                close=close,
                head=self.method == b"HEAD",
            )
            connection.answer(data, close=close)

    def accepted(self) -> None:
        """Answer 202 without a body: the fast way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            intake = connection.intake
            if intake.draining or not self.keep_alive:
                connection.answer(intake.accepted_last, close=True)
            else:
                connection.answer(intake.accepted, close=False)

    def forget(self) -> None:
        """The connection is gone: nobody waits for an answer."""
        self._connection = None


Handler = Callable[[Request], None]
Refused = Callable[[str, int], None]
"""Called with a code for counting (`malformed`, `body_too_large`, …) and the status that was answered."""


class Stats:
    """Plain counters. connections: open now. requests: complete ones, ever. bytes_in: read from all sockets, ever."""

    __slots__ = ("bytes_in", "connections", "refused", "requests")

    def __init__(self) -> None:
        self.connections = self.requests = self.refused = self.bytes_in = 0


class Intake:
    """What all connections of one server have in common."""

    def __init__(
        self,
        handler: Handler,
        settings: HttpSettings,
        clock: Clock,
        *,
        on_refused: Refused,
        on_error: Callable[[Exception], None],
        limit_of: Callable[[bytes], int] | None = None,
        learner: Learner | None = None,
    ) -> None:
        self.learner = learner
        self.handler = handler
        self.settings = settings
        self.on_refused = on_refused
        self.on_error = on_error
        self.limit_of = limit_of
        self.stats = Stats()
        self._batch: list[Request] = []
        self._call_soon: CallSoon | None = None
        self._outbox: Outbox | None = None
        self.connections: set[Conversation] = set()
        self.lingering: set[Conversation] = set()
        self.on_lost: Callable[[], None] | None = None
        self.draining = False
        self.header_wait = settings.header_timeout_s + SWEEP_S
        self.body_wait = settings.body_timeout_s + SWEEP_S
        self.idle_wait = settings.idle_timeout_s + SWEEP_S
        self._clock = clock
        self.tick()

    def work_in_turns(self, call_soon: CallSoon) -> None:
        """From now on requests are handled, and answers written, together at the end of each turn of the loop."""
        self._call_soon = call_soon
        self._outbox = Outbox(call_soon)

    def take(self, request: Request) -> None:
        """Have it handled in this turn."""
        if self._call_soon is None:
            self.handle(request)
            return
        self._batch.append(request)
        if len(self._batch) == 1:
            self._call_soon(self._handle_all)

    def _handle_all(self) -> None:
        batch, self._batch = self._batch, []
        self.stats.requests += len(batch)
        handler = self.handler
        for request in batch:
            try:
                handler(request)
            except Exception as exc:  # noqa: BLE001 - as in `handle`
                self._failed(request, exc)

    def handle(self, request: Request) -> None:
        """Have it handled now."""
        self.stats.requests += 1
        try:
            self.handler(request)
        except Exception as exc:  # noqa: BLE001 - a bug in a handler is answered 500; others' requests go on
            self._failed(request, exc)

    def _failed(self, request: Request, exc: Exception) -> None:
        self.on_error(exc)
        request.respond(500, b"internal error\n")

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        if self._outbox is None:
            transport.write(data)
        else:
            self._outbox.write(transport, data)

    def flush(self) -> None:
        """Write what waits for the end of the turn: before anything that must come after it."""
        if self._outbox is not None:
            self._outbox.flush()

    def tick(self) -> None:
        """Bring the coarse time up to date: deadlines and Date headers are made from it, so that no request asks the clock."""
        self.now = self._clock.monotonic()
        self.date = date_line(self._clock.now_ns())
        self.accepted = self._accepted(close=False)
        self.accepted_last = self._accepted(close=True)

    def _accepted(self, *, close: bool) -> bytes:
        return answer_bytes(202, b"", headers=_ALLOW, content_type=TEXT, date=self.date, close=close)

    def refused(self, refusal: Refusal) -> None:
        self.stats.refused += 1
        self.on_refused(refusal.code, refusal.status)
