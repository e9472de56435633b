"""One connection to Redis: commands out, replies in, in order. RESP 3, so that Pub/Sub arrives on it too.

redis-py costs 8.8 µs an event where writing the bytes and reading with hiredis costs 2 (measured 2026-11-25), so the
commands of the hot path are written here; where to connect to is still found by redis-py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from hiredis import ProtocolError, PushNotification, Reader, ReplyError

__all__ = ["Reply", "ReplyError", "Wire", "is_error", "open_wire"]
_NOTHING = object()
Reply = Any
"""What hiredis makes of a reply: bytes, int, None, list, dict, or a ReplyError."""


class Wire(asyncio.Protocol):
    """Calls `on_replies` with all replies of what was sent, once they are complete; then the next may be sent.

    on_push: a message of Pub/Sub. on_lost: the connection ended; called once, after which nothing is called any more.
    """

    def __init__(
        self,
        on_replies: Callable[[list[Reply]], None],
        on_push: Callable[[Reply], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._reader = Reader(notEnoughData=_NOTHING)
        self._on_replies = on_replies
        self._on_push = on_push
        self._on_lost: Callable[[str], None] | None = on_lost
        self._transport: asyncio.Transport | None = None
        self._replies: list[Reply] = []
        self._expected = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are no subclass of asyncio's

    def send(self, data: bytes, expected: int) -> None:
        """Send commands that have so many replies in all."""
        assert self._transport is not None
        self._expected = expected
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            self._take()
        except ProtocolError as exc:
            self.abort(f"what came is not Redis' protocol: {exc}")

    def _take(self) -> None:
        gets, replies = self._reader.gets, self._replies
        while (reply := gets()) is not _NOTHING:
            if type(reply) is PushNotification or (type(reply) is ReplyError and _is_deafness(reply)):
                self._on_push(reply)
                continue
            replies.append(reply)
            if len(replies) == self._expected:
                self._replies = []
                self._expected = 0
                self._on_replies(replies)
                replies = self._replies

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort(str(exc or "the connection was closed"))

    def abort(self, why: str) -> None:
        """End it now; what is on its way is lost."""
        on_lost, self._on_lost = self._on_lost, None
        if self._transport is not None:
            self._transport.abort()
        if on_lost is not None:
            on_lost(why)

    def close(self) -> None:
        """End it without telling anybody."""
        self._on_lost = None
        if self._transport is not None:
            self._transport.abort()


async def open_wire(host: str, port: int, *, tls: ssl.SSLContext | None, make: Callable[[], Wire]) -> Wire:
    """Connect. Raises OSError, ssl.SSLError."""
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(make, host, port, ssl=tls, server_hostname=host if tls is not None else None)
    return wire


def _is_deafness(reply: Reply) -> bool:
    """Whether this refuses SUBSCRIBE, whose answers do not count: they come as pushes, but for this one."""
    text = str(reply)
    return text.startswith("NOPERM") and ("channel" in text or "'subscribe'" in text)


def is_error(reply: Reply) -> bool:
    """Whether Redis refused the command."""
    return isinstance(reply, ReplyError)
