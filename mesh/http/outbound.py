"""One connection of the sender: a request out, its answer in, then the next one. RFC 9112.

The hot path: no task, future or timer per request. Drivable without sockets: it needs a transport and a `Home` only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.http.turns import Calls, Outbox

MAX_HEAD_BYTES = 65_536
MAX_FAMILIAR = 1024
"""Interim answers and headers of one answer together; more is no HTTP that is understood here."""
IDLE_S = 30.0
"""A connection that nothing was sent on for so long is closed: below the idle limits that servers and balancers have."""
STALE_S = 2.0
"""A connection that the server had closed before the request came says so within a round trip; later is another story."""

_CONNECTING, _IDLE, _SENT, _HEAD, _BODY, _COMPLETE, _GONE = range(7)
BARE = {status: Answer(status) for status in range(200, 300)}
_NO_HEADERS: list[tuple[bytes, bytes]] = []

OnOutcome = Callable[[Outcome], None]


class Home(Protocol):
    """Where a connection belongs: the pool of its target."""

    where: str
    max_reply_bytes: int
    familiar: bytes
    familiar_answer: Answer

    def learn(self, data: bytes, outcome: Outcome) -> None:
        """This outcome was read from `data` alone, which the connection outlived."""

    now: float
    """Monotonic time, coarse."""
    idle_until: float
    """When a connection that becomes idle now is to be closed; 0: at once."""
    outbox: Outbox
    calls: Calls
    idle: dict[Connection, None]
    """The connections that are free for the next request."""

    def resend(self, data: bytes, on_outcome: OnOutcome, deadline: float) -> None:
        """Send on a new connection what a stale one did not take."""

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""

    def deliver(self, on_outcome: OnOutcome, outcome: Outcome) -> None:
        """Call back; an error in there is reported, never raised."""


class _StopError(Exception):
    """Stops the parser at the spot; `_outcome` says why."""


class Connection(asyncio.Protocol):
    """The protocol object. The `on_*` methods are called by the parser, inside `feed_data`."""

    __slots__ = (
        "_body",
        "_data",
        "_headers",
        "_home",
        "_is_clean",
        "_keep_alive",
        "_on_outcome",
        "_outcome",
        "_parser",
        "_phase",
        "_raw",
        "_request_deadline",
        "_reused",
        "_sent_at",
        "_status",
        "_transport",
        "deadline",
    )  # fmt: skip

    def __init__(
        self, home: Home, data: bytes, on_outcome: OnOutcome, *, deadline: float, connect_deadline: float = math.inf
    ) -> None:
        """A connection to be opened; `data` is sent as soon as it stands."""
        self._home = home
        self._data = data
        self._on_outcome: OnOutcome | None = on_outcome
        self._request_deadline = deadline
        self.deadline = min(deadline, connect_deadline)
        self._phase = _CONNECTING
        self._transport: asyncio.Transport | None = None
        self._reused = False
        self._sent_at = 0.0
        self._parser: Any = HttpResponseParser(self)
        self._outcome: Outcome | None = None
        self._status = self._raw = 0
        self._headers = _NO_HEADERS
        self._body: bytes | bytearray = b""
        self._keep_alive = False
        self._is_clean = True

    def start(self, data: bytes, on_outcome: OnOutcome, deadline: float) -> bool:
        """Send a request, if this connection is idle and open; False where it is not. The hot path, in one piece."""
        transport = self._transport
        if self._phase != _IDLE or transport is None or transport.is_closing():
            return False
        self._phase = _SENT
        self._data = data
        self._on_outcome = on_outcome
        self.deadline = deadline
        self._reused = True
        home = self._home
        self._sent_at = home.now
        home.outbox.write(transport, data)
        return True

    def fail(self, outcome: Outcome) -> None:
        """End with this outcome and close."""
        if self._phase == _GONE:
            return
        self._phase = _GONE
        self._parser = None  # it holds our methods: without this only the garbage collector could free us
        if self._transport is not None:
            self._transport.abort()
        self._home.lost(self)
        self._call_back(outcome)

    def expire(self) -> None:
        """The deadline has passed."""
        if self._phase == _IDLE:
            self.close()
        elif self._phase == _CONNECTING:
            self.fail(Unreachable("timeout", f"no connection to {self._home.where} in time"))
        else:
            self.fail(Unreachable("timeout", f"no complete answer from {self._home.where} in time"))

    def close(self) -> None:
        """Close an idle connection, or one that has given its answer."""
        self._phase = _GONE
        self._parser = None
        self._home.lost(self)
        if self._transport is not None:
            self._transport.close()

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._phase == _GONE:  # given up in the same moment
            self._transport.abort()
            return
        self.deadline = self._request_deadline
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        phase, self._phase = self._phase, _GONE
        self._parser = None
        if phase == _GONE:
            return
        self._home.lost(self)
        on_outcome = self._on_outcome
        if on_outcome is None:
            return
        if phase == _BODY:
            self._call_back(self._answer(cut=exc is not None or not self._ends_with_connection()))
        elif phase == _SENT and self._reused and self._home.now - self._sent_at <= STALE_S:
            # The server closed a kept-alive connection while our request was on its way: not one byte of an answer, at
            # once. It says nothing about the event, so it is no attempt, and the request goes out again on a fresh
            # connection, once. Had the server taken it all the same, the event arrives twice: at least once allows
            # that, and not sending again would lose nothing either, only spend a retry on a clock's accident.
            self._on_outcome = None
            self._home.resend(self._data, on_outcome, self.deadline)
        else:
            why = "in the middle of" if phase == _HEAD else "before"
            self._call_back(Unreachable("reset", f"{self._home.where} closed the connection {why} its answer"))

    def eof_received(self) -> bool:
        if self._on_outcome is not None and self._transport is not None:
            self._transport.abort()  # a plain close would first wait until the rest of our request is written
        return False

    def data_received(self, data: bytes) -> None:  # noqa: C901 - the hot path in one piece
        phase = self._phase
        if phase == _IDLE:
            self.close()  # an answer that nobody asked for: whatever it is, the next one cannot be trusted
            return
        if phase == _GONE:
            return
        if phase == _SENT:
            home = self._home
            if data == home.familiar and self._goes_on():
                # Byte for byte the bodiless answer that the parser read here last (Date changes once a second): what it
                # would say is known, and it stands between two messages, so it need not see this one.
                on_outcome, self._on_outcome = self._on_outcome, None
                self._phase = _IDLE
                self._data = b""
                home.idle[self] = None
                if on_outcome is not None:
                    home.calls.add(on_outcome, home.familiar_answer)
                return
            self._phase = _HEAD
            self._data = b""
            self._raw = 0
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._outcome = Unreachable("garbage", f"{self._home.where} switched protocols unasked")
            self._is_clean = False
        except HttpParserError as exc:
            self._is_clean = False
            if self._outcome is None:
                self._outcome = Unreachable("garbage", f"{self._home.where} does not speak HTTP/1: {exc}")
        outcome = self._outcome
        if outcome is not None:
            if phase == _SENT and self._keep_alive and self._is_clean and len(data) <= MAX_FAMILIAR:
                self._home.learn(data, outcome)
            self._complete(outcome)
        elif self._phase == _HEAD and self._raw > MAX_HEAD_BYTES:
            self.fail(Unreachable("garbage", f"the headers of {self._home.where} do not end"))

    # --- the parser's calls ---

    def on_message_begin(self) -> None:
        if self._outcome is not None:
            raise _StopError
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase == _HEAD:  # not a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._status = parser.get_status_code()
        self._keep_alive = parser.should_keep_alive()
        if not self._keep_alive and parser.get_http_version() not in ("1.0", "1.1"):
            self._give_up("speaks another version of HTTP")
        if self._status < 100 or self._status == 101:
            self._give_up(f"answered {self._status}")
        if self._raw > MAX_HEAD_BYTES and sum(len(n) + len(v) + 4 for n, v in self._headers) > MAX_HEAD_BYTES:
            self._give_up("sends too many headers")
        if self._status >= 200:
            self._phase = _BODY

    def on_body(self, chunk: bytes) -> None:
        room = self._home.max_reply_bytes - len(self._body)
        if not self._body:
            self._body = chunk[:room]
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk[:room]
        if len(chunk) > room:
            self._outcome = self._answer(cut=True)
            self._is_clean = False
            raise _StopError

    def on_message_complete(self) -> None:
        if self._phase == _BODY:  # else an interim answer: the real one follows
            self._phase = _COMPLETE
            self._outcome = self._answer(cut=False)
            if self._status in (204, 304) and any(_announces_body(name, value) for name, value in self._headers):
                self._is_clean = False  # there may be a body where none can be: what comes next is no answer

    # --- ending ---

    def _send(self) -> None:
        transport = self._transport
        if transport is None:  # cannot be: who calls has just seen it
            return
        self._phase = _SENT
        self._raw = 0
        self._sent_at = self._home.now
        transport.write(self._data)

    def _give_up(self, why: str) -> NoReturn:
        self._outcome = Unreachable("garbage", f"{self._home.where} {why}")
        self._is_clean = False
        raise _StopError

    def _answer(self, *, cut: bool) -> Answer:
        status, headers, body = self._status, self._headers, self._body
        if not body and not cut and status in BARE and not any(name[:3].lower() == b"ce-" for name, _ in headers):
            return BARE[status]
        return Answer(status, tuple((name.lower(), value.strip()) for name, value in headers), bytes(body), cut)

    def _ends_with_connection(self) -> bool:
        """The body had no length of its own: it is all that came until the end (RFC 9112, 6.3)."""
        names = {name.lower(): value for name, value in self._headers}
        return b"content-length" not in names and not names.get(b"transfer-encoding", b"").lower().endswith(b"chunked")

    def _complete(self, outcome: Outcome) -> None:
        """Free the connection first, so that what the callback sends can use it."""
        transport = self._transport
        self._outcome = None
        self._data = self._body = b""
        self._headers = _NO_HEADERS
        on_outcome, self._on_outcome = self._on_outcome, None
        if self._keep_alive and self._is_clean and self._goes_on():
            self._phase = _IDLE
            self._home.idle[self] = None
        else:
            self._phase = _GONE
            self._parser = None
            self._home.lost(self)
            if transport is not None:
                transport.abort()
        if on_outcome is not None:
            self._home.deliver(on_outcome, outcome)

    def _goes_on(self) -> bool:
        """The connection stays for the next request; sets until when."""
        transport = self._transport
        self.deadline = deadline = self._home.idle_until
        return (
            transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()  # it answered before it had all of the request
            and deadline > 0
        )

    def _call_back(self, outcome: Outcome) -> None:
        on_outcome, self._on_outcome = self._on_outcome, None
        if on_outcome is not None:
            self._home.deliver(on_outcome, outcome)


def _announces_body(name: bytes, value: bytes) -> bool:
    lower = name.lower()
    return lower == b"transfer-encoding" or (lower == b"content-length" and value.strip() != b"0")
