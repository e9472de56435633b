"""The listener of the data plane: sockets, limits, deadlines, drain. One connection's life is in `inbound.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl as tls
from collections.abc import Callable

from mesh.events.template import Learner
from mesh.http.inbound import Connection
from mesh.http.request import Conversation, Handler, Intake, Refused, Request, Stats
from mesh.http.wire import SWEEP_S, Clock
from mesh.settings import HttpSettings

__all__ = ["Handler", "HttpServer", "Request", "Stats"]

_BACKLOG = 1_024
_CLOSE_S = 1.0


def _ignore(_why: str, _status: int) -> None:
    """Nobody counts refusals."""


class HttpServer:
    """Takes requests on any number of addresses and hands each to one handler.

    on_refused: told of each request that the server itself refuses. limit_of: largest body for a request target, in
    bytes, where it is not `max_event_bytes`. learner: the listener takes events, and heads that repeat are to be recognised.
    """

    def __init__(
        self,
        handler: Handler,
        settings: HttpSettings,
        clock: Clock,
        *,
        ssl: tls.SSLContext | None = None,
        on_refused: Refused = _ignore,
        limit_of: Callable[[bytes], int] | None = None,
        learner: Learner | None = None,
    ) -> None:
        self._ssl = ssl
        self._settings = settings
        self._servers: list[asyncio.AbstractServer] = []
        self._paths: list[str] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._intake = Intake(
            handler,
            settings,
            clock,
            on_refused=on_refused,
            on_error=self._report,
            limit_of=limit_of,
            learner=learner,
        )
        self._intake.on_lost = self._changed.set

    @property
    def stats(self) -> Stats:
        """Counters since the start."""
        return self._intake.stats

    async def listen(self, host: str, port: int, *, reuse_port: bool = False, sock: socket.socket | None = None) -> int:
        """Accept on this address, or on `sock`, which is bound already. Returns the port.

        Raises:
            OSError: the address is taken or not ours.
        """
        handshake_s = self._settings.header_timeout_s if self._ssl is not None else None
        loop = asyncio.get_running_loop()
        if sock is not None:
            server = await loop.create_server(
                self._connection, sock=sock, ssl=self._ssl, backlog=_BACKLOG, ssl_handshake_timeout=handshake_s
            )
        else:
            server = await loop.create_server(
                self._connection,
                host,
                port,
                reuse_port=reuse_port,
                ssl=self._ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=handshake_s,
            )
        self._started(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def listen_unix(self, path: str) -> None:
        """Accept on a Unix socket. A stale file at `path` is replaced; `aclose` removes it."""
        server = await asyncio.get_running_loop().create_unix_server(self._connection, path, backlog=_BACKLOG)
        self._paths.append(path)
        self._started(server)

    def stop_accepting(self) -> None:
        """Begin to drain: no new connections, idle ones are closed, the others end with their next answer."""
        self._intake.draining = True
        self._intake.flush()
        for server in self._servers:
            server.close()
        for connection in list(self._intake.connections):
            connection.drain()
        self._changed.set()

    async def drained(self) -> None:
        """Wait until every request in hand is answered. The caller sets the limit."""
        while any(connection.is_busy for connection in self._intake.connections):
            self._changed.clear()
            await self._changed.wait()

    async def aclose(self) -> None:
        """Close everything. What is answered is still written, for a second at most; what is in hand gets no answer."""
        self.stop_accepting()
        for connection in self._open():
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._all_lost()
        for connection in self._open():
            connection.abort()
        await self._all_lost()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._paths.clear()

    def sweep(self) -> None:
        """Look at every deadline. Runs once a second while the server listens."""
        self._intake.tick()
        now = self._intake.now
        for connection in [one for one in self._open() if one.deadline <= now]:
            connection.expire()
        self._changed.set()

    def _connection(self) -> Connection:
        return Connection(self._intake)

    def _open(self) -> list[Conversation]:
        return [*self._intake.connections, *self._intake.lingering]

    async def _all_lost(self) -> None:
        while self._intake.connections or self._intake.lingering:
            self._changed.clear()
            await self._changed.wait()

    def _started(self, server: asyncio.AbstractServer) -> None:
        self._intake.work_in_turns(asyncio.get_running_loop().call_soon)
        self._servers.append(server)
        if self._sweeper is None:
            self._again()

    def _again(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def _tick(self) -> None:
        self._again()
        self.sweep()

    @staticmethod
    def _report(exc: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "a request handler raised", "exception": exc})
