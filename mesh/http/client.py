"""The sender of the data plane: endpoints, their kept-alive connections, deadlines. One connection is in `outbound.py`.

One request in flight on a connection, never pipelined: a POST must not follow one that has no answer yet (RFC 9112, 9.3.2).
"""

from __future__ import annotations

import asyncio
import ssl
import weakref

from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.http.dial import Dialer, unreachable
from mesh.http.identity import client_context
from mesh.http.outbound import BARE, IDLE_S, Connection, OnOutcome
from mesh.http.target import Target, parse_target
from mesh.http.turns import Calls, Outbox
from mesh.http.wire import SWEEP_S, Clock
from mesh.settings import HttpSettings

__all__ = ["Endpoint", "OnOutcome", "Sender"]


_MANY = 4096


def _length(size: int) -> bytes:
    return b"content-length: %d\r\n\r\n" % size


_LENGTHS = [_length(size) for size in range(_MANY)]
"""The last header line for bodies of usual sizes."""


class Endpoint:
    """One URL that requests go to. Cheap; all paths of one host and port use the same connections."""

    __slots__ = ("__weakref__", "_pool", "_start", "url")

    def __init__(self, url: str, target: Target, pool: _Pool) -> None:
        self.url = url
        self._pool = pool
        self._start = f"POST {target.path} HTTP/1.1\r\nhost: {target.authority}\r\n".encode()

    def send(
        self, lines: bytes, event_lines: bytes, body: bytes, on_outcome: OnOutcome, *, timeout_s: float = 0.0
    ) -> None:
        """POST once; call back once with how it ended, now or later.

        lines, event_lines: header lines each ended by CRLF, without host and content-length. timeout_s: from now to the
        end of the answer, opening a connection included; 0 means the process's default. Looked at once a second.
        """
        size = len(body)
        length = _LENGTHS[size] if size < _MANY else _length(size)
        self._pool.send(b"".join((self._start, lines, event_lines, length, body)), on_outcome, timeout_s)

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"


class Sender:
    """Sends to any number of endpoints. How many connections there are follows from what callers send: they bound it."""

    def __init__(self, settings: HttpSettings, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.clock = clock
        self.loop = loop
        self.now = clock.monotonic()
        self.is_closed = False
        self.outbox = Outbox(loop.call_soon)
        self.calls = Calls(loop.call_soon, self.failed)
        self.dialer = Dialer(clock, loop, connect_timeout_s=settings.connect_timeout_s)
        self.dialing: dict[Connection, asyncio.Task[None]] = {}
        self.connections: set[Connection] = set()
        # Held weakly: an endpoint lives as long as a plan or a connection uses it.
        self._endpoints: weakref.WeakValueDictionary[tuple[str, str], Endpoint] = weakref.WeakValueDictionary()
        self._pools: weakref.WeakValueDictionary[tuple[str, str, int, str], _Pool] = weakref.WeakValueDictionary()
        self._sweeper: asyncio.TimerHandle | None = loop.call_later(SWEEP_S, self._tick)

    def endpoint(self, url: str, *, ca_certs: str = "") -> Endpoint:
        """The endpoint for this URL; `ca_certs`: authorities to trust beside the system's, PEM.

        Raises:
            ValueError: a bad URL or bad certificates.
        """
        endpoint = self._endpoints.get((url, ca_certs))
        if endpoint is None:
            target = parse_target(url)
            endpoint = Endpoint(url, target, self._pool(target, ca_certs))
            self._endpoints[url, ca_certs] = endpoint
        return endpoint

    async def aclose(self) -> None:
        """Close all connections; what is in flight ends as `reset`, what is sent from now on too."""
        self.is_closed = True
        for pool in list(self._pools.values()):
            pool.tick()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        tasks = list(self.dialing.values())
        for connection in list(self.connections):
            connection.fail(Unreachable("reset", "the sender was closed"))
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.dialer.aclose()

    def failed(self, exc: Exception) -> None:
        """A callback raised."""
        self.loop.call_exception_handler({"message": "an outcome callback raised", "exception": exc})

    def sweep(self) -> None:
        """Look at every deadline. Runs once a second until the sender is closed."""
        now = self.now = self.clock.monotonic()
        for pool in list(self._pools.values()):
            pool.tick()
        for connection in [one for one in self.connections if one.deadline <= now]:
            connection.expire()

    def _tick(self) -> None:
        self._sweeper = self.loop.call_later(SWEEP_S, self._tick)
        self.sweep()

    def _pool(self, target: Target, ca_certs: str) -> _Pool:
        key = (target.scheme, target.host, target.port, ca_certs if target.scheme == "https" else "")
        pool = self._pools.get(key)
        if pool is None:
            context = client_context(ca_certs) if target.scheme == "https" else None
            pool = self._pools[key] = _Pool(self, target, context)
        return pool


class _Pool:
    """The connections to one host and port. The last one used is used first, so that a calm pool shrinks."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_context",
        "_sender",
        "_target",
        "_timeout_s",
        "calls",
        "familiar",
        "familiar_answer",
        "idle",
        "idle_until",
        "max_reply_bytes",
        "now",
        "outbox",
        "where",
    )

    def __init__(self, sender: Sender, target: Target, context: ssl.SSLContext | None) -> None:
        self.where = f"{target.scheme}://{target.authority}"
        self.max_reply_bytes = sender.settings.max_reply_bytes
        self._sender = sender
        self._target = target
        self._context = context
        self._clock = sender.clock.monotonic
        self._timeout_s = sender.settings.request_timeout_s
        self.idle: dict[Connection, None] = {}
        self.outbox = sender.outbox
        self.calls = sender.calls
        self.tick()
        self.familiar = b""
        """The last answer that was whole in one piece, kept alive, and one of the shared bodiless ones; and what it means."""
        self.familiar_answer = BARE[204]

    def send(self, data: bytes, on_outcome: OnOutcome, timeout_s: float) -> None:
        deadline = self._clock() + (timeout_s or self._timeout_s)
        idle = self.idle
        while idle:
            if idle.popitem()[0].start(data, on_outcome, deadline):
                return
        self.resend(data, on_outcome, deadline)

    def resend(self, data: bytes, on_outcome: OnOutcome, deadline: float) -> None:
        """Send on a new connection."""
        sender = self._sender
        if sender.is_closed:
            # Not at once: a caller that tries again on failure would call itself without end.
            sender.loop.call_soon(self.deliver, on_outcome, Unreachable("reset", "the sender is closed"))
            return
        connect_deadline = self._clock() + sender.settings.connect_timeout_s
        connection = Connection(self, data, on_outcome, deadline=deadline, connect_deadline=connect_deadline)
        sender.connections.add(connection)
        sender.dialing[connection] = sender.loop.create_task(self._dial(connection))

    async def _dial(self, connection: Connection) -> None:
        target = self._target
        try:
            await self._sender.dialer.connect(lambda: connection, target.host, target.port, context=self._context)
        except OSError as exc:
            self._sender.dialing.pop(connection, None)
            connection.fail(unreachable(exc, self.where))
        else:
            self._sender.dialing.pop(connection, None)

    def tick(self) -> None:
        """Bring the coarse times up to date: once a second, so that no request asks the clock for them."""
        self.now = self._sender.now
        self.idle_until = 0.0 if self._sender.is_closed else self.now + IDLE_S

    def learn(self, data: bytes, outcome: Outcome) -> None:
        """An answer was read from `data` alone."""
        if isinstance(outcome, Answer) and outcome is BARE.get(outcome.status):
            self.familiar, self.familiar_answer = data, outcome

    def lost(self, connection: Connection) -> None:
        self.idle.pop(connection, None)
        self._sender.connections.discard(connection)
        task = self._sender.dialing.pop(connection, None)
        if task is not None:
            task.cancel()

    def deliver(self, on_outcome: OnOutcome, outcome: Outcome) -> None:
        try:
            on_outcome(outcome)
        except Exception as exc:  # noqa: BLE001 - raising into the transport would cost a healthy connection
            self._sender.failed(exc)
